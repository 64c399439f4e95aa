/* The small parts of the agent: delays, events, descriptors, the choice of relays. */
#include "cm.h"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/backoff.h"
#include "agent/descriptors.h"
#include "agent/events.h"
#include "agent/resolve.h"
#include "agent/setup.h"
#include "lib/user_file.h"

static void the_first_seconds_are_retried_within_50_to_400_ms(void **state) {
  (void)state;
  struct backoff b = {0};
  uint64_t now = 1000;
  for (uint32_t random = 0; now < 1000 + RECONNECT_EARLY_FOR_MS; random += 977) {
    uint64_t delay = backoff_next_ms(&b, now, random);
    assert_in_range(delay, RECONNECT_EARLY_MIN_MS, RECONNECT_EARLY_MAX_MS);
    now += delay;
  }
}

static void later_retries_grow_to_a_limit_with_jitter(void **state) {
  (void)state;
  struct backoff b = {0};
  uint64_t now = 1, last = backoff_next_ms(&b, now, 0);
  now += RECONNECT_EARLY_FOR_MS;
  for (int i = 0; i < 20; i++) {
    struct backoff copy = b;
    uint64_t low = backoff_next_ms(&b, now, 0);
    assert_true(backoff_next_ms(&copy, now, UINT32_MAX) >= low);
    assert_true(low <= RECONNECT_MAX_MS && low >= last / 2);
    last = low;
    now += low;
  }
  assert_int_equal(last, RECONNECT_MAX_MS / 2);
  backoff_reset(&b);
  assert_in_range(backoff_next_ms(&b, now, 0), RECONNECT_EARLY_MIN_MS, RECONNECT_EARLY_MAX_MS);
}

static void data_connections_are_redialled_ever_later_up_to_a_limit(void **state) {
  (void)state;
  uint64_t ceiling = 0, wanted = DATA_REDIAL_MIN_MS;
  for (int i = 0; i < 20; i++) {
    uint64_t low = ceiling, high = ceiling;
    assert_int_equal(backoff_redial_ms(&low, 0), wanted / 2);
    assert_int_equal(backoff_redial_ms(&high, (uint32_t)wanted / 2), wanted);
    assert_int_equal(low, high);
    ceiling = low;
    wanted = wanted * 2 < DATA_REDIAL_MAX_MS ? wanted * 2 : DATA_REDIAL_MAX_MS;
  }
  ceiling = 0;                     /* one has got through */
  assert_true(backoff_redial_ms(&ceiling, UINT32_MAX) <= DATA_REDIAL_MIN_MS);
}

static bool readable(int fd) {
  struct pollfd p = {.fd = fd, .events = POLLIN};
  return poll(&p, 1, 0) == 1;
}

static void the_event_descriptor_is_readable_while_an_event_waits(void **state) {
  (void)state;
  struct events q;
  struct adit_event in = {.kind = ADIT_EVENT_WARNING, .text = "one"}, out;
  assert_int_equal(events_init(&q, NULL), 0);
  assert_false(readable(q.fd));
  assert_int_equal(events_next(&q, &out, 0), 0);
  events_push(&q, &in);
  events_push(&q, &in);
  assert_true(readable(q.fd));
  assert_int_equal(events_next(&q, &out, 0), 1);
  assert_string_equal(out.text, "one");
  assert_true(readable(q.fd));
  assert_int_equal(events_next(&q, &out, -1), 1);
  assert_false(readable(q.fd));
  assert_int_equal(events_next(&q, &out, 1), 0);
  events_free(&q);
}

static void *wait_for_an_event(void *queue) {
  struct adit_event out;
  (void)events_next(queue, &out, -1);
  return NULL;
}

static void a_thread_that_is_cancelled_while_it_waits_leaves_the_queue_to_others(void **state) {
  (void)state;
  struct events q;
  pthread_t thread;
  void *how;
  assert_int_equal(events_init(&q, NULL), 0);
  assert_int_equal(pthread_create(&thread, NULL, wait_for_an_event, &q), 0);
  assert_int_equal(pthread_cancel(thread), 0);
  assert_int_equal(pthread_join(thread, &how), 0);
  assert_ptr_equal(how, PTHREAD_CANCELED);
  assert_int_equal(pthread_mutex_trylock(&q.lock), 0);
  assert_int_equal(pthread_mutex_unlock(&q.lock), 0);
  events_free(&q);
}

