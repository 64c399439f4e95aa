/* The commands of the program: one row each, one file each. A row holds everything that --help, the manual page and the
   parser say about a command, so that none of them can disagree. */
#ifndef CLI_COMMAND_H
#define CLI_COMMAND_H

#include "cli/options.h"

enum exit_status { EXIT_STATUS_OK = 0, EXIT_STATUS_FAILED = 1, EXIT_STATUS_USAGE = 2 };

struct command {
  const char *name;                /* "forward", "token create" */
  const char *words;               /* what stands behind the name besides options: "PORT|HOST:PORT ..." */
  const char *brief;               /* a few words, for the list of commands */
  const char *purpose;             /* two or three lines */
  const char *examples;            /* lines "command   what it does"; the commonest first */
  const struct option_row *options;
  size_t options_n;
  /* argv holds what stands behind the command's name. Returns the exit status of the process. */
  int (*run)(const struct command *self, int argc, char **argv, uint64_t start_us);
};

enum { ADMIN_PORT_DEFAULT = 9090 };
#define STATE_DIR_DEFAULT "/var/lib/adit"

extern const struct command command_forward, command_relay, command_token_create, command_token_narrow,
  command_token_list, command_token_revoke, command_token_revoke_narrowed, command_login,
  command_logout, command_status, command_relay_upgrade;
extern const struct command *const commands[];
extern const size_t commands_n;

/* start_us: CLOCK_MONOTONIC when the process started. Returns the exit status. */
int command_main(int argc, char **argv, uint64_t start_us);

/* Parses argv into target, and answers --help. Returns true when the command should go on; otherwise *status is how to
   exit. */
bool command_begin(const struct command *c, void *target, int argc, char **argv, struct options_parsed *parsed,
                   int *status);

/* Says "adit: text" on stderr and returns the exit status that goes with the code: 2 for ERR_USAGE and ERR_SYNTAX, else
   1. */
int command_fail(const struct err *e);

#endif
