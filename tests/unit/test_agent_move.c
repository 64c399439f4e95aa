/* An agent as parcels and as a file, and back: what another makes of them is the same agent. */
#include "cm.h"

#include <arpa/inet.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "agent/control.h"
#include "agent/fork_gate.h"
#include "agent/move.h"
#include "agent/stream.h"
#include "agent/tunnel.h"
#include "agent/warm.h"
#include "base/descriptors.h"

/* Both on one loop, so that they have the same clock. */
static struct loop *loop;
static struct adit_client old, next;
static struct list parcels;
static int app_fd, far_fds[32];
static size_t far_n;
static uint16_t app_port;

static void nobody_asks(struct adit_client *c) { (void)c; }

static int listen_at_once(uint16_t *port) {
  struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t n = sizeof at;
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  assert_int_equal(bind(fd, (struct sockaddr *)&at, n), 0);
  assert_int_equal(listen(fd, 64), 0);
  assert_int_equal(getsockname(fd, (struct sockaddr *)&at, &n), 0);
  *port = ntohs(at.sin_port);
  return fd;
}

/* Our end of a connection, whose other end is closed with the test. */
static int connection(void) {
  int fds[2];
  assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
  assert_true(far_n < ARRAY_LEN(far_fds));
  far_fds[far_n++] = fds[1];
  return fds[0];
}

static struct adit_tunnel *tunnel_add(struct adit_client *c, uint16_t port) {
  struct tunnel_request request = {
    .app = {.tcp = {.host = "127.0.0.1", .port = port}}, .flags = TUNNEL_TCP | TUNNEL_PLAIN, .app_wait_ms = 60000};
  struct adit_tunnel *t;
  struct err e;
  assert_int_equal(tunnel_new(c, &request, &t, &e), 0);
  tunnel_attach(t);
  return t;
}

static void client_open(struct adit_client *c) {
  static const struct tunnel_handlers handlers = {.open = nobody_asks, .gone = nobody_asks};
  struct err e;
  *c = (struct adit_client){.magic = CLIENT_MAGIC, .on_tunnel = &handlers, .loop = loop, .choices_n = 2};
  pthread_mutex_init(&c->lock, NULL);
  pthread_cond_init(&c->changed, NULL);
  list_init(&c->handles);
  list_init(&c->tunnels);
  list_init(&c->revokes);
  descriptors_init(&c->descriptors);
  c->choices = calloc(c->choices_n, sizeof *c->choices);
  c->pool = pump_pool_new(loop, PUMP_SPLICE, &e);
  assert_true(c->choices != NULL && c->pool != NULL && events_init(&c->events, &e) == 0);
  (void)tunnel_add(c, app_port);
  (void)tunnel_add(c, 1);          /* where nobody is */
}

static void client_shut(struct adit_client *c) {
  link_stop(c->link, false);
  LIST_FOREACH(&c->tunnels, it) {
    struct adit_tunnel *t = CONTAINER_OF(it, struct adit_tunnel, node);
    streams_stop(&t->streams);
    tunnel_close_begin(t, 0);
  }
  while (loop_turn(loop, 0) && !list_empty(&c->tunnels)) continue;
  loop_timer_stop(&c->retry);
  pump_pool_free(c->pool);
  (void)loop_turn(loop, 0);
  events_free(&c->events);
  pthread_cond_destroy(&c->changed);
  pthread_mutex_destroy(&c->lock);
  free(c->choices);
  free(atomic_load(&c->relay_name));
  free(atomic_load(&c->ca_path));
  free(atomic_load(&c->relay_socket));
}

static int set_up(void **state) {
  struct err e;
  (void)state;
  descriptors_keep_in_view();
  loop = loop_new(&e);
  far_n = 0;
  list_init(&parcels);
  app_fd = listen_at_once(&app_port);
  client_open(&old);
  client_open(&next);
  return loop != NULL ? 0 : -1;
}

static int tear_down(void **state) {
  struct list tunnels;
  (void)state;
  list_init(&tunnels);
  for (int i = 0; i < 2; i++) {
    struct adit_client *c = i == 0 ? &old : &next;
    struct adit_tunnel *all[2] = {CONTAINER_OF(c->tunnels.next, struct adit_tunnel, node),
                                  CONTAINER_OF(c->tunnels.prev, struct adit_tunnel, node)};
    client_shut(c);
    for (size_t k = 0; k < ARRAY_LEN(all); k++) tunnel_free(all[k]);
  }
  parcels_free(&parcels);
  loop_free(loop);
  for (size_t i = 0; i < far_n; i++) close(far_fds[i]);
  return close(app_fd);
}