static void a_full_queue_loses_its_oldest_event(void **state) {
  (void)state;
  struct events q;
  struct adit_event in = {0}, out;
  assert_int_equal(events_init(&q, NULL), 0);
  for (in.error = 0; in.error < AGENT_EVENTS_MAX + 10; in.error++) events_push(&q, &in);
  assert_int_equal(events_next(&q, &out, 0), 1);
  assert_int_equal(out.error, 10);
  events_free(&q);
}

static void events_of_a_freed_tunnel_are_forgotten(void **state) {
  (void)state;
  struct events q;
  char a, b;
  struct adit_event in = {0}, out;
  assert_int_equal(events_init(&q, NULL), 0);
  for (int i = 0; i < 6; i++) {
    in.tunnel = (struct adit_tunnel *)(void *)(i % 2 == 0 ? &a : &b);
    in.error = i;
    events_push(&q, &in);
  }
  events_forget(&q, (struct adit_tunnel *)(void *)&a);
  for (int i = 1; i < 6; i += 2) {
    assert_int_equal(events_next(&q, &out, 0), 1);
    assert_int_equal(out.error, i);
  }
  assert_int_equal(events_next(&q, &out, 0), 0);
  events_push(&q, &in);
  events_forget(&q, in.tunnel);
  assert_false(readable(q.fd));
  events_free(&q);
}

/* What the child does is seen in its exit status: asserts of the test library would not leave it. */
static int in_child(int (*fn)(void *), void *arg) {
  int status;
  pid_t pid = fork();
  if (pid == 0) _exit(fn(arg));
  assert_true(pid > 0);
  assert_int_equal(waitpid(pid, &status, 0), pid);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 255;
}

struct held {
  struct descriptors set;
  int pair[2];
};

static int child_closes(void *arg) {
  struct held *h = arg;
  descriptors_close_copies(&h->set);
  return fcntl(h->pair[0], F_GETFD) == -1 && fcntl(h->pair[1], F_GETFD) >= 0 ? 0 : 1;
}

static int child_reused_the_number(void *arg) {
  struct held *h = arg;
  close(h->pair[0]);
  if (dup2(STDERR_FILENO, h->pair[0]) != h->pair[0]) return 2;
  descriptors_close_copies(&h->set);
  return fcntl(h->pair[0], F_GETFD) >= 0 ? 0 : 1;
}

static void a_child_closes_its_copies_and_the_parent_goes_on(void **state) {
  (void)state;
  struct held h;
  char c = 'x';
  descriptors_init(&h.set);
  assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, h.pair), 0);
  descriptors_add(&h.set, h.pair[0]);
  assert_int_equal(in_child(child_closes, &h), 0);
  assert_int_equal(write(h.pair[0], &c, 1), 1);
  assert_int_equal(read(h.pair[1], &c, 1), 1);
  assert_false(readable(h.pair[1]));   /* no end of stream */
  close(h.pair[0]);
  close(h.pair[1]);
  descriptors_free(&h.set);
}

static void a_number_that_the_child_uses_for_itself_is_left_alone(void **state) {
  (void)state;
  struct held h;
  descriptors_init(&h.set);
  assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, h.pair), 0);
  descriptors_add(&h.set, h.pair[0]);
  assert_int_equal(in_child(child_reused_the_number, &h), 0);
  descriptors_remove(&h.set, h.pair[0]);
  descriptors_close_copies(&h.set);
  assert_true(fcntl(h.pair[0], F_GETFD) >= 0);
  close(h.pair[0]);
  close(h.pair[1]);
  descriptors_free(&h.set);
}

static void localhost_and_numbers_need_no_lookup(void **state) {
  (void)state;
  struct addr addrs[RESOLVED_MAX];
  struct host_port hp = {.host = "LocalHost", .port = 80};
  assert_int_equal(resolve_now(&hp, addrs), 2);
  assert_true(addr_is_loopback(&addrs[0]) && addr_is_loopback(&addrs[1]) && addr_port(&addrs[1]) == 80);
  strcpy(hp.host, "2001:db8::1");
  assert_int_equal(resolve_now(&hp, addrs), 1);
  strcpy(hp.host, "example.com");
  assert_int_equal(resolve_now(&hp, addrs), 0);
}

