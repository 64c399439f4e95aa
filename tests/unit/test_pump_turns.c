/* How streams of one loop share its turns, counted in bytes: what one that has a short message waits for. */
#include "pump_far.h"

enum {
  BULK_STREAMS = 4,
  ROUNDS = 40,
  WARM_UP = 10,
  /* The last stream of a turn may have begun when all but nothing of the share was left. */
  MOST_BYTES = 2 * LOOP_SHARE_CONTENDED_BYTES + STREAM_BUFFER_SMALL_BYTES
};

struct stream {                    /* from its visitor to the app */
  int visitor, app;
  struct pump *pump;
  struct tally tally;
};

struct shared {
  struct rig *rig;                 /* its stream has the short messages */
  struct stream bulk[BULK_STREAMS];
  bool sealed;
};

struct kind {
  enum pump_mode mode;
  bool sealed;
};

static struct kind spliced = {PUMP_SPLICE, false}, copied = {PUMP_COPY, false}, sealed = {PUMP_COPY, true};

static void stream_start(struct shared *s, struct stream *m) {
  struct pump_params params = {.to_wire_tally = &m->tally, .sealed = s->sealed ? make_sealed(false, 0) : NULL};
  struct err e = {0};
  rig_tcp_pair(&m->visitor, &params.peer_fd);
  rig_tcp_pair(&m->app, &params.wire.fd);
  assert_int_equal(pump_start(s->rig->pool, &params, &m->pump, &e), 0);
}

static int shared_set_up(void **state) {
  const struct kind *kind = *state;
  struct shared *s = calloc(1, sizeof *s);
  assert_non_null(s);
  s->rig = rig_new(kind->mode);
  s->sealed = kind->sealed;
  for (size_t i = 0; i < BULK_STREAMS; i++) stream_start(s, &s->bulk[i]);
  rig_start(s->rig, &(struct pump_params){.sealed = kind->sealed ? make_sealed(false, 0) : NULL});
  *state = s;
  return 0;
}

static int shared_tear_down(void **state) {
  struct shared *s = *state;
  for (size_t i = 0; i < BULK_STREAMS; i++) {
    pump_abort(s->bulk[i].pump, CLOSE_LOCAL);
    close(s->bulk[i].visitor);
    close(s->bulk[i].app);
  }
  rig_free(s->rig);
  free(s);
  return 0;
}

/* Its visitor writes and its app reads all that the kernel lets them. */
static void stream_feed(struct stream *m) {
  static uint8_t bytes[1 << 16];
  while (recv(m->app, bytes, sizeof bytes, 0) > 0) {}
  while (send(m->visitor, bytes, sizeof bytes, MSG_NOSIGNAL) > 0) {}
}

static uint64_t bulk_bytes(const struct shared *s) {
  uint64_t n = 0;
  for (size_t i = 0; i < BULK_STREAMS; i++) n += s->bulk[i].tally.bytes;
  return n;
}

static bool all_are_bulk(struct shared *s) {
  size_t n = 0;
  for (size_t i = 0; i < BULK_STREAMS; i++) {
    stream_feed(&s->bulk[i]);
    n += s->bulk[i].tally.bytes >= LOOP_SHARE_BYTES;
  }
  return n == BULK_STREAMS;
}

static bool message_passes(struct rig *r) {
  char got[64];
  return recv(r->agent, got, sizeof got, 0) > 0;
}

static void a_short_message_waits_for_one_share_of_all_bulk_together(void **state) {
  struct shared *s = *state;
  RIG_UNTIL(s->rig, all_are_bulk(s));
  rig_send_text(s->rig->visitor, "somebody is here");
  RIG_UNTIL(s->rig, message_passes(s->rig));
  for (int i = 0; i < ROUNDS; i++) {
    (void)all_are_bulk(s);
    uint64_t before = bulk_bytes(s);
    rig_send_text(s->rig->visitor, "x");
    loop_turn(s->rig->loop, 0);
    assert_true(message_passes(s->rig));
    if (i >= WARM_UP) assert_true(bulk_bytes(s) - before <= MOST_BYTES);
  }
}

static void every_bulk_stream_has_its_turns(void **state) {
  struct shared *s = *state;
  uint64_t before[BULK_STREAMS];
  RIG_UNTIL(s->rig, all_are_bulk(s));
  for (size_t i = 0; i < BULK_STREAMS; i++) before[i] = s->bulk[i].tally.bytes;
  for (int i = 0; i < ROUNDS * BULK_STREAMS; i++) {
    (void)all_are_bulk(s);
    loop_turn(s->rig->loop, 0);
  }
  for (size_t i = 0; i < BULK_STREAMS; i++) assert_true(s->bulk[i].tally.bytes - before[i] > LOOP_SHARE_BYTES);
}

#define IN_A_KIND(kind, f) {#f " (" #kind ")", f, shared_set_up, shared_tear_down, &kind}

int main(void) {
  const struct CMUnitTest tests[] = {
      IN_A_KIND(spliced, a_short_message_waits_for_one_share_of_all_bulk_together),
      IN_A_KIND(copied, a_short_message_waits_for_one_share_of_all_bulk_together),
      IN_A_KIND(sealed, a_short_message_waits_for_one_share_of_all_bulk_together),
      IN_A_KIND(spliced, every_bulk_stream_has_its_turns),
      IN_A_KIND(sealed, every_bulk_stream_has_its_turns)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
