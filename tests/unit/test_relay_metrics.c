/* The relay's numbers as text. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cm.h"
#include "relay/metrics.h"
#include "relay/rights.h"

static const struct rights rights = {.user = "adit", .seccomp = "no: this build is without libseccomp"};

static struct status some_status(void) {
  struct status s = {.domain = "r1.example.com",
                     .version = "1.2.3",
                     .uptime_s = 5,
                     .descriptors_now = 10,
                     .descriptors_max = 1024,
                     .certificate_begins_s = 1900000000,
                     .certificate_expires_s = 2000000000,
                     .certificate_valid = true,
                     .rights = &rights};
  s.sum.streams_total = 42;
  s.sum.streams_closed[CLOSE_TRUNCATED] = 3;
  return s;
}

static void assert_has(const char *text, const char *part) {
  if (strstr(text, part) == NULL)
    fail_msg("no %s in %s", part, text);
}

static void the_counters_of_all_workers_are_added(void **unused) {
  (void)unused;
  struct metrics sum = {0}, one = {0}, two = {0};
  METRIC_ADD(&one, streams_total, 5);
  METRIC_ADD(&two, streams_total, 7);
  METRIC_ADD(&one, streams_now, 3);
  METRIC_SUB(&one, streams_now, 1);
  one.streams_closed[CLOSE_CLEAN] = 1;
  two.streams_closed[CLOSE_REASONS - 1] = 2;
  metrics_add(&sum, &one);
  metrics_add(&sum, &two);
  assert_int_equal(sum.streams_total, 12);
  assert_int_equal(sum.streams_now, 2);
  assert_int_equal(sum.streams_closed[CLOSE_CLEAN], 1);
  assert_int_equal(sum.streams_closed[CLOSE_REASONS - 1], 2);
}

static void every_sample_has_its_help_and_type_before_it(void **unused) {
  (void)unused;
  struct status s = some_status();
  char *text = metrics_text(&s);
  assert_non_null(text);
  char name[128] = "";
  int samples = 0;
  for (char *line = text, *end; *line != '\0'; line = end + 1) {
    end = strchr(line, '\n');
    assert_non_null(end);                      /* the last line ends, too */
    *end = '\0';
    if (strncmp(line, "# HELP ", 7) == 0) {
      assert_int_equal(sscanf(line, "# HELP %127s", name), 1);
      assert_true(strlen(line) > 8 + strlen(name));
    } else if (strncmp(line, "# TYPE ", 7) == 0) {
      char typed[128], type[16];
      assert_int_equal(sscanf(line, "# TYPE %127s %15s", typed, type), 2);
      assert_string_equal(typed, name);
      bool counts = strlen(name) > 6 && strcmp(name + strlen(name) - 6, "_total") == 0;
      assert_string_equal(type, counts ? "counter" : "gauge");
    } else {
      assert_int_equal(strncmp(line, name, strlen(name)), 0);
      assert_int_equal(strncmp(line, "adit_", 5), 0);
      samples++;
    }
  }
  assert_true(samples > 30);
  free(text);
}

static void closed_streams_are_counted_by_reason(void **unused) {
  (void)unused;
  struct status s = some_status();
  char want[128], *text = metrics_text(&s);
  assert_non_null(text);
  snprintf(want, sizeof want, "\nadit_streams_closed_total{reason=\"%s\"} 3\n", close_reason_name(CLOSE_TRUNCATED));
  assert_has(text, want);
  assert_has(text, "\nadit_streams_total 42\n");
  assert_has(text, "\nadit_build_info{version=\"1.2.3\"} 1\n");
  assert_has(text, "\nadit_descriptors_max 1024\n");
  free(text);
}

static void a_label_value_is_escaped(void **unused) {
  (void)unused;
  struct status s = some_status();
  s.version = "a\"b\\c\nd";
  char *text = metrics_text(&s);
  assert_non_null(text);
  assert_has(text, "{version=\"a\\\"b\\\\c\\nd\"} 1\n");
  free(text);
}

static void the_status_begins_with_the_numbers(void **unused) {
  (void)unused;
  struct status s = some_status();
  char *text = status_json_begin(&s);
  assert_non_null(text);
  assert_has(text, "{\"version\":\"1.2.3\",\"domain\":\"r1.example.com\",\"uptime_s\":5,\"draining\":false,"
                   "\"certificate_expires_at_s\":2000000000,"
                   "\"certificate_begins_at_s\":1900000000,\"certificate_valid\":true");
  assert_has(text, "\"rights\":{\"user\":\"adit\",");
  assert_has(text, "\"seccomp\":\"no: this build is without libseccomp\"");
  assert_has(text, "\"streams_total\":42");
  assert_string_equal(text + strlen(text) - strlen("}},\"tunnels\":["), "}},\"tunnels\":[");
  free(text);
  s.draining = true;
  text = status_json_begin(&s);
  assert_non_null(text);
  assert_has(text, "\"draining\":true");
  free(text);
}