static void a_malformed_token_is_refused_with_a_text(void **state) {
  (void)state;
  struct setup s;
  struct err e = {0};
  struct relay_choice *choices;
  size_t n;
  setup_init(&s);
  assert_true(setup_add_token(&s, "adit1_nonsense", &e) < 0);
  assert_true(e.text[0] != '\0');
  assert_true(setup_choices(&s, &choices, &n, &e) < 0);
  setup_free(&s);
}

static void add_token(struct setup *s, const char *dial, const char *name, uint8_t pin_kind) {
  static struct token t;
  char text[TOKEN_TEXT_MAX_CHARS + 1];
  uint8_t operator_seed[ED25519_KEY_BYTES], operator_key[ED25519_KEY_BYTES];
  struct certificate c = {.name = "test", .max_tunnels = 1, .issued_s = 1};
  memset(&t, 0, sizeof t);
  assert_int_equal(ed25519_keypair(operator_seed, operator_key), 0);
  assert_int_equal(ed25519_keypair(t.seed, c.public_key), 0);
  memcpy(c.operator_key, operator_key, sizeof operator_key);
  assert_int_equal(certificate_sign(&c, operator_seed, t.chain, sizeof t.chain, &t.chain_n), 0);
  t.info = c;
  assert_int_equal(host_port_parse(dial, 443, &t.relays[0].dial, NULL), 0);
  strcpy(t.relays[0].name, name);
  t.relays[0].pin.kind = pin_kind;
  t.relays_n = 1;
  assert_int_equal(token_encode(&t, text, sizeof text), 0);
  assert_int_equal(setup_add_token(s, text, NULL), 0);
}

static void all_relays_of_all_tokens_are_chosen_from(void **state) {
  (void)state;
  struct setup s;
  struct relay_choice *choices;
  size_t n;
  setup_init(&s);
  add_token(&s, "192.0.2.1:443", "r1.example.com", PIN_SPKI_SHA256);
  add_token(&s, "r2.example.com:443", "", PIN_PUBLIC_AUTHORITIES);
  assert_int_equal(setup_choices(&s, &choices, &n, NULL), 0);
  assert_int_equal(n, 2);
  assert_string_equal(choices[0].name, "r1.example.com");
  assert_string_equal(choices[1].name, "r2.example.com");
  assert_ptr_equal(choices[1].token, s.tokens[1]);
  free(choices);
  setup_free(&s);
}

static void a_setup_goes_to_another_program_and_is_the_same_again(void **state) {
  (void)state;
  struct setup s, again;
  struct buf state_of[2];
  setup_init(&s);
  setup_init(&again);
  add_token(&s, "192.0.2.1:443", "r1.example.com", PIN_SPKI_SHA256);
  add_token(&s, "r2.example.com:443", "", PIN_PUBLIC_AUTHORITIES);
  assert_int_equal(setup_add_relay(&s, "unix:/run/adit/relay.sock", NULL), 0);
  assert_int_equal(setup_add_relay(&s, "[2001:db8::1]:8443", NULL), 0);
  assert_int_equal(setup_set_proxy(&s, "http://u:p@192.0.2.9:3128", "HTTPS_PROXY", "example.com", NULL), 0);
  s.ca_file = strdup("/etc/ca.pem");
  s.data = SETUP_DATA_TLS;
  for (int i = 0; i < 2; i++) {
    buf_init(&state_of[i], 1 << 20);
    assert_int_equal(setup_export(i == 0 ? &s : &again, &state_of[i]), 0);
    struct reader r = reader_of(buf_data(&state_of[0]), state_of[0].len);
    if (i == 0) assert_int_equal(setup_import(&again, &r), 0);
  }
  assert_int_equal(state_of[0].len, state_of[1].len);
  assert_memory_equal(buf_data(&state_of[0]), buf_data(&state_of[1]), state_of[0].len);
  assert_memory_equal(s.tokens[1]->seed, again.tokens[1]->seed, ED25519_KEY_BYTES);
  for (size_t n = 0; n < state_of[0].len; n++) {
    struct setup none;
    struct reader cut = reader_of(buf_data(&state_of[0]), n);
    setup_init(&none);
    assert_int_equal(setup_import(&none, &cut), ERR_SYNTAX);
    setup_free(&none);
  }
  buf_free(&state_of[0]);
  buf_free(&state_of[1]);
  setup_free(&s);
  setup_free(&again);
}

