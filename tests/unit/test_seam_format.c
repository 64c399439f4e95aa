/* What relays of the first release hand over in an upgrade, as recorded: today's reads it as it was meant, and writes
   the same again for a relay of that release. Time stands still, so each of the ages in it is what it was. If this
   fails, the bytes have changed: they are a new format then, beside this one (docs/upgrade.md). */
#include <time.h>

#include "recorded.h"
#include "relay_agent.h"

#include "relay/bind.h"
#include "relay/raw.h"
#include "relay/stray.h"
#include "relay/stream.h"
#include "relay/taken.h"
#include "relay/totals.h"
#include "relay/visitor.h"
#include "relay/warm.h"

#define LABEL_HTTP "wxkb7jmxp3w9zysrgn4hk8t9"
enum { NOW_S = 1 << 30, PORT_PLAIN = 23125, PORT_SEALED = 23136 };

int __real_clock_gettime(clockid_t clock, struct timespec *out);
int __wrap_clock_gettime(clockid_t clock, struct timespec *out);

int __wrap_clock_gettime(clockid_t clock, struct timespec *out) {
  *out = (struct timespec){.tv_sec = NOW_S};
  return clock == CLOCK_MONOTONIC ? 0 : __real_clock_gettime(clock, out);
}

static struct fixture *f;
static struct worker *worker;
static struct link *link_there;
static struct buf recorded, written;

static void read_recorded(const char *name) {
  recorded_read(name, &recorded);
  buf_cut(&written, 0);
}

static void is_written_again(const char *name) {
  if (written.len != recorded.len) fail_msg("%s: %zu bytes and not %zu", name, written.len, recorded.len);
  for (size_t i = 0; i < written.len; i++) {
    if (buf_data(&written)[i] != buf_data(&recorded)[i]) fail_msg("%s: byte %zu is another", name, i);
  }
}

static int set_up(void **state) {
  (void)state;
  f = relay_set_up(true);
  worker = &f->here.worker;
  f->fd = -1;
  buf_init(&recorded, PARCEL_MAX_BYTES);
  buf_init(&written, PARCEL_MAX_BYTES);
  return 0;
}

static int tear_down(void **state) {
  (void)state;
  buf_free(&recorded);
  buf_free(&written);
  return link_tear_down(f);
}

/* Links, and what needs one */

static void link_comes_from(const char *name) {
  int fd;
  socket_pair(&fd, &f->fd);
  read_recorded(name);
  assert_int_equal(control_import(worker, buf_data(&recorded), recorded.len, fd), 0);
  link_there = CONTAINER_OF(worker->links.next, struct link, node);
}

static void link_comes(void) { link_comes_from("link"); }

static void link_goes(void) {
  int fd;
  buf_cut(&written, 0);
  assert_int_equal(control_export(link_there, &written, &fd), 0);
  net_close(fd);
}

static void owner_is_alice(const struct owner *o, uint32_t max_visitors_per_s) {
  assert_string_equal(o->name, "alice");
  assert_int_equal(o->id[0], 1);
  assert_int_equal(o->max_tunnels, 3);
  assert_int_equal(o->account.limits.max_visitors_per_s, max_visitors_per_s);
  assert_int_equal(o->account.limits.max_streams + o->account.limits.max_bytes_per_s, 0);
  assert_true(o->parent == NULL && o->expires_s == 0 && !o->no_raw && o->allow_n == 0);
}

static void tunnel_is(const struct tunnel *t, uint32_t id, uint32_t flags, uint16_t port) {
  assert_int_equal(t->bind_id, id);
  assert_int_equal(t->flags, flags);
  assert_int_equal(t->tcp_port, port);
  assert_int_equal(t->incarnation, 3);
  assert_int_equal(t->serial, id - 4);
  assert_int_equal(t->alpn_n, 9);
  assert_memory_equal(t->alpn, "\x08http/1.1", 9);
}

