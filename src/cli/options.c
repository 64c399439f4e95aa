/* The engine behind the tables of options. One row must be enough for the parser, the configuration file, --help and
   the manual page, and every refusal must tell the user what would have been right. */
#include "cli/options.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "base/secret.h"
#include "base/settings.h"
#include "base/text.h"
#include "cli/command.h"
#include "cli/config_file.h"

static void *field(void *target, const struct option_row *row) { return (char *)target + row->offset; }

static bool takes_many(const struct option_row *row) { return row->many || row->kind == OPTION_LIST; }

static bool choice_is_valid(const char *choices, const char *value) {
  if (strchr(value, '|') != NULL) return false;
  size_t n = strlen(value);
  for (const char *at = choices; at != NULL; at = strchr(at, '|')) {
    if (*at == '|') at++;
    if (strncmp(at, value, n) == 0 && n > 0 && (at[n] == 0 || at[n] == '|')) return true;
  }
  return false;
}

/* `what` is the option as the user knows it: "--listen" or, in a file, "listen". */
static int set_number(void *to, const struct option_row *row, const char *what, const char *value, struct err *e) {
  uint64_t v;
  if (text_to_u64(value, UINT64_MAX, &v) != 0 || v < row->min || v > row->max)
    return err_set(e, ERR_USAGE, "%s %.60s: not a number from %" PRIu64 " to %" PRIu64 " (try %s %" PRIu64 ")", what,
                   value, row->min, row->max, what, row->min);
  *(uint64_t *)to = v;
  return 0;
}

/* As a user would write it. */
static void format_duration(uint64_t ms, char *out, size_t cap) {
  uint64_t s = ms / 1000;
  if (s > 0 && s % 86400 == 0) (void)snprintf(out, cap, "%" PRIu64 "d", s / 86400);
  else (void)snprintf(out, cap, "%" PRIu64 "s", s);
}

static int set_duration(void *to, const struct option_row *row, const char *what, const char *value, struct err *e) {
  uint64_t ms;
  if (text_to_duration_ms(value, &ms) != 0)
    return err_set(e, ERR_USAGE, "%s %.60s: not a duration (write a number and a unit: 250ms, 10s, 5m, 2h, 30d)", what,
                   value);
  if (ms < row->min || ms > row->max) {
    char least[24], most[24];
    format_duration(row->min, least, sizeof least);
    format_duration(row->max, most, sizeof most);
    return err_set(e, ERR_USAGE, "%s %.60s: out of range (it may be from %s to %s)", what, value, least, most);
  }
  *(uint64_t *)to = ms;
  return 0;
}

static int set_rate(void *to, const struct option_row *row, const char *what, const char *value, struct err *e) {
  uint64_t bytes_per_s;
  if (text_to_rate(value, &bytes_per_s) != 0)
    return err_set(e, ERR_USAGE, "%s %.60s: not a rate (write bytes per second: 500kB/s, 10MB/s, 1GB/s)", what, value);
  if (bytes_per_s < row->min || bytes_per_s > row->max) {
    char least[32], most[32];
    text_of_rate(row->min, least, sizeof least);
    text_of_rate(row->max, most, sizeof most);
    return err_set(e, ERR_USAGE, "%s %.60s: out of range (it may be from %s to %s)", what, value, least, most);
  }
  *(uint64_t *)to = bytes_per_s;
  return 0;
}