static void a_relay_given_besides_takes_name_and_pin_of_the_token(void **state) {
  (void)state;
  struct setup s;
  struct relay_choice *choices;
  size_t n;
  setup_init(&s);
  add_token(&s, "192.0.2.1:443", "r1.example.com", PIN_SPKI_SHA256);
  add_token(&s, "192.0.2.2:443", "r2.example.com", PIN_PUBLIC_AUTHORITIES);
  assert_int_equal(setup_add_relay(&s, "127.0.0.1:8443", NULL), 0);        /* another host: the first relay */
  assert_int_equal(setup_add_relay(&s, "192.0.2.2:9443", NULL), 0);        /* the host of the second */
  assert_int_equal(setup_add_relay(&s, "R1.Example.com", NULL), 0);        /* the name of the first */
  assert_true(setup_add_relay(&s, "no port:here", NULL) < 0);
  assert_int_equal(setup_choices(&s, &choices, &n, NULL), 0);
  assert_int_equal(n, 3);
  assert_string_equal(choices[0].name, "r1.example.com");
  assert_int_equal(choices[0].pin.kind, PIN_SPKI_SHA256);
  assert_int_equal(choices[0].dial.tcp.port, 8443);
  assert_string_equal(choices[1].name, "r2.example.com");
  assert_ptr_equal(choices[1].token, s.tokens[1]);
  assert_string_equal(choices[2].name, "r1.example.com");
  free(choices);
  setup_free(&s);
}

static void behind_a_unix_socket_is_the_first_relay_and_neither_proxy_nor_plain_data(void **state) {
  (void)state;
  struct setup s;
  struct relay_choice *choices;
  struct err e = {0};
  size_t n;
  setup_init(&s);
  add_token(&s, "r1.example.com:443", "r1.example.com", PIN_PUBLIC_AUTHORITIES);
  add_token(&s, "r2.example.com:443", "r2.example.com", PIN_SPKI_SHA256);
  assert_int_equal(setup_add_relay(&s, "unix:/run/adit/relay.sock", NULL), 0);
  assert_int_equal(setup_set_proxy(&s, "http://192.0.2.9:3128", "HTTPS_PROXY", NULL, NULL), 0);
  assert_int_equal(setup_choices(&s, &choices, &n, NULL), 0);
  assert_int_equal(n, 1);
  assert_string_equal(choices[0].name, "r1.example.com");
  assert_string_equal(choices[0].dial.path, "/run/adit/relay.sock");
  assert_null(choices[0].proxy);
  free(choices);
  assert_int_equal(setup_set_proxy(&s, "http://192.0.2.9:3128", NULL, NULL, NULL), 0);
  assert_int_equal(setup_choices(&s, &choices, &n, &e), ERR_USAGE);
  assert_non_null(strstr(e.text, "is dialled straight"));
  assert_int_equal(setup_set_proxy(&s, "none", NULL, NULL, NULL), 0);
  s.data = SETUP_DATA_PLAIN;
  assert_int_equal(setup_choices(&s, &choices, &n, &e), ERR_USAGE);
  assert_non_null(strstr(e.text, "would lose resets"));
  setup_free(&s);
}

static void under_public_authorities_the_dialled_name_is_insisted_on(void **state) {
  (void)state;
  struct setup s;
  struct relay_choice *choices;
  size_t n;
  setup_init(&s);
  add_token(&s, "r1.example.com:443", "r1.example.com", PIN_PUBLIC_AUTHORITIES);
  assert_int_equal(setup_add_relay(&s, "r9.example.com:443", NULL), 0);
  assert_int_equal(setup_add_relay(&s, "127.0.0.1:443", NULL), 0);
  assert_int_equal(setup_choices(&s, &choices, &n, NULL), 0);
  assert_string_equal(choices[0].name, "r9.example.com");
  assert_string_equal(choices[1].name, "r1.example.com");
  free(choices);
  setup_free(&s);
}

