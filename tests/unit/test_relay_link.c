/* What one control link may do to a worker. */
#include "relay_agent.h"

static int set_up(void **state) {
  *state = link_set_up(false);
  return 0;
}

static int tear_down(void **state) { return link_tear_down(*state); }

static void a_record_full_of_frames_is_worked_off_over_many_turns(void **state) {
  enum { PINGS = 10 * LINK_FRAMES_PER_TURN_MAX };
  struct fixture *f = *state;
  uint8_t bytes[RECORD_PLAIN_MAX];
  struct writer w = writer_of(bytes, sizeof bytes);
  for (int i = 0; i < PINGS; i++) frame_ping_encode(&w, FRAME_PING, (uint64_t)i);
  agent_say(f, &w);
  for (unsigned answered = 0; answered < PINGS;) {
    loop_turn(f->here.worker.loop, -1);       /* and none of them waits for an event that does not come */
    unsigned now = agent_hears(f, FRAME_PONG);
    assert_true(now <= LINK_FRAMES_PER_TURN_MAX);
    answered += now;
  }
  loop_turn(f->here.worker.loop, 0);
  w = writer_of(bytes, sizeof bytes);
  frame_ping_encode(&w, FRAME_PING, 1);
  agent_say(f, &w);
  loop_turn(f->here.worker.loop, -1);         /* then it is read again */
  assert_int_equal(agent_hears(f, FRAME_PONG), 1);
}

static void bytes_that_are_no_frame_yet_are_no_sign_of_life(void **state) {
  struct fixture *f = *state;
  uint8_t bytes[64], record[RECORD_HEADER_BYTES + RECORD_CIPHER_MAX];
  struct writer w = writer_of(bytes, sizeof bytes);
  frame_ping_encode(&w, FRAME_PONG, 1);
  agent_seal(f, &w, record);
  f->link->engine.heard_ms = 1;
  size_t n = w.len + RECORD_OVERHEAD_BYTES;
  for (size_t i = 0; i < n; i++) {
    assert_int_equal(f->link->engine.heard_ms, 1);
    agent_send(f, record + i, 1);
    loop_turn(f->here.worker.loop, -1);
  }
  assert_true(f->link->engine.heard_ms > 1);
}

#define T(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
int main(void) {
  const struct CMUnitTest tests[] = {T(a_record_full_of_frames_is_worked_off_over_many_turns),
                                     T(bytes_that_are_no_frame_yet_are_no_sign_of_life)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