static void a_link_and_its_tunnels(void **state) {
  (void)state;
  link_comes();
  owner_is_alice(link_there->owner, 7);
  assert_string_equal(link_there->software, "agent/1");
  assert_int_equal(addr_port(&link_there->peer), 1);
  assert_true(link_there->warm.arrived && link_there->warm.target == 8 && link_there->warm.idle_n == 0);
  assert_int_equal(link_there->bound_n, 3);
  struct list *at = link_there->bound.next;
  const struct tunnel *t = CONTAINER_OF(at, struct bound, node)->tunnel;
  tunnel_is(t, 5, 0, 0);
  assert_string_equal(t->label, LABEL_HTTP);
  assert_int_equal(t->streams_total, 7);
  assert_int_equal(t->refused[NOTICE_STREAMS], 2);
  assert_int_equal(t->refused[NOTICE_LOST], 3);
  assert_true(t->allow_n == 1 && t->admission[0].family == 4 && t->admission[0].bits == 8);
  assert_true(t->deny_n == 1 && t->admission[1].family == 6 && t->admission[1].bits == 32);
  at = at->next;
  tunnel_is(CONTAINER_OF(at, struct bound, node)->tunnel, 6, TUNNEL_TCP | TUNNEL_PLAIN, PORT_PLAIN);
  at = at->next;
  tunnel_is(CONTAINER_OF(at, struct bound, node)->tunnel, 7, TUNNEL_TCP, PORT_SEALED);
  link_goes();
  is_written_again("link");
}

static void a_link_of_one_tunnel(void **state) {
  (void)state;
  link_comes_from("link_of_one");
  assert_int_equal(link_there->bound_n, 1);
  link_goes();
  is_written_again("link_of_one");
}

static void a_warm_connection(void **state) {
  int fd, far;
  (void)state;
  link_comes();
  read_recorded("warm");
  socket_pair(&fd, &far);
  assert_int_equal(warm_import(worker, buf_data(&recorded), recorded.len, fd), 0);
  assert_int_equal(link_there->warm.idle_n, 1);
  assert_int_equal(warm_export(link_there, &written, &fd), 0);
  is_written_again("warm");
  net_close(fd);
  net_close(far);
}

static void raw_port_is(const char *name, uint16_t port) {
  int fds[RAW_FAMILIES], far[RAW_FAMILIES];
  size_t n;
  read_recorded(name);
  for (int i = 0; i < RAW_FAMILIES; i++) socket_pair(&fds[i], &far[i]);
  assert_int_equal(raw_import(worker, buf_data(&recorded), recorded.len, fds, RAW_FAMILIES), 0);
  assert_non_null(map_get(worker->raw_ports, &port));
  assert_int_equal(raw_export(worker, &written, fds, &n), 0);
  assert_int_equal(n, RAW_FAMILIES);
  is_written_again(name);
  for (int i = 0; i < RAW_FAMILIES; i++) {
    net_close(fds[i]);
    net_close(far[i]);
  }
}

static void raw_ports(void **state) {
  (void)state;
  link_comes();
  raw_port_is("raw_plain", PORT_PLAIN);
  raw_port_is("raw_sealed", PORT_SEALED);
}

/* Its name stays good here when its link has gone: there they wait. */
static void visitor_waits(const char *name) {
  int fd, far;
  read_recorded(name);
  socket_pair(&fd, &far);
  assert_int_equal(visitor_import(worker, buf_data(&recorded), recorded.len, fd), 0);
  assert_int_equal(worker->metrics.visitors_waiting_now, 1);
  assert_int_equal(visitor_export(worker, &written, &fd), 0);
  is_written_again(name);
  net_close(fd);
  net_close(far);
}

static void visitors(void **state) {
  (void)state;
  link_comes();
  link_goes();
  visitor_waits("visitor_raw");
  visitor_waits("visitor_tls");
}

static void a_stray(void **state) {
  int fd, far;
  (void)state;
  f->here.relay.hands_over = true;
  read_recorded("stray");
  socket_pair(&fd, &far);
  assert_int_equal(stray_import(worker, buf_data(&recorded), recorded.len, fd), 0);
  assert_int_equal(stray_export(worker, &written, &fd), 0);
  is_written_again("stray");
  net_close(fd);
  net_close(far);
}

/* Streams */

enum { WIRE, PEER, ENDS };
static int far_end[ENDS];

static void stream_comes(const char *name) {
  int wire, peer;
  link_comes();                    /* with its tunnel, for which it counts */
  link_there->owner->account.visitors_until_us = 0;        /* what he has used up is to come from the stream */
  read_recorded(name);
  socket_pair(&wire, &far_end[WIRE]);
  socket_pair(&peer, &far_end[PEER]);
  assert_int_equal(stream_import(worker, buf_data(&recorded), recorded.len, wire, peer), 0);
}

static void stream_is_written_again(const char *name) {
  int wire, peer;
  buf_cut(&written, 0);
  assert_int_equal(stream_export(stream_any(worker), &written, &wire, &peer), 0);
  is_written_again(name);
  assert_int_equal(stream_import(worker, buf_data(&recorded), recorded.len, wire, peer), 0);
}