static int parse_user_file(const char *text, size_t n, struct user_file *f, struct err *e) {
  char *copy = malloc(n + 1);
  assert_non_null(copy);
  memcpy(copy, text, n);
  copy[n] = 0;
  int r = user_file_parse(copy, n, f, e);
  free(copy);
  return r;
}

static void the_user_file_is_read_by_key(void **state) {
  (void)state;
  struct user_file f;
  static const char text[] = "# mine\n\n token =  adit1_x \r\nrelay = a:1\nrelay=b:2\nca = /etc/ca.pem";
  assert_int_equal(parse_user_file(text, sizeof text - 1, &f, NULL), 0);
  assert_string_equal(f.token, "adit1_x");
  assert_int_equal(f.relays_n, 2);
  assert_string_equal(f.relays[1], "b:2");
  assert_string_equal(f.ca, "/etc/ca.pem");
  user_file_free(&f);
}

static void a_malformed_user_file_is_refused_with_its_line(void **state) {
  (void)state;
  struct user_file f;
  struct err e = {0};
  static const char *const bad[] = {"token\n", "= x\n", "a\nb"};
  for (size_t i = 0; i < ARRAY_LEN(bad); i++)
    assert_int_equal(parse_user_file(bad[i], strlen(bad[i]), &f, &e), ERR_SYNTAX);
  assert_int_equal(parse_user_file("ca = a\ntok\0en = b\n", 18, &f, &e), ERR_SYNTAX);
  assert_non_null(strstr(e.text, "line 2"));
  assert_int_equal(parse_user_file("token = t\nrelay = \n", 19, &f, &e), ERR_SYNTAX);
  assert_string_equal(e.text, "line 2: relay has no value (write: name = value)");
  assert_int_equal(parse_user_file("token = t\nallow = 10.0.0.0/8\n", 29, &f, &e), ERR_USAGE);
  assert_non_null(strstr(e.text, "line 2: no such setting"));
  char many[32 * 16] = "";
  for (int i = 0; i < 17; i++) strcat(many, "relay = h:1\n");
  assert_int_equal(parse_user_file(many, strlen(many), &f, &e), ERR_LIMIT);
}

int main(void) {
  const struct CMUnitTest tests[] = {
    cmocka_unit_test(the_first_seconds_are_retried_within_50_to_400_ms),
    cmocka_unit_test(later_retries_grow_to_a_limit_with_jitter),
    cmocka_unit_test(data_connections_are_redialled_ever_later_up_to_a_limit),
    cmocka_unit_test(the_event_descriptor_is_readable_while_an_event_waits),
    cmocka_unit_test(a_thread_that_is_cancelled_while_it_waits_leaves_the_queue_to_others),
    cmocka_unit_test(a_full_queue_loses_its_oldest_event),
    cmocka_unit_test(events_of_a_freed_tunnel_are_forgotten),
    cmocka_unit_test(a_child_closes_its_copies_and_the_parent_goes_on),
    cmocka_unit_test(a_number_that_the_child_uses_for_itself_is_left_alone),
    cmocka_unit_test(localhost_and_numbers_need_no_lookup),
    cmocka_unit_test(a_malformed_token_is_refused_with_a_text),
    cmocka_unit_test(all_relays_of_all_tokens_are_chosen_from),
    cmocka_unit_test(a_setup_goes_to_another_program_and_is_the_same_again),
    cmocka_unit_test(a_relay_given_besides_takes_name_and_pin_of_the_token),
    cmocka_unit_test(behind_a_unix_socket_is_the_first_relay_and_neither_proxy_nor_plain_data),
    cmocka_unit_test(under_public_authorities_the_dialled_name_is_insisted_on),
    cmocka_unit_test(the_user_file_is_read_by_key),
    cmocka_unit_test(a_malformed_user_file_is_refused_with_its_line),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
