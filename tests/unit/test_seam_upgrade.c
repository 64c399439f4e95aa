/* A control link that is packed, carried and unpacked while memory fails the old relay or the new one: each allocation
   in turn. It is in one of the two in the end, or its agent is told by the connection's end that it is gone; and
   nothing of it is left behind. */
#include <limits.h>

#include "seam_memory.h"

#include "relay_agent.h"

#include "base/clock.h"
#include "relay/parcel.h"

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

int main(void) {
  if (!seam_memory_install()) return 1;
  const struct CMUnitTest tests[] = {cmocka_unit_test(a_link_is_in_one_relay_or_its_agent_knows_that_it_is_gone)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
