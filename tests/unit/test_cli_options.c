/* The table-driven parser: what it takes, and what it refuses with which words. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "cli/command.h"

struct target {
  bool flag;
  const char *text, *choice;
  struct option_list list;
  uint64_t number, duration_ms;
  char copy[32];
};

static int set_even(void *target, const char *value, struct err *e) {
  if (strlen(value) % 2 != 0) return err_set(e, ERR_USAGE, "%s: odd", value);
  strcpy(((struct target *)target)->copy, value);
  return 0;
}

#define AT(member) .offset = offsetof(struct target, member)
static const struct option_row rows[] = {
  {.name = "flag", .kind = OPTION_FLAG, AT(flag), .help = "A flag."},
  {.name = "text", .value = "TEXT", .kind = OPTION_TEXT, AT(text), .help = "A text that is long enough to be wrapped, "
      "because it says more than fits into one line of eighty columns."},
  {.name = "list", .value = "ITEM", .kind = OPTION_LIST, AT(list), .help = "A list."},
  {.name = "number", .value = "N", .kind = OPTION_NUMBER, AT(number), .min = 1, .max = 256, .help = "A number."},
  {.name = "drain", .value = "DURATION", .kind = OPTION_DURATION, AT(duration_ms), .min = 0, .max = 60000,
   .help = "A duration."},
  {.name = "pump", .value = "splice|copy", .kind = OPTION_CHOICE, AT(choice), .choices = "splice|copy",
   .help = "A choice."},
  {.name = "secret", .value = "WORD", .kind = OPTION_CALL, .set = set_even, .secret = true, .help = "A secret."},
  {.name = "inner", .value = "FD", .kind = OPTION_TEXT, AT(text), .hidden = true, .help = "Nobody sees this."},
};
static const struct command command = {
  .name = "try", .words = "WORD", .purpose = "tries.", .examples = "adit try", .options = rows,
      .options_n = ARRAY_LEN(rows)};

enum { ARGUMENTS_MAX = 160 };
static char storage[4096];

/* Parses words that are separated by blanks; argv points into storage, which is writable as a process's is. */
static int parse(const char *line, struct target *t, struct options_parsed *parsed, struct err *e) {
  char *argv[ARGUMENTS_MAX + 1];
  int argc = 0;
  assert_true(strlen(line) < sizeof storage);
  strcpy(storage, line);
  memset(t, 0, sizeof *t);
  for (char *word = strtok(storage, " "); word != NULL; word = strtok(NULL, " ")) {
    assert_true(argc < ARGUMENTS_MAX);
    argv[argc++] = word;
  }
  argv[argc] = NULL;
  return options_parse(&command, t, argc, argv, parsed, e);
}

static void assert_refused(const char *line, const char *text) {
  struct target t;
  struct options_parsed parsed;
  struct err e = {0};
  assert_int_equal(parse(line, &t, &parsed, &e), ERR_USAGE);
  if (strcmp(e.text, text) != 0) fail_msg("%s\n  gave: %s\n  want: %s", line, e.text, text);
}

static void takes_options_in_both_forms_and_words_between(void **state) {
  (void)state;
  struct target t;
  struct options_parsed parsed;
  struct err e;
  assert_int_equal(parse("8000 --flag --text=a=b --list x --number 256 localhost:1 --list y --drain 1500ms --pump copy",
                         &t, &parsed, &e),
                   0);
  assert_true(t.flag);
  assert_string_equal(t.text, "a=b");
  assert_int_equal(t.list.n, 2);
  assert_string_equal(t.list.at[1], "y");
  assert_int_equal(t.number, 256);
  assert_int_equal(t.duration_ms, 1500);
  assert_string_equal(t.choice, "copy");
  assert_int_equal(parsed.words_n, 2);
  assert_string_equal(parsed.words[1], "localhost:1");
  assert_null(parsed.rest);
  assert_true(parsed.given[0]);
  assert_false(parsed.given[6]);
}

static void what_follows_two_hyphens_is_left_alone(void **state) {
  (void)state;
  struct target t;
  struct options_parsed parsed;
  struct err e;
  char one[] = "1", hyphens[] = "--", sh[] = "sh", flag[] = "--flag";
  char *argv[] = {one, hyphens, sh, flag, NULL};
  memset(&t, 0, sizeof t);
  assert_int_equal(options_parse(&command, &t, 4, argv, &parsed, &e), 0);
  assert_ptr_equal(parsed.rest, argv + 2);
  assert_false(t.flag);
  assert_int_equal(parsed.words_n, 1);
}

static void the_last_of_repeated_options_wins(void **state) {
  (void)state;
  struct target t;
  struct options_parsed parsed;
  struct err e;
  assert_int_equal(parse("--text a --text b", &t, &parsed, &e), 0);
  assert_string_equal(t.text, "b");
}