static void stream_goes(void) {
  stream_close_all(worker);
  for (int i = 0; i < ENDS; i++) net_close(far_end[i]);
}

/* What comes out at an end, when the loop has turned; its length. */
static ssize_t comes_out(int at, uint8_t *out, size_t n) {
  for (int i = 0; i < 10; i++) loop_turn(worker->loop, 0);
  return net_recv(far_end[at], out, n);
}

static void says(int at, const void *words, size_t n) { assert_int_equal(net_send(far_end[at], words, n), n); }

static void a_stream_whose_accept_is_awaited(void **state) {
  struct number_keys keys;
  uint8_t accept[ACCEPT_BYTES], out[64];
  (void)state;
  stream_comes("stream_awaits_accept");
  stream_is_written_again("stream_awaits_accept");
  assert_int_equal(worker->visitors_n, 1);
  for (size_t i = 0; i < sizeof keys.accept; i++) keys.accept[i] = (uint8_t)(i + 3);
  assert_int_equal(accept_encode(ACCEPT_OK, &keys, accept), 0);
  says(WIRE, accept, sizeof accept);
  says(WIRE, "welcome", 7);
  assert_int_equal(comes_out(PEER, out, sizeof out), 7);
  assert_memory_equal(out, "welcome", 7);
  stream_goes();
}

static void a_stream_of_which_one_direction_has_ended(void **state) {
  uint8_t out[64];
  (void)state;
  stream_comes("stream_half_closed");
  stream_is_written_again("stream_half_closed");
  says(WIRE, "the rest", 8);
  assert_int_equal(comes_out(PEER, out, sizeof out), 8);
  assert_int_equal(shutdown(far_end[WIRE], SHUT_WR), 0);
  assert_int_equal(comes_out(PEER, out, sizeof out), 0);
  for (int i = 0; i < 10; i++) loop_turn(worker->loop, 0);
  assert_null(stream_any(worker));
  assert_int_equal(worker->metrics.streams_closed[CLOSE_CLEAN], 1);
  stream_goes();
}

/* With the key that it came with, and in its place: one record has gone before. */
static void a_sealed_stream(void **state) {
  enum { SECRET_AT = 159 };
  uint8_t out[64], *plain;
  size_t consumed, n;
  (void)state;
  stream_comes("stream_sealed");
  stream_is_written_again("stream_sealed");
  says(PEER, "hello", 5);
  ssize_t got = comes_out(WIRE, out, sizeof out);
  assert_int_equal(got, 5 + RECORD_OVERHEAD_BYTES);
  const uint8_t *secret = buf_data(&recorded) + SECRET_AT;
  struct sealed *agent = sealed_new(&(struct sealed_params){
      .suite = tls_suite_find(0x1301), .read_secret = secret, .write_secret = secret, .read_sequence = 1});
  assert_non_null(agent);
  assert_int_equal(sealed_read(agent, out, (size_t)got, &consumed, &plain, &n), SEALED_DATA);
  assert_int_equal(n, 5);
  assert_memory_equal(plain, "hello", 5);
  sealed_free(agent);
  stream_goes();
}

static void totals(void **state) {
  (void)state;
  read_recorded("totals");
  assert_int_equal(totals_import(&f->here.relay, buf_data(&recorded), recorded.len), 0);
  assert_int_equal(worker->metrics.streams_total, 3);
  assert_int_equal(worker->metrics.links_total, 1);
  assert_int_equal(worker->metrics.tunnels_total, 3);
  assert_int_equal(worker->metrics.data_connections_total, 1);
  struct owner *o = relay_owner(&f->here, &(struct certificate){.id = {1}, .name = "alice"}, 1);
  assert_int_equal(o->usage->streams_total, 3);
  assert_int_equal(o->usage->from_visitors.bytes, 24);
  assert_int_equal(o->usage->to_visitors.bytes, 10);
  registry_owner_unref(f->here.relay.registry, o);
}

#define T(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
int main(void) {
  const struct CMUnitTest tests[] = {T(a_link_and_its_tunnels),
                                     T(a_link_of_one_tunnel),
                                     T(a_warm_connection),
                                     T(raw_ports),
                                     T(visitors),
                                     T(a_stray),
                                     T(a_stream_whose_accept_is_awaited),
                                     T(a_stream_of_which_one_direction_has_ended),
                                     T(a_sealed_stream),
                                     T(totals)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
