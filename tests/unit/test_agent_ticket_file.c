/* The kept ticket: what is written is read back, and what is not understood is neither used nor overwritten. */
#include "cm.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/ticket_file.h"

static char folder[] = "/tmp/adit-ticket-XXXXXX";
static char path[64];

static int setup(void **state) {
  (void)state;
  strcpy(folder, "/tmp/adit-ticket-XXXXXX");
  if (mkdtemp(folder) == NULL) return -1;
  snprintf(path, sizeof path, "%s/keep", folder);
  return 0;
}

static int teardown(void **state) {
  (void)state;
  unlink(path);
  return rmdir(folder);            /* fails when a temporary file was left behind */
}

static struct ticket_file sample(void) {
  struct ticket_file f = {
      .relay = "r1.example.com", .host = "0123456789abcdefghjkmnpq.r1.example.com", .incarnation = 7, .ticket_n = 100};
  memset(f.ticket, 0x5a, f.ticket_n);
  return f;
}

static void write_text(const char *text) {
  FILE *file = fopen(path, "w");
  assert_non_null(file);
  fputs(text, file);
  fclose(file);
}

static void a_written_ticket_is_read_back(void **state) {
  (void)state;
  struct ticket_file f = sample(), g;
  bool found;
  assert_int_equal(ticket_file_write(path, &f, NULL), 0);
  assert_int_equal(ticket_file_read(path, &g, &found, NULL), 0);
  assert_true(found);
  assert_string_equal(g.relay, f.relay);
  assert_string_equal(g.host, f.host);
  assert_int_equal(g.incarnation, 7);
  assert_int_equal(g.ticket_n, f.ticket_n);
  assert_memory_equal(g.ticket, f.ticket, f.ticket_n);
}

static void a_write_that_was_given_up_replaces_nothing(void **state) {
  (void)state;
  struct ticket_file f = sample(), g;
  const _Atomic bool given_up = true;
  bool found;
  assert_int_equal(ticket_file_write(path, &f, NULL), 0);
  f.incarnation = 6;
  assert_int_equal(ticket_file_write_unless(&given_up, path, &f, NULL), 0);
  assert_int_equal(ticket_file_read(path, &g, &found, NULL), 0);
  assert_int_equal(g.incarnation, 7);
}

static void it_is_for_its_owner_only(void **state) {
  (void)state;
  struct ticket_file f = sample();
  struct stat st;
  assert_int_equal(ticket_file_write(path, &f, NULL), 0);
  assert_int_equal(stat(path, &st), 0);
  assert_int_equal(st.st_mode & 0777, 0600);
}

static void a_missing_and_an_empty_file_hold_none(void **state) {
  (void)state;
  struct ticket_file f;
  bool found = true;
  assert_int_equal(ticket_file_read(path, &f, &found, NULL), 0);
  assert_false(found);
  write_text("");
  assert_int_equal(ticket_file_read(path, &f, &found, NULL), 0);
  assert_false(found);
}

static void a_corrupt_file_is_an_error_with_its_name(void **state) {
  (void)state;
  struct ticket_file f;
  struct err e = {0};
  bool found;
  write_text("something of the user's\n");
  assert_int_equal(ticket_file_read(path, &f, &found, &e), ERR_SYNTAX);
  assert_false(found);
  assert_non_null(strstr(e.text, path));
}

static void a_file_larger_than_its_limit_is_refused(void **state) {
  (void)state;
  struct ticket_file f;
  bool found;
  char *text = malloc(TICKET_FILE_MAX_BYTES + 100);
  assert_non_null(text);
  memset(text, 'a', TICKET_FILE_MAX_BYTES + 99);
  text[TICKET_FILE_MAX_BYTES + 99] = '\0';
  write_text(text);
  free(text);
  assert_int_equal(ticket_file_read(path, &f, &found, NULL), ERR_SYNTAX);
}

