/* One table of options per command: parsing, --help, the manual page and configuration files are made from it.

   `target` is the command's own struct of arguments. A row stores its value at `offset` in it, or calls
   `set`. Strings are not copied: they point into argv or into the configuration file's text. */
#ifndef CLI_OPTIONS_H
#define CLI_OPTIONS_H

#include <stdio.h>

#include "base/err.h"

struct command;

enum { OPTION_LIST_MAX = 64, OPTIONS_PER_COMMAND_MAX = 64 };

struct option_list { const char *at[OPTION_LIST_MAX]; size_t n; };

enum option_kind {
  OPTION_FLAG,                     /* bool; in a file: yes or no */
  OPTION_TEXT,                     /* const char * */
  OPTION_LIST,                     /* struct option_list; may be given several times */
  OPTION_NUMBER,                   /* uint64_t, min..max */
  OPTION_DURATION,                 /* uint64_t in ms, min..max */
  OPTION_RATE,                     /* uint64_t in bytes per second, min..max */
  OPTION_CHOICE,                   /* const char *, one of `choices` ("splice|copy") */
  OPTION_CALL                      /* set(target, value, e); may be given several times when `many` */
};

struct option_row {
  const char *name;                /* without dashes; in a configuration file, too */
  const char *value;               /* what stands behind it in help: "ADDR:PORT"; NULL for flags */
  const char *help;
  enum option_kind kind;
  size_t offset;
  uint64_t min, max;
  const char *choices;
  int (*set)(void *target, const char *value, struct err *e);
  bool optional;                   /* of a duration: its value may be left out, and stands behind '=' else; then
                                      UINT64_MAX */
  bool many;                       /* may be given several times (lists always may) */
  bool secret;                     /* its value is wiped from the argument list */
  bool hidden;                     /* not in help */
  bool not_in_file;
};

enum { OPTIONS_WORDS_MAX = 64 };

struct options_parsed {
  char *words[OPTIONS_WORDS_MAX];  /* arguments that are not options */
  size_t words_n;
  char **rest;                     /* what follows "--"; NULL when there is none */
  bool help, help_mdoc;
  bool given[OPTIONS_PER_COMMAND_MAX]; /* by row */
  char *file_text;                 /* of the configuration file, which values point into */
};

/* Returns 0 or ERR_USAGE with a text. With --help nothing more is checked. */
int options_parse(const struct command *c, void *target, int argc, char **argv, struct options_parsed *out,
                  struct err *e) MUST_USE;
/* Applies a configuration file: settings that are given on the command line already are checked for their name only.
   Once at most; the file's text lives until options_free. */
int options_read_file(const struct command *c, void *target, const char *path, struct options_parsed *parsed,
                      struct err *e) MUST_USE;
void options_free(struct options_parsed *parsed);
/* The row of a name, or NULL. */
const struct option_row *options_find(const struct command *c, const char *name);
/* The name in the table that a mistyped one most resembles, or NULL when none is near. */
const char *options_nearest(const struct command *c, const char *name);
/* Whether two words are so near that one may be a mistyped form of the other. */
bool options_words_near(const char *a, const char *b);

void options_help(const struct command *c, FILE *to);
void options_help_mdoc(const struct command *c, FILE *to);

#endif