static struct adit_tunnel *first_tunnel(struct adit_client *c) {
  return CONTAINER_OF(c->tunnels.next, struct adit_tunnel, node);
}

static struct adit_tunnel *last_tunnel(struct adit_client *c) {
  return CONTAINER_OF(c->tunnels.prev, struct adit_tunnel, node);
}

/* A link that is up, and has more to say than it could. */
static void link_up(struct adit_client *c) {
  struct tls_takeover t = {.suite = 0x1301, .client_sequence = 3, .server_sequence = 5};
  uint8_t ours[X25519_BYTES], theirs[X25519_BYTES], private_key[X25519_BYTES];
  struct link *l = calloc(1, sizeof *l);
  assert_non_null(l);
  *l = (struct link){.magic = LINK_MAGIC, .handlers = &client_link_handlers, .client = c, .choice = &c->choices[1],
                     .at.wire = {.fd = connection()}, .heartbeat_ms = HEARTBEAT_MS, .takes_wrapped = true,
                     .takes_revokes = true, .last_revoke = 5, .data_arrived = true, .since_ms = 1, .redials = 2};
  list_init(&l->warm);
  assert_int_equal(addr_parse("127.0.0.1:1", &l->at.to, NULL), 0);
  addr_set_port(&l->at.to, app_port);
  assert_int_equal(engine_start(&l->engine, &control_role, &t), 0);
  assert_int_equal(x25519_keypair(private_key, theirs), 0);
  assert_int_equal(engine_make_share(&l->engine, ours), 0);
  assert_int_equal(engine_agree(&l->engine, theirs), 0);
  engine_open(&l->engine);
  engine_ping(&l->engine, 77);
  c->link = l;
}

static void visitor_comes(struct adit_tunnel *t, enum stream_kind kind) {
  struct open_message open = {.kind = (uint8_t)kind, .suite = 0x1301, .secret_n = kind == STREAM_RAW_PLAIN ? 0 : 32};
  static struct loop_io io;
  io = (struct loop_io){0};
  struct wire wire = {.fd = connection()};
  assert_int_equal(addr_parse("192.0.2.7:1", &open.visitor, NULL), 0);
  assert_int_equal(addr_parse("192.0.2.8:443", &open.local, NULL), 0);
  stream_begin(t, wire, &io, &open);
}

static void bound_to(struct adit_tunnel *t, const char *host, uint8_t number) {
  static const uint8_t ticket[100] = {1, 2, 3};
  struct frame_bound f = {.port = 443, .tcp_port = 20001, .ticket = ticket, .ticket_n = sizeof ticket};
  strcpy(f.host, host);
  strcpy(f.tcp_host, "r1.example.com");
  t->id = number;
  t->state = TUNNEL_BINDING;
  tunnel_bound(t, &f);
}

/* With one of each. */
static void fill(struct adit_client *c) {
  link_up(c);
  warm_dial(c->link, 3);
  assert_int_equal(c->link->warm_n, 3);
  bound_to(first_tunnel(c), "abc.r1.example.com", 7);
  first_tunnel(c)->keep.incarnation = 9;
  first_tunnel(c)->app_failures = 4;
  last_tunnel(c)->request.proxy_protocol = true;
  visitor_comes(first_tunnel(c), STREAM_TLS13);
  visitor_comes(first_tunnel(c), STREAM_RAW_PLAIN);
  visitor_comes(last_tunnel(c), STREAM_RAW_SEALED);      /* waits */
  (void)loop_turn(loop, 0);
  (void)loop_turn(loop, 0);
  pump_linger_close(c->pool, connection());
  strcpy(c->home, "r1.example.com");
  strcpy(c->warned, "something");
  c->last_bind_id = 12;
  c->interrupted = c->choices[0].wrap_told = true;
  atomic_store(&c->relay_name, strdup("r1.example.com"));
}

static size_t count(const struct list *of, unsigned kind) {
  size_t n = 0;
  LIST_FOREACH((struct list *)(uintptr_t)of, it) n += CONTAINER_OF(it, struct parcel, node)->kind == kind;
  return n;
}

