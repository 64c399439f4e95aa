/* Finds the command that was asked for, and speaks for all of them: the list of commands, versions, errors. */
#include "cli/command.h"

#include <stdio.h>
#include <string.h>

#include "base/words.h"

const struct command *const commands[] = {
  &command_forward, &command_login,        &command_logout,     &command_status,       &command_relay_upgrade,
  &command_relay,   &command_token_create, &command_token_list, &command_token_revoke, &command_token_narrow,
  &command_token_revoke_narrowed,
};
const size_t commands_n = ARRAY_LEN(commands);

/* Commands of the Python package, which takes them before this program is asked: only their names are known here. */
static const struct {
  const char *name, *words, *brief;
} package_commands[] = {
  {"run", "FILE[::FUNCTION]", "run a function of a file in a container"},
  {"serve", "FILE", "serve its web endpoints, and reload it"},
  {"deploy", "FILE", "leave it to a foreman, which goes on"},
  {"app", "list | logs | stop", "show and end what was deployed"},
  {"shell", "FILE[::FUNCTION]", "open a shell in a function's container"},
  {"usage", "", "show what functions have used, and its price"},
  {"foreman", "", "run what deployed apps live in"},
  {"secret", "create | list | delete", "keep what functions need to know"},
  {"image", "list | prune", "show and remove what was built"},
  {"doctor", "", "show what functions need, and what is missing"},
};

int command_fail(const struct err *e) {
  (void)fprintf(words_err(), "adit: %s\n", e->text);
  return e->code == ERR_USAGE || e->code == ERR_SYNTAX ? EXIT_STATUS_USAGE : EXIT_STATUS_FAILED;
}

/* A command has failed, too, when its words have not come where they belong. */
static int deliver(int status) {
  struct err e;
  if (status != EXIT_STATUS_OK || words_deliver(&e) == 0) return status;
  return command_fail(&e);
}

bool command_begin(const struct command *c, void *target, int argc, char **argv, struct options_parsed *parsed,
                   int *status) {
  struct err e;
  if (options_parse(c, target, argc, argv, parsed, &e) != 0) {
    *status = command_fail(&e);
    return false;
  }
  if (!parsed->help && !parsed->help_mdoc) return true;
  if (parsed->help)
    options_help(c, words_out());
  else
    options_help_mdoc(c, words_out());
  *status = EXIT_STATUS_OK;
  return false;
}

static void put_row(FILE *to, const char *name, const char *words, const char *brief) {
  char left[64];
  (void)snprintf(left, sizeof left, "adit %s %s", name, words);
  (void)fprintf(to, "  %-34s  %s\n", left, brief);
}

/* All commands, or those of a family ("token"). */
static void put_list(FILE *to, const char *family) {
  for (size_t i = 0; i < commands_n; i++) {
    const struct command *c = commands[i];
    size_t n = family != NULL ? strlen(family) : 0;
    if (family != NULL && (strncmp(c->name, family, n) != 0 || c->name[n] != ' ')) continue;
    put_row(to, c->name, c->words, c->brief);
  }
}

static void put_help(FILE *to) {
  (void)fputs("adit gives a local TCP port a public TLS address through a relay.\n"
              "The relay hands each connection off and only moves ciphertext.\n\nExamples:\n"
              "  adit forward 8000                 a public URL for http://127.0.0.1:8000; needs no set-up\n"
              "  adit forward 22 --unencrypted     a public TCP port for ssh, too\n"
              "  adit relay --domain r1.example.com     your own relay\n\nCommands:\n", to);
  put_list(to, NULL);
  (void)fputs("\nFunctions in containers, with the Python package (pip install 'adit[functions]'):\n", to);
  for (size_t i = 0; i < ARRAY_LEN(package_commands); i++)
    put_row(to, package_commands[i].name, package_commands[i].words, package_commands[i].brief);
  (void)fputs("\nadit COMMAND --help tells more; adit --version prints the version.\n", to);
}