static void tunnels_follow_piece_by_piece(void **unused) {
  (void)unused;
  const struct status_tunnel t[] = {{.host = "abc.r1.example.com", .owner = "laptop", .token = "laptop/job",
      .agent = "adit/1", .agent_address = "192.0.2.7:4711",
                                     .tcp_port = 20001, .streams_now = 1, .streams_total = 9, .age_s = 60},
                                    {.host = "h", .owner = "o"}};
  static const char one[] = "{\"host\":\"abc.r1.example.com\",\"owner\":\"laptop\",\"token\":\"laptop/"
                            "job\",\"agent\":\"adit/1\",\"agent_address\":\"192.0.2.7:4711\","
                            "\"tcp_port\":20001,\"streams_now\":1,\"streams_total\":9,\"age_s\":60}";
  static const char two[] =
      "{\"host\":\"h\",\"owner\":\"o\",\"token\":\"\",\"agent\":\"\",\"agent_address\":\"\",\"tcp_port\":null,"
      "\"streams_now\":0,\"streams_total\":0,\"age_s\":0}";
  char want[1024];
  char *text = status_json_tunnels(t, 2, true);
  assert_non_null(text);
  snprintf(want, sizeof want, "%s,%s", one, two);
  assert_string_equal(text, want);
  free(text);
  text = status_json_tunnels(t, 1, false);
  assert_non_null(text);
  snprintf(want, sizeof want, ",%s", one);
  assert_string_equal(text, want);
  free(text);
}

static void tokens_follow_with_what_has_passed(void **unused) {
  (void)unused;
  const struct status_token t[] = {{.name = "lap\"top", .id = "ab01", .streams_now = 1, .streams_total = 2,
      .bytes_from_visitors = 3,
                                    .bytes_to_visitors = UINT64_MAX}, {.name = "n", .id = "00", .root = "ff"}};
  char *text = status_json_tokens(t, 2, true);
  assert_non_null(text);
  assert_string_equal(
      text, "{\"name\":\"lap\\\"top\",\"id\":\"ab01\",\"streams_now\":1,\"streams_total\":2,\"bytes_from_visitors\":3,"
            "\"bytes_to_visitors\":18446744073709551615},{\"name\":\"n\",\"id\":\"00\",\"root\":\"ff\","
            "\"streams_now\":0,\"streams_total\":0,\"bytes_from_visitors\":0,\"bytes_to_visitors\":0}");
  free(text);
  text = status_json_tokens(t, 1, false);
  assert_non_null(text);
  assert_int_equal(text[0], ',');
  free(text);
}

/* What an agent says of itself cannot break out of its string. */
static void texts_of_agents_are_escaped(void **unused) {
  (void)unused;
  static const struct { const char *in, *out; } cases[] = {
    {"a\"},{\"x", "\"agent\":\"a\\\"},{\\\"x\","},
    {"a\\", "\"agent\":\"a\\\\\","},
    {"a\nb\x1b\x7f", "\"agent\":\"a\\u000ab\\u001b\\u007f\","},
    {"caf\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80", "\"agent\":\"caf\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80\","},
    {"\xc3", "\"agent\":\"\\ufffd\","},                                  /* cut off */
    {"\xe2\x82", "\"agent\":\"\\ufffd\\ufffd\","},
    {"\xc0\xaf", "\"agent\":\"\\ufffd\\ufffd\","},                       /* overlong */
    {"\xe0\x80\xaf", "\"agent\":\"\\ufffd\\ufffd\\ufffd\","},
    {"\xed\xa0\x80", "\"agent\":\"\\ufffd\\ufffd\\ufffd\","},            /* a surrogate */
    {"\xf4\x90\x80\x80", "\"agent\":\"\\ufffd\\ufffd\\ufffd\\ufffd\","}, /* above U+10FFFF */
    {"\xff\x80x", "\"agent\":\"\\ufffd\\ufffdx\","},
  };
  for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
    struct status_tunnel t = {.host = "h", .owner = "o"};
    snprintf(t.agent, sizeof t.agent, "%s", cases[i].in);
    char *text = status_json_tunnels(&t, 1, true);
    assert_non_null(text);
    assert_has(text, cases[i].out);
    free(text);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
    cmocka_unit_test(the_counters_of_all_workers_are_added),
    cmocka_unit_test(every_sample_has_its_help_and_type_before_it),
    cmocka_unit_test(closed_streams_are_counted_by_reason),
    cmocka_unit_test(a_label_value_is_escaped),
    cmocka_unit_test(the_status_begins_with_the_numbers),
    cmocka_unit_test(tunnels_follow_piece_by_piece),
    cmocka_unit_test(tokens_follow_with_what_has_passed),
    cmocka_unit_test(texts_of_agents_are_escaped),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