/* As a file, with descriptors under the numbers that they have. */
static void through_a_file(bool stand_ins) {
  struct err e = {0};
  int file = memfd_create("state", MFD_CLOEXEC);
  assert_int_equal(move_write(file, &parcels, &e), 0);
  LIST_FOREACH(&parcels, it) {
    struct parcel *p = CONTAINER_OF(it, struct parcel, node);
    list_remove(&p->node);
    if (!stand_ins) p->fds_n = 0;
    parcel_free(p);
  }
  assert_int_equal(move_read(file, &parcels, stand_ins, &e), 0);
  close(file);
}

static void all_goes_along_and_is_the_same_again(void **state) {
  struct list again;
  struct err e = {0};
  (void)state;
  list_init(&again);
  fill(&old);
  assert_int_equal(move_pack(&old, &parcels), 0);
  assert_true(old.link == NULL && list_empty(&first_tunnel(&old)->streams.all));
  assert_int_equal(first_tunnel(&old)->streams.now, 0);
  assert_int_equal(count(&parcels, MOVE_LINK), 1);
  assert_int_equal(count(&parcels, MOVE_WARM), 3);
  assert_int_equal(count(&parcels, MOVE_STREAM), 3);
  assert_int_equal(count(&parcels, MOVE_LINGER), 1);
  struct list first;
  list_init(&first);
  through_a_file(false);
  LIST_FOREACH(&parcels, it) {     /* a copy, to compare with */
    const struct parcel *p = CONTAINER_OF(it, struct parcel, node);
    struct parcel *copy = parcel_new(p->kind);
    assert_int_equal(buf_append(&copy->state, buf_data(&p->state), p->state.len), 0);
    (void)parcel_end(copy, 0, 0, &first);
  }
  assert_int_equal(move_unpack(&next, &parcels, true, &e), 0);
  assert_true(link_is_up(next.link) && next.link->warm_n == 3 && next.link->choice == &next.choices[1]);
  assert_string_equal(atomic_load(&first_tunnel(&next)->address)->url, "https://abc.r1.example.com");
  assert_int_equal(first_tunnel(&next)->streams.now, 2);
  assert_int_equal(first_tunnel(&next)->streams.total, 2);
  assert_int_equal(first_tunnel(&next)->shown, SHOWN_OPEN);
  assert_int_equal(move_pack(&next, &again), 0);
  struct list *b = again.next;
  for (struct list *a = first.next; a != &first; a = a->next, b = b->next) {
    const struct parcel *p = CONTAINER_OF(a, struct parcel, node), *q = CONTAINER_OF(b, struct parcel, node);
    assert_true(b != &again && p->kind == q->kind && p->state.len == q->state.len);
    assert_memory_equal(buf_data(&p->state), buf_data(&q->state), p->state.len);
  }
  assert_true(b == &again);
  parcels_free(&first);
  parcels_free(&again);
}

static void who_only_looks_gets_stand_ins(void **state) {
  struct err e = {0};
  (void)state;
  fill(&old);
  assert_int_equal(move_pack(&old, &parcels), 0);
  through_a_file(true);
  assert_int_equal(move_unpack(&next, &parcels, true, &e), 0);
  assert_true(link_is_up(next.link));
}

/* Each without its last byte: refused, and nothing of it is there. */
static void parcels_that_were_cut_are_refused(void **state) {
  struct err e = {0};
  (void)state;
  fill(&old);
  assert_int_equal(move_pack(&old, &parcels), 0);
  LIST_FOREACH(&parcels, it) {
    struct parcel *p = CONTAINER_OF(it, struct parcel, node);
    if (p->kind == MOVE_SETUP) continue;
    buf_cut(&p->state, p->state.len - 1);
  }
  assert_int_not_equal(move_unpack(&next, &parcels, true, &e), 0);
  assert_true(next.link == NULL && next.embedded == NULL);
  assert_int_equal(first_tunnel(&next)->streams.now, 0);
}