static void unknown_options_suggest_the_nearest(void **state) {
  (void)state;
  assert_refused("--flg", "--flg: no such option (did you mean --flag?)");
  assert_refused("--lists x", "--lists: no such option (did you mean --list?)");
  assert_refused("--numbre=3", "--numbre: no such option (did you mean --number?)");
  assert_refused("--zzzzzzzzz", "--zzzzzzzzz: no such option (see adit try --help)");
  assert_refused("-flag", "-flag: no such option (did you mean --flag?)");
  assert_refused("-x", "-x: no such option (see adit try --help)");
}

static void hidden_options_are_never_suggested(void **state) {
  (void)state;
  assert_refused("--inne 3", "--inne: no such option (see adit try --help)");
}

static void values_that_are_missing_or_too_much_are_refused(void **state) {
  (void)state;
  assert_refused("--text", "--text: its value is missing (write --text TEXT)");
  assert_refused("--text -- x", "--text: its value is missing (write --text TEXT)");
  assert_refused("--text=", "--text: its value is empty (write --text TEXT)");
  assert_refused("--flag=yes", "--flag: takes no value (leave out '=yes')");
}

static void numbers_out_of_range_are_refused(void **state) {
  (void)state;
  static const char *const bad[] = {"0", "257", "-1", "3x", "99999999999999999999999", "0x10", "1.5"};
  for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
    char line[80], text[160];
    (void)snprintf(line, sizeof line, "--number %s", bad[i]);
    (void)snprintf(text, sizeof text, "--number %s: not a number from 1 to 256 (try --number 1)", bad[i]);
    assert_refused(line, text);
  }
}

static void durations_and_choices_are_checked(void **state) {
  (void)state;
  assert_refused("--drain soon", "--drain soon: not a duration (write a number and a unit: 250ms, 10s, 5m, 2h, 30d)");
  assert_refused("--drain 5", "--drain 5: not a duration (write a number and a unit: 250ms, 10s, 5m, 2h, 30d)");
  assert_refused("--drain 2m", "--drain 2m: out of range (it may be from 0s to 60s)");
  assert_refused("--pump spli", "--pump spli: no such choice (it is one of splice|copy)");
  assert_refused("--pump splice|copy", "--pump splice|copy: no such choice (it is one of splice|copy)");
}

static void lists_and_words_are_bounded(void **state) {
  (void)state;
  char line[2048] = "";
  for (int i = 0; i <= OPTIONS_WORDS_MAX; i++) strcat(line, "w ");
  assert_refused(line, "arguments: more than 64 (give fewer)");
  line[0] = 0;
  for (int i = 0; i <= OPTION_LIST_MAX; i++) strcat(line, "--list=x ");
  assert_refused(line, "--list: given more than 64 times (leave some out)");
}

static void secrets_are_wiped_from_the_argument_list(void **state) {
  (void)state;
  struct target t = {0};
  struct options_parsed parsed;
  struct err e;
  char option[] = "--secret", next[] = "abcd", joined[] = "--secret=efgh", wrong[] = "--secret=odd";
  char *argv[] = {option, next, joined, NULL};
  assert_int_equal(options_parse(&command, &t, 3, argv, &parsed, &e), 0);
  assert_string_equal(t.copy, "efgh");
  for (size_t i = 0; i < sizeof next; i++) assert_int_equal(next[i], 0);
  assert_string_equal(joined, "--secret=");
  char *bad[] = {wrong, NULL};
  assert_int_equal(options_parse(&command, &t, 1, bad, &parsed, &e), ERR_USAGE);
  assert_string_equal(e.text, "--secret: odd: odd");
  assert_string_equal(wrong, "--secret=");
}

static void help_contains_every_option_but_hidden_ones(void **state) {
  (void)state;
  char *text = NULL;
  size_t n = 0;
  FILE *f = open_memstream(&text, &n);
  options_help(&command, f);
  (void)fclose(f);
  for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
    char name[64];
    (void)snprintf(name, sizeof name, "  --%s", rows[i].name);
    assert_true((strstr(text, name) != NULL) == !rows[i].hidden);
  }
  for (char *line = strtok(text, "\n"); line != NULL; line = strtok(NULL, "\n")) assert_true(strlen(line) <= 80);
  free(text);
}

/* Dots behind a value would read as several values behind one option. */
static void what_may_be_given_several_times_is_said_in_words(void **state) {
  (void)state;
  void (*const put[])(const struct command *c, FILE *to) = {options_help, options_help_mdoc};
  for (size_t i = 0; i < ARRAY_LEN(put); i++) {
    char *text = NULL;
    size_t n = 0;
    FILE *f = open_memstream(&text, &n);
    put[i](&command, f);
    (void)fclose(f);
    const char *said = strstr(text, "May be given several times.");
    assert_non_null(said);
    assert_null(strstr(said + 1, "May be given"));
    assert_null(strstr(text, "..."));
    free(text);
  }
}

