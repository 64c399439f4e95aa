/* What is packed, carried and unpacked while memory fails the old relay or the new one: each allocation in turn. A
   control link is in one of the two in the end, or its agent is told by the connection's end that it is gone; and
   nothing is left behind, whatever became of it. */
#include <limits.h>

#include "seam_memory.h"

#include "recorded.h"
#include "relay_agent.h"

#include "base/clock.h"
#include "relay/parcel.h"
#include "relay/stray.h"
#include "relay/stream.h"
#include "relay/visitor.h"

enum { SOON_MS = 1000 };
static unsigned moves, losses;

static struct carrier carrier_between(int *far) {
  struct carrier c;
  int fds[2];
  assert_int_equal(carrier_pair(fds), 0);
  carrier_init(&c, fds[1]);
  *far = fds[0];
  return c;
}

/* What cannot be unpacked is closed with its frame, as in heir.c. */
static void carry(struct parcel *p, struct carrier *c, int far, struct worker *to) {
  struct carrier_frame frame;
  int rc;
  assert_int_equal(carrier_send(far, p->kind, buf_data(&p->state), p->state.len, p->fds, p->fds_n), 0);
  while ((rc = carrier_receive(c, clock_ms() + SOON_MS, &frame)) == ERR_NOMEM) continue;
  assert_int_equal(rc, 0);
  assert_int_equal(frame.header.kind, p->kind);
  rc = parcel_unpack(to, frame.header.kind, frame.body, frame.header.bytes, frame.fds, frame.header.fds_n);
  for (size_t i = 0; rc == 0 && i < frame.header.fds_n; i++) frame.fds[i] = -1;
  carrier_frame_free(&frame);
}

static void carry_all(struct list *parcels, struct worker *to) {
  int far;
  struct carrier c = carrier_between(&far);
  LIST_FOREACH(parcels, it) carry(CONTAINER_OF(it, struct parcel, node), &c, far, to);
  carrier_close(&c);
  close(far);
  parcels_free(parcels);
}

static bool has_ended(int fd) {
  uint8_t bytes[4096];
  ssize_t n;
  while ((n = net_recv(fd, bytes, sizeof bytes)) > 0) continue;
  return n != NET_AGAIN;
}

static void scenario(void) {
  struct one_relay there;
  struct list parcels;
  list_init(&parcels);
  struct fixture *f = link_set_up(false);
  one_relay_open(&there, PUMP_SPLICE);
  armed = true;
  parcels_pack_control(&f->here.worker, &parcels);
  carry_all(&parcels, &there.worker);
  armed = false;
  parcels_pack_control(&f->here.worker, &parcels);         /* what could not go goes now */
  carry_all(&parcels, &there.worker);
  loop_turn(f->here.worker.loop, 0);
  loop_turn(there.worker.loop, 0);
  assert_true(list_empty(&f->here.worker.links));
  bool moved = !list_empty(&there.worker.links);
  assert_int_equal(moved, !has_ended(f->fd));
  moves += moved;
  losses += !moved;
  one_relay_close(&there);
  assert_int_equal(link_tear_down(f), 0);
}

static void a_link_is_in_one_relay_or_its_agent_knows_that_it_is_gone(void **state) {
  (void)state;
  until_failure = UINT_MAX;
  scenario();                      /* what is allocated once is not to fail instead */
  fail_each_allocation(scenario);
  print_message("moved %u, lost %u\n", moves, losses);
}

/* What needs no keeper, as it was recorded, into a relay and on to another, with memory for the link alone. */
enum { FDS_MAX = 32 };
static int far_ends[FDS_MAX];
static size_t far_ends_n;
static struct buf recorded;
static unsigned taken, refused;

static int given(void) {
  int ours;
  assert_true(far_ends_n < FDS_MAX);
  socket_pair(&ours, &far_ends[far_ends_n++]);
  return ours;
}

static void take(struct worker *w, enum carrier_kind kind, const char *name) {
  uint8_t body[PARCEL_NUMBER_BYTES + 4096] = {0};
  int fds[PARCEL_FDS_MAX];
  size_t fds_n = kind == CARRIER_RAW || kind == CARRIER_STREAM ? 2 : 1;
  bool was_armed = armed;
  armed = false;
  recorded_read(name, &recorded);
  memcpy(body + PARCEL_NUMBER_BYTES, buf_data(&recorded), recorded.len);
  for (size_t i = 0; i < fds_n; i++) fds[i] = given();
  armed = was_armed;
  int rc = parcel_unpack(w, kind, body, PARCEL_NUMBER_BYTES + recorded.len, fds, fds_n);
  for (size_t i = 0; rc != 0 && i < fds_n; i++) net_close(fds[i]);
  taken += rc == 0;
  refused += rc != 0;
}

static void ends(struct one_relay *r) {
  r->relay.hands_over = false;
  strays_close(&r->worker);
  stream_close_all(&r->worker);
  visitor_close_all(&r->worker);
  one_relay_close(r);
}

static void scenario_of_many(void) {
  struct one_relay here, there;
  struct list parcels;
  list_init(&parcels);
  one_relay_open(&here, PUMP_SPLICE);
  one_relay_open(&there, PUMP_SPLICE);
  here.relay.hands_over = there.relay.hands_over = true;
  take(&here.worker, CARRIER_LINK, "link_of_one");
  armed = true;
  take(&here.worker, CARRIER_VISITOR, "visitor_tls");
  take(&here.worker, CARRIER_WARM, "warm");
  take(&here.worker, CARRIER_STRAY, "stray");
  take(&here.worker, CARRIER_STREAM, "stream_awaits_accept");
  take(&here.worker, CARRIER_STREAM, "stream_half_closed");
  take(&here.worker, CARRIER_STREAM, "stream_sealed");
  parcels_pack_control(&here.worker, &parcels);
  parcels_pack_streams(&here.worker, &parcels);
  carry_all(&parcels, &there.worker);
  loop_turn(here.worker.loop, 0);
  loop_turn(there.worker.loop, 0);
  armed = false;
  ends(&here);
  ends(&there);
  while (far_ends_n > 0) net_close(far_ends[--far_ends_n]);
}

static void nothing_of_what_moves_is_left_behind(void **state) {
  (void)state;
  buf_init(&recorded, 4096);
  until_failure = UINT_MAX;
  scenario_of_many();
  assert_int_equal(refused, 0);
  fail_each_allocation(scenario_of_many);
  print_message("taken %u, refused %u\n", taken, refused);
  buf_free(&recorded);
}

int main(void) {
  if (!seam_memory_install()) return 1;
  const struct CMUnitTest tests[] = {cmocka_unit_test(a_link_is_in_one_relay_or_its_agent_knows_that_it_is_gone),
                                     cmocka_unit_test(nothing_of_what_moves_is_left_behind)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