static void a_file_that_is_none_is_refused(void **state) {
  struct err e = {0};
  (void)state;
  fill(&old);
  assert_int_equal(move_pack(&old, &parcels), 0);
  int file = memfd_create("state", MFD_CLOEXEC);
  assert_int_equal(move_write(file, &parcels, &e), 0);
  off_t whole = lseek(file, 0, SEEK_END);
  struct list none;
  list_init(&none);
  for (off_t n = 0; n < whole; n = n < 64 ? n + 1 : n + 997) {
    assert_int_equal(ftruncate(file, n), 0);
    assert_int_equal(move_read(file, &none, true, &e), ERR_SYNTAX);
    assert_true(list_empty(&none));
    assert_int_equal(move_write(file, &parcels, &e), 0);
  }
  assert_int_equal(pwrite(file, "\0\2", 2, 4), 2);       /* another format */
  assert_int_equal(move_read(file, &none, true, &e), ERR_SYNTAX);
  close(file);
}

static void other_tunnels_are_another_agent(void **state) {
  struct err e = {0};
  (void)state;
  fill(&old);
  assert_int_equal(move_pack(&old, &parcels), 0);
  struct adit_tunnel *third = tunnel_add(&next, 2);
  assert_int_not_equal(move_unpack(&next, &parcels, true, &e), 0);
  list_remove(&third->node);
  tunnel_free(third);
}

/* ---- with a thread ---- */

static sem_t turned;

static void *run_loop(void *of) {
  fork_gate_enter();
  loop_run(of);
  fork_gate_leave_at_end();
  return NULL;
}

static void called(struct loop_io *io, uint32_t events) {
  (void)events;
  (void)bell_heard(&CONTAINER_OF(io, struct adit_client, bell_io)->bell);
}

static void note_turn(struct loop *l, struct loop_msg *m) {
  (void)m;
  if (l != NULL) (void)sem_post(&turned);
}

static bool turns_within_ms(long ms) {
  struct timespec until;
  (void)clock_gettime(CLOCK_REALTIME, &until);
  until.tv_nsec += ms * 1000000;
  until.tv_sec += until.tv_nsec / 1000000000;
  until.tv_nsec %= 1000000000;
  return sem_timedwait(&turned, &until) == 0;
}

static void let_it_go_on(struct adit_client *c) {
  pthread_mutex_lock(&c->lock);
  c->move.state = MOVE_NONE;
  pthread_cond_broadcast(&c->changed);
  pthread_mutex_unlock(&c->lock);
}

/* Else it would take its stand-ins for connections that have ended, and make new ones. */
static void who_only_looks_does_nothing_when_that_fails_either(void **state) {
  struct loop_msg message = {.fn = note_turn};
  struct err e = {0};
  pthread_t thread;
  (void)state;
  fill(&old);
  assert_int_equal(move_pack(&old, &parcels), 0);
  buf_cut(&CONTAINER_OF(parcels.prev, struct parcel, node)->state, 0);
  through_a_file(true);
  assert_int_equal(bell_init(&next.bell, &e), 0);
  assert_int_equal(loop_io_add(loop, &next.bell_io, next.bell.hear_fd, EPOLLIN, called), 0);
  assert_int_equal(sem_init(&turned, 0, 0), 0);
  loop_set_wait_hooks(loop, fork_gate_leave, fork_gate_enter);
  assert_int_equal(pthread_create(&thread, NULL, run_loop, loop), 0);
  assert_int_equal(move_in(&next, &parcels, true, &e), ERR_SYNTAX);
  loop_post(loop, &message);
  bool early = turns_within_ms(100);
  let_it_go_on(&next);
  bool then = turns_within_ms(10000);
  loop_stop(loop);
  assert_int_equal(pthread_join(thread, NULL), 0);
  assert_true(!early && then);
  loop_io_del(&next.bell_io);
  close(next.bell.ring_fd);
  close(next.bell.hear_fd);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(all_goes_along_and_is_the_same_again, set_up, tear_down),
      cmocka_unit_test_setup_teardown(who_only_looks_gets_stand_ins, set_up, tear_down),
      cmocka_unit_test_setup_teardown(parcels_that_were_cut_are_refused, set_up, tear_down),
      cmocka_unit_test_setup_teardown(a_file_that_is_none_is_refused, set_up, tear_down),
      cmocka_unit_test_setup_teardown(other_tunnels_are_another_agent, set_up, tear_down),
      cmocka_unit_test_setup_teardown(who_only_looks_does_nothing_when_that_fails_either, set_up, tear_down)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