static void every_cut_and_every_changed_line_is_refused(void **state) {
  (void)state;
  struct ticket_file f = sample(), g;
  char text[TICKET_FILE_MAX_BYTES], changed[TICKET_FILE_MAX_BYTES];
  size_t n;
  assert_int_equal(ticket_file_encode(&f, text, sizeof text, &n), 0);
  for (size_t cut = 0; cut < n; cut++) assert_int_equal(ticket_file_decode(text, cut, &g, NULL), ERR_SYNTAX);
  static const char *const bad[] = {
    "adit ticket 2\nrelay a.b\nhost c.a.b\nincarnation 1\nticket AAAA\n",
    "adit ticket 1\nrelay a b\nhost c.a.b\nincarnation 1\nticket AAAA\n",
    "adit ticket 1\nrelay a.b\nhost -\nincarnation 1\nticket AAAA\n",
    "adit ticket 1\nrelay a.b\nhost c.a.b\nincarnation -1\nticket AAAA\n",
    "adit ticket 1\nrelay a.b\nhost c.a.b\nincarnation 4294967295\nticket AAAA\n",
    "adit ticket 1\nrelay a.b\nhost c.a.b\nincarnation 1\nticket !!\n",
    "adit ticket 1\nrelay a.b\nhost c.a.b\nincarnation 1\nticket AAAA\nmore\n",
    "adit ticket 1\nhost c.a.b\nrelay a.b\nincarnation 1\nticket AAAA\n"};
  for (size_t i = 0; i < ARRAY_LEN(bad); i++)
    assert_int_equal(ticket_file_decode(bad[i], strlen(bad[i]), &g, NULL), ERR_SYNTAX);
  memcpy(changed, text, n);
  changed[n - 5] = '\0';
  assert_int_equal(ticket_file_decode(changed, n, &g, NULL), ERR_SYNTAX);
}

static void what_is_no_regular_file_is_refused(void **state) {
  (void)state;
  struct ticket_file f;
  struct err e = {0};
  bool found;
  assert_int_equal(mkfifo(path, 0600), 0);
  assert_int_equal(ticket_file_read(path, &f, &found, &e), ERR_IO);
  assert_non_null(strstr(e.text, "not a regular file"));
  assert_int_equal(ticket_file_read("/dev/null", &f, &found, &e), ERR_IO);
}

static void a_folder_that_is_not_there_is_a_clear_error(void **state) {
  (void)state;
  struct ticket_file f = sample();
  struct err e = {0};
  assert_int_equal(ticket_file_write("/nonexistent/folder/keep", &f, &e), ERR_IO);
  assert_non_null(strstr(e.text, "/nonexistent/folder/keep"));
}

static void what_is_set_aside_is_not_replaced_by_any_write(void **state) {
  (void)state;
  struct ticket_file f = sample(), g;
  struct err e = {0};
  bool found;
  char *old, names[TICKET_FILES_OLD_MAX][80];
  assert_int_equal(ticket_file_set_aside(path, &old, &e), 0);
  assert_null(old);                /* there was nothing */
  for (int i = 0; i < TICKET_FILES_OLD_MAX; i++) {
    snprintf(names[i], sizeof names[i], i == 0 ? "%s.old" : "%s.old.%d", path, i + 1);
    f.incarnation = (uint32_t)i;
    assert_int_equal(ticket_file_write(path, &f, &e), 0);
    assert_int_equal(ticket_file_set_aside(path, &old, &e), 0);
    assert_string_equal(old, names[i]);
    free(old);
  }
  assert_int_equal(ticket_file_set_aside(path, &old, &e), ERR_LIMIT);
  assert_null(old);
  assert_non_null(strstr(e.text, path));
  f.incarnation = 99;
  assert_int_equal(ticket_file_write(path, &f, &e), 0);
  for (int i = 0; i < TICKET_FILES_OLD_MAX; i++) {
    assert_int_equal(ticket_file_read(names[i], &g, &found, NULL), 0);
    assert_true(found && g.incarnation == (uint32_t)i);
    unlink(names[i]);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
    cmocka_unit_test_setup_teardown(a_written_ticket_is_read_back, setup, teardown),
    cmocka_unit_test_setup_teardown(it_is_for_its_owner_only, setup, teardown),
    cmocka_unit_test_setup_teardown(a_write_that_was_given_up_replaces_nothing, setup, teardown),
    cmocka_unit_test_setup_teardown(a_missing_and_an_empty_file_hold_none, setup, teardown),
    cmocka_unit_test_setup_teardown(a_corrupt_file_is_an_error_with_its_name, setup, teardown),
    cmocka_unit_test_setup_teardown(a_file_larger_than_its_limit_is_refused, setup, teardown),
    cmocka_unit_test_setup_teardown(every_cut_and_every_changed_line_is_refused, setup, teardown),
    cmocka_unit_test_setup_teardown(what_is_set_aside_is_not_replaced_by_any_write, setup, teardown),
    cmocka_unit_test_setup_teardown(what_is_no_regular_file_is_refused, setup, teardown),
    cmocka_unit_test_setup_teardown(a_folder_that_is_not_there_is_a_clear_error, setup, teardown),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