/* The command whose one or two words argv begins with; *used is how many. A word of a family alone gives NULL and *used
   1. */
static const struct command *find(int argc, char **argv, int *used) {
  *used = 0;
  for (size_t i = 0; i < commands_n; i++) {
    const char *name = commands[i]->name, *space = strchr(name, ' ');
    size_t n = space != NULL ? (size_t)(space - name) : strlen(name);
    if (strncmp(name, argv[0], n) != 0 || argv[0][n] != 0) continue;
    *used = 1;
    if (space == NULL) return commands[i];
    if (argc > 1 && strcmp(space + 1, argv[1]) == 0) {
      *used = 2;
      return commands[i];
    }
  }
  return NULL;
}

static int fail_unknown(const char *word) {
  struct err e;
  for (size_t i = 0; i < ARRAY_LEN(package_commands); i++) {
    if (strcmp(word, package_commands[i].name) != 0) continue;
    (void)err_set(&e, ERR_USAGE, "%s: functions are of the Python package, which this program was installed without "
                  "(pip install 'adit[functions]')", word);
    return command_fail(&e);
  }
  for (size_t i = 0; i < commands_n; i++) {
    if (!options_words_near(word, commands[i]->name)) continue;
    return command_fail((err_set(&e, ERR_USAGE, "%.60s: no such command (did you mean adit %s?)", word,
                                 commands[i]->name), &e));
  }
  (void)err_set(&e, ERR_USAGE, "%.60s: no such command (see adit --help)", word);
  return command_fail(&e);
}

static bool asks_for_help(const char *word) { return strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0; }

/* "adit token", "adit token --help", "adit token creat". */
static int family_main(int argc, char **argv) {
  if (argc > 1 && asks_for_help(argv[1])) {
    (void)fprintf(words_out(),
                  "adit %s: tokens, each of which lets an agent open tunnels.\n"
                  "Issued and revoked where the relay keeps its state; narrowed where there is one.\n\nCommands:\n",
                  argv[0]);
    put_list(words_out(), argv[0]);
    return EXIT_STATUS_OK;
  }
  struct err e;
  if (argc > 1)
    (void)err_set(&e, ERR_USAGE, "%s %.60s: no such command (see adit %s --help)", argv[0], argv[1], argv[0]);
  else
    (void)err_set(&e, ERR_USAGE, "%s: what to do is missing (see adit %s --help)", argv[0], argv[0]);
  return command_fail(&e);
}

static int run(int argc, char **argv, uint64_t start_us) {
  if (argc < 2) {
    put_help(words_err());
    return EXIT_STATUS_USAGE;
  }
  argc--;
  argv++;
  if (strcmp(argv[0], "--version") == 0 || (strcmp(argv[0], "version") == 0 && argc == 1)) {
    (void)fputs("adit " ADIT_VERSION "\n", words_out());
    return EXIT_STATUS_OK;
  }
  if (strcmp(argv[0], "help") == 0 && argc > 1 && !asks_for_help(argv[1])) {
    argc--;
    argv++;
    int used;
    const struct command *c = find(argc, argv, &used);
    if (c == NULL && used == 0) return fail_unknown(argv[0]);
    if (c == NULL) return family_main(2, (char *[]){argv[0], (char[]){"--help"}});
    options_help(c, words_out());
    return EXIT_STATUS_OK;
  }
  if (asks_for_help(argv[0]) || strcmp(argv[0], "help") == 0) {
    put_help(words_out());
    return EXIT_STATUS_OK;
  }
  int used;
  const struct command *c = find(argc, argv, &used);
  if (c == NULL) return used == 1 ? family_main(argc, argv) : fail_unknown(argv[0]);
  return c->run(c, argc - used, argv + used, start_us);
}

int command_main(int argc, char **argv, uint64_t start_us) { return deliver(run(argc, argv, start_us)); }