static int set_value(void *target, const struct option_row *row, const char *what, const char *value, struct err *e) {
  void *to = field(target, row);
  switch (row->kind) {
    case OPTION_FLAG: *(bool *)to = true; return 0;
    case OPTION_TEXT: *(const char **)to = value; return 0;
    case OPTION_LIST: {
      struct option_list *list = to;
      if (list->n == OPTION_LIST_MAX)
        return err_set(e, ERR_USAGE, "%s: given more than %d times (leave some out)", what, OPTION_LIST_MAX);
      list->at[list->n++] = value;
      return 0;
    }
    case OPTION_NUMBER: return set_number(to, row, what, value, e);
    case OPTION_DURATION: return set_duration(to, row, what, value, e);
    case OPTION_RATE: return set_rate(to, row, what, value, e);
    case OPTION_CHOICE:
      if (!choice_is_valid(row->choices, value))
        return err_set(e, ERR_USAGE, "%s %.60s: no such choice (it is one of %s)", what, value, row->choices);
      *(const char **)to = value;
      return 0;
    case OPTION_CALL: {
      int code = row->set(target, value, e);
      return code == 0 ? 0 : err_prefix(e, "%s", what);
    }
  }
  return err_set(e, ERR_USAGE, "%s: not understood", what);
}

static const struct option_row *find(const struct command *c, const char *name, size_t n) {
  for (size_t i = 0; i < c->options_n; i++)
    if (strncmp(c->options[i].name, name, n) == 0 && c->options[i].name[n] == 0) return &c->options[i];
  return NULL;
}

const struct option_row *options_find(const struct command *c, const char *name) { return find(c, name, strlen(name)); }

/* Levenshtein's distance of two short words; long ones are as far as can be. */
static size_t distance(const char *a, const char *b) {
  enum { WORD_MAX = 40 };
  size_t n = strlen(a), m = strlen(b), row[WORD_MAX + 1];
  if (n > WORD_MAX || m > WORD_MAX) return WORD_MAX;
  for (size_t j = 0; j <= m; j++) row[j] = j;
  for (size_t i = 1; i <= n; i++) {
    size_t diagonal = row[0];
    row[0] = i;
    for (size_t j = 1; j <= m; j++) {
      size_t change = diagonal + (a[i - 1] != b[j - 1]);
      diagonal = row[j];
      row[j] = size_min(change, size_min(row[j], row[j - 1]) + 1);
    }
  }
  return row[m];
}

bool options_words_near(const char *a, const char *b) {
  size_t n = size_min(strlen(a), strlen(b));
  if (n >= 3 && strncmp(a, b, n) == 0) return true;
  return distance(a, b) <= (n <= 3 ? 1 : n <= 6 ? 2 : 3);
}

const char *options_nearest(const struct command *c, const char *name) {
  const char *best = NULL;
  size_t best_distance = SIZE_MAX;
  for (size_t i = 0; i < c->options_n; i++) {
    if (c->options[i].hidden || !options_words_near(name, c->options[i].name)) continue;
    size_t d = distance(name, c->options[i].name);
    if (d < best_distance) {
      best_distance = d;
      best = c->options[i].name;
    }
  }
  return best;
}

static int fail_unknown(const struct command *c, const char *argument, size_t n, struct err *e) {
  char name[64];
  (void)snprintf(name, sizeof name, "%.*s", (int)size_min(n, 60), argument);
  const char *near = options_nearest(c, name + strspn(name, "-"));
  if (near != NULL) return err_set(e, ERR_USAGE, "%s: no such option (did you mean --%s?)", name, near);
  return err_set(e, ERR_USAGE, "%s: no such option (see adit %s --help)", name, c->name);
}

/* The option at argv[*at], and its value if it stands in the next argument. */
static int parse_option(const struct command *c, void *target, int argc, char **argv, int *at,
                        struct options_parsed *out, struct err *e) {
  char *argument = argv[*at], *name = argument + 2;
  char *equals = strchr(name, '=');
  size_t n = equals != NULL ? (size_t)(equals - name) : strlen(name);
  const struct option_row *row = find(c, name, n);
  if (row == NULL) return fail_unknown(c, argument, n + 2, e);
  char what[64], *value = equals != NULL ? equals + 1 : NULL;
  (void)snprintf(what, sizeof what, "--%s", row->name);
  if (row->kind == OPTION_FLAG && value != NULL)
    return err_set(e, ERR_USAGE, "%s: takes no value (leave out '=%.60s')", what, value);
  out->given[row - c->options] = true;
  if (row->optional && value == NULL) {
    *(uint64_t *)field(target, row) = UINT64_MAX;
    return 0;
  }
  if (row->kind != OPTION_FLAG && value == NULL) {
    if (*at + 1 >= argc || strcmp(argv[*at + 1], "--") == 0)
      return err_set(e, ERR_USAGE, "%s: its value is missing (write %s %s)", what, what, row->value);
    value = argv[++*at];
  }
  if (row->kind != OPTION_FLAG && *value == 0)
    return err_set(e, ERR_USAGE, "%s: its value is empty (write %s %s)", what, what, row->value);
  int code = set_value(target, row, what, value, e);
  if (row->secret) wipe(value, strlen(value));
  return code;
}