static void the_manual_page_list_is_escaped(void **state) {
  (void)state;
  static const struct option_row odd[] = {{.name = "a-b", .value = "X", .kind = OPTION_TEXT,
                                           .help = ".so \\n. 'And more."}};
  static const struct command one = {.name = "odd", .options = odd, .options_n = 1};
  char *text = NULL;
  size_t n = 0;
  FILE *f = open_memstream(&text, &n);
  options_help_mdoc(&one, f);
  (void)fclose(f);
  assert_string_equal(text, ".Bl -tag -width Ds\n.It Fl Fl a\\-b Ar X\n\\&.so \\en.\n\\&'And more.\n.El\n");
  free(text);
}

/* --- configuration files --- */

static int read_file(const char *content, struct options_parsed *parsed, struct target *t, struct err *e) {
  char path[] = "/tmp/adit-test-config-XXXXXX";
  int fd = mkstemp(path);
  assert_true(fd >= 0);
  assert_int_equal(write(fd, content, strlen(content)), strlen(content));
  close(fd);
  int code = options_read_file(&command, t, path, parsed, e);
  (void)unlink(path);
  if (code != 0) memmove(e->text, e->text + strlen(path) + 2, strlen(e->text) - strlen(path) - 1); /* "path: " */
  return code;
}

static void assert_file_refused(const char *content, const char *text) {
  struct target t = {0};
  struct options_parsed parsed = {0};
  struct err e = {0};
  assert_true(read_file(content, &parsed, &t, &e) < 0);
  options_free(&parsed);
  if (strcmp(e.text, text) != 0) fail_msg("gave: %s\n  want: %s", e.text, text);
}

static void a_file_sets_what_flags_set(void **state) {
  (void)state;
  struct target t = {0};
  struct options_parsed parsed = {0};
  struct err e;
  assert_int_equal(read_file("# comment\n flag = yes\r\ntext= a b # c\n\nlist=x\nlist = y\nnumber =7", &parsed, &t,
                             &e), 0);
  assert_true(t.flag);
  assert_string_equal(t.text, "a b # c");
  assert_int_equal(t.list.n, 2);
  assert_int_equal(t.number, 7);
  options_free(&parsed);
}

static void a_flag_wins_over_the_file(void **state) {
  (void)state;
  struct target t;
  struct options_parsed parsed;
  struct err e;
  assert_int_equal(parse("--number 5 --list mine", &t, &parsed, &e), 0);
  assert_int_equal(read_file("number = 7\nlist = other\ntext = t\n", &parsed, &t, &e), 0);
  assert_int_equal(t.number, 5);
  assert_int_equal(t.list.n, 1);
  assert_string_equal(t.text, "t");
  options_free(&parsed);
}

static void wrong_settings_name_their_line(void **state) {
  (void)state;
  assert_file_refused("\nnumbr = 3\n", "line 2: numbr: no such setting (did you mean number?)");
  assert_file_refused("inner = 3\n", "line 1: inner: no such setting (see adit try --help for the names)");
  assert_file_refused("number = many\n", "line 1: number many: not a number from 1 to 256 (try number 1)");
  assert_file_refused("text = a\ntext = b\n", "line 2: text: given twice (leave one out)");
  assert_file_refused("flag = maybe\n", "line 1: flag = maybe: neither yes nor no (write one of them)");
}

static void a_missing_file_is_an_error(void **state) {
  (void)state;
  struct target t = {0};
  struct options_parsed parsed = {0};
  struct err e;
  assert_int_equal(options_read_file(&command, &t, "/nonexistent/file", &parsed, &e), ERR_IO);
  assert_string_equal(e.text, "/nonexistent/file: No such file or directory (check the path, and who may read it)");
}

int main(void) {
  const struct CMUnitTest tests[] = {
    cmocka_unit_test(takes_options_in_both_forms_and_words_between),
    cmocka_unit_test(what_follows_two_hyphens_is_left_alone),
    cmocka_unit_test(the_last_of_repeated_options_wins),
    cmocka_unit_test(unknown_options_suggest_the_nearest),
    cmocka_unit_test(hidden_options_are_never_suggested),
    cmocka_unit_test(values_that_are_missing_or_too_much_are_refused),
    cmocka_unit_test(numbers_out_of_range_are_refused),
    cmocka_unit_test(durations_and_choices_are_checked),
    cmocka_unit_test(lists_and_words_are_bounded),
    cmocka_unit_test(secrets_are_wiped_from_the_argument_list),
    cmocka_unit_test(help_contains_every_option_but_hidden_ones),
    cmocka_unit_test(what_may_be_given_several_times_is_said_in_words),
    cmocka_unit_test(the_manual_page_list_is_escaped),
    cmocka_unit_test(a_file_sets_what_flags_set),
    cmocka_unit_test(a_flag_wins_over_the_file),
    cmocka_unit_test(wrong_settings_name_their_line),
    cmocka_unit_test(a_missing_file_is_an_error),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
