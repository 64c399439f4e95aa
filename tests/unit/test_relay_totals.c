/* What one relay has counted goes on in another. */
#include "relay_pair.h"

#include "relay/report.h"
#include "relay/totals.h"

static struct one_relay here, there;
static const struct certificate chain[] = {{.id = {1}, .name = "laptop", .max_tunnels = 5},
                                           {.id = {2}, .name = "build", .max_tunnels = 5}};

static int set_up(void **state) {
  (void)state;
  one_relay_open(&here, PUMP_COPY);
  one_relay_open(&there, PUMP_COPY);
  return 0;
}

static int tear_down(void **state) {
  (void)state;
  one_relay_close(&here);
  one_relay_close(&there);
  return 0;
}

static void carry(void) {
  struct buf bytes;
  buf_init(&bytes, TOTALS_EXPORT_MAX_BYTES);
  assert_int_equal(totals_export(&here.relay, &bytes), 0);
  assert_int_equal(totals_import(&there.relay, buf_data(&bytes), bytes.len), 0);
  totals_forget(&here.relay, buf_data(&bytes), bytes.len);
  buf_free(&bytes);
}

static void counters_are_added_and_what_there_is_now_is_not(void **state) {
  (void)state;
  METRIC_ADD(&here.worker.metrics, streams_total, 5);
  METRIC_ADD(&here.worker.metrics, handshakes_now, 3);
  here.worker.metrics.streams_closed[CLOSE_CLEAN] = 4;
  here.worker.metrics.visitors_refused[NOTICE_LOST] = 6;
  METRIC_ADD(&there.worker.metrics, streams_total, 2);
  carry();
  struct metrics sum = report_sum(&there.relay);
  assert_int_equal(sum.streams_total, 7);
  assert_int_equal(sum.handshakes_now, 0);
  assert_int_equal(sum.streams_closed[CLOSE_CLEAN], 4);
  assert_int_equal(sum.visitors_refused[NOTICE_LOST], 6);
  here.worker.metrics.handshakes_now = 0;
}

static struct owner *comes(struct one_relay *r) {
  struct owner *o = relay_owner(r, chain, 2);
  o->usage->streams_total += 3;
  o->usage->parent->streams_total += 3;
  o->usage->to_visitors.bytes += 100;
  o->usage->parent->to_visitors.bytes += 100;
  return o;
}

static void what_has_passed_for_a_token_is_added_to_that_of_one_who_is_here(void **state) {
  (void)state;
  struct owner *o = comes(&here), *is = comes(&there);
  carry();
  assert_int_equal(is->usage->streams_total, 6);
  assert_int_equal(is->usage->to_visitors.bytes, 200);
  assert_int_equal(is->usage->parent->to_visitors.bytes, 200);
  registry_owner_unref(here.relay.registry, o);
  registry_owner_unref(there.relay.registry, is);
}

static void who_is_not_here_yet_finds_what_has_passed_for_him(void **state) {
  (void)state;
  registry_owner_unref(here.relay.registry, comes(&here));
  carry();
  struct owner *is = comes(&there);
  assert_string_equal(is->usage->name, "laptop/build");
  assert_int_equal(is->usage->streams_total, 6);
  assert_int_equal(is->usage->parent->streams_total, 6);
  registry_owner_unref(there.relay.registry, is);
}

static void what_is_given_is_not_counted_here_any_more(void **state) {
  (void)state;
  struct owner *o = comes(&here), *is = comes(&there);
  METRIC_ADD(&here.worker.metrics, streams_total, 5);
  METRIC_ADD(&here.worker.metrics, handshakes_now, 3);
  carry();
  assert_int_equal(report_sum(&here.relay).streams_total, 0);
  assert_int_equal(report_sum(&here.relay).handshakes_now, 3);
  assert_int_equal(o->usage->streams_total, 0);
  METRIC_ADD(&here.worker.metrics, streams_total, 1);
  o->usage->to_visitors.bytes += 11;
  carry();
  assert_int_equal(report_sum(&there.relay).streams_total, 6);
  assert_int_equal(is->usage->streams_total, 6);
  assert_int_equal(is->usage->to_visitors.bytes, 211);
  here.worker.metrics.handshakes_now = 0;
  registry_owner_unref(here.relay.registry, o);
  registry_owner_unref(there.relay.registry, is);
}

/* From a release that counts other things. */
static void counters_that_it_does_not_know_are_passed_over(void **state) {
  (void)state;
  uint8_t bytes[128];
  struct writer w = writer_of(bytes, sizeof bytes);
  struct metrics m = {0};
  write_text8(&w, "of_the_future_total");
  write_u64(&w, 9);
  write_text8(&w, "streams_total");
  write_u64(&w, 7);
  write_text8(&w, "streams_now");
  write_u64(&w, 7);
  write_text8(&w, "");
  struct reader r = reader_of(bytes, w.len);
  metrics_read_add(&m, &r);
  assert_true(reader_done(&r));
  assert_int_equal(m.streams_total, 7);
  assert_int_equal(m.streams_now, 0);
}

static void no_part_of_its_bytes_counts_anything(void **state) {
  (void)state;
  struct buf bytes;
  METRIC_ADD(&here.worker.metrics, streams_total, 5);
  registry_owner_unref(here.relay.registry, comes(&here));
  buf_init(&bytes, TOTALS_EXPORT_MAX_BYTES);
  assert_int_equal(totals_export(&here.relay, &bytes), 0);
  assert_int_equal(report_sum(&here.relay).streams_total, 5);    /* whoever is being told of it here is told all */
  totals_forget(&here.relay, buf_data(&bytes), bytes.len);
  uint8_t *p = buf_data(&bytes);
  for (size_t n = 0; n < bytes.len; n++) assert_int_equal(totals_import(&there.relay, p, n), ERR_SYNTAX);
  assert_int_equal(there.worker.metrics.streams_total, 0);
  for (size_t i = 0; i < bytes.len; i++) {
    p[i] ^= 0x41;
    int rc = totals_import(&there.relay, p, bytes.len);
    assert_true(rc == 0 || rc == ERR_SYNTAX);
    p[i] ^= 0x41;
  }
  METRIC_ADD(&here.worker.metrics, streams_total, 3);
  bytes.max = bytes.len + 4;
  assert_int_equal(totals_export(&here.relay, &bytes), ERR_LIMIT);
  assert_int_equal(report_sum(&here.relay).streams_total, 3);
  buf_free(&bytes);
}

#define T(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
int main(void) {
  const struct CMUnitTest tests[] = {T(counters_are_added_and_what_there_is_now_is_not),
                                     T(what_has_passed_for_a_token_is_added_to_that_of_one_who_is_here),
                                     T(who_is_not_here_yet_finds_what_has_passed_for_him),
                                     T(what_is_given_is_not_counted_here_any_more),
                                     T(counters_that_it_does_not_know_are_passed_over),
                                     T(no_part_of_its_bytes_counts_anything)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