int options_parse(const struct command *c, void *target, int argc, char **argv, struct options_parsed *out,
                  struct err *e) {
  *out = (struct options_parsed){0};
  for (int i = 0; i < argc; i++) {
    char *argument = argv[i];
    if (strcmp(argument, "--") == 0) {
      out->rest = argv + i + 1;
      break;
    }
    if (strcmp(argument, "--help") == 0 || strcmp(argument, "-h") == 0) {
      out->help = true;
      return 0;
    }
    if (strcmp(argument, "--help-mdoc") == 0) {
      out->help_mdoc = true;
      return 0;
    }
    if (argument[0] == '-' && argument[1] == '-') {
      int code = parse_option(c, target, argc, argv, &i, out, e);
      if (code != 0) {
        e->code = ERR_USAGE;
        return ERR_USAGE;
      }
    } else if (argument[0] == '-' && argument[1] != 0) {
      return fail_unknown(c, argument, strlen(argument), e);
    } else {
      if (out->words_n == OPTIONS_WORDS_MAX)
        return err_set(e, ERR_USAGE, "arguments: more than %d (give fewer)", OPTIONS_WORDS_MAX);
      out->words[out->words_n++] = argument;
    }
  }
  return 0;
}

struct file_use {
  const struct command *command;
  void *target;
  const struct options_parsed *parsed;
  bool seen[OPTIONS_PER_COMMAND_MAX];
};

static int use_setting(void *user, const char *key, const char *value, unsigned line, struct err *e) {
  (void)line;
  struct file_use *use = user;
  const struct option_row *row = options_find(use->command, key);
  if (row == NULL || row->hidden || row->not_in_file) {
    const char *near = options_nearest(use->command, key);
    if (row == NULL && near != NULL)
      return err_set(e, ERR_USAGE, "%.40s: no such setting (did you mean %s?)", key, near);
    return err_set(e, ERR_USAGE, "%.40s: no such setting (see adit %s --help for the names)", key, use->command->name);
  }
  size_t index = (size_t)(row - use->command->options);
  if (use->seen[index] && !takes_many(row)) return err_set(e, ERR_USAGE, "%s: given twice (leave one out)", key);
  use->seen[index] = true;
  bool yes = strcmp(value, "yes") == 0;
  if (row->kind == OPTION_FLAG && !yes && strcmp(value, "no") != 0)
    return err_set(e, ERR_USAGE, "%s = %.60s: neither yes nor no (write one of them)", key, value);
  if (use->parsed->given[index] || (row->kind == OPTION_FLAG && !yes)) return 0;
  return set_value(use->target, row, key, value, e);
}

int options_read_file(const struct command *c, void *target, const char *path, struct options_parsed *parsed,
                      struct err *e) {
  char *text;
  size_t n;
  int code = config_read(path, CONFIG_FILE_MAX_BYTES, &text, &n, e);
  if (code != 0) return code;
  struct file_use use = {.command = c, .target = target, .parsed = parsed};
  parsed->file_text = text;
  code = settings_parse(text, n, use_setting, &use, e);
  return code == 0 ? 0 : err_prefix(e, "%s", path);
}

void options_free(struct options_parsed *parsed) {
  free(parsed->file_text);
  parsed->file_text = NULL;
}
