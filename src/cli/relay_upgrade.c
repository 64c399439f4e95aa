/* `adit relay upgrade`: has a running relay hand over to its program as it is on the disk now. */
#include <errno.h>
#include <limits.h>
#include <stdlib.h>

#include "cli/command.h"
#include "relay/upgrade_door.h"

struct upgrade_arguments { const char *state, *exec; };

#define AT(member) .offset = offsetof(struct upgrade_arguments, member)
static const struct option_row upgrade_rows[] = {
  {.name = "state", .value = "DIR", .kind = OPTION_TEXT, AT(state),
   .help = "The relay's folder of keys, issued tokens and port leases (default: /var/lib/adit)."},
  {.name = "exec", .value = "PATH", .kind = OPTION_TEXT, AT(exec),
   .help = "The program to hand over to (default: the one that the relay was started as). Only root and the user that "
           "the relay was started by may name one."},
};

static int upgrade_main(const struct command *self, int argc, char **argv, uint64_t start_us) {
  (void)start_us;
  struct upgrade_arguments a = {.state = STATE_DIR_DEFAULT};
  struct options_parsed parsed;
  struct err e = {0};
  char program[PATH_MAX];
  int status;
  if (!command_begin(self, &a, argc, argv, &parsed, &status)) return status;
  int code = 0;
  if (parsed.words_n > 0 || parsed.rest != NULL)
    code = err_set(&e, ERR_USAGE, "adit relay upgrade takes only options (see adit relay upgrade --help)");
  else if (a.exec != NULL && realpath(a.exec, program) == NULL)
    code = err_set_errno(&e, "--exec %s", a.exec);
  if (code == 0) code = upgrade_door_ask(a.state, a.exec != NULL ? program : NULL, &e);
  status = code == 0 ? EXIT_STATUS_OK : command_fail(&e);
  options_free(&parsed);
  return status;
}

const struct command command_relay_upgrade = {
  .name = "relay upgrade",
  .words = "",
  .brief = "hand a running relay over to its new program",
  .purpose = "have a running relay's program, as it is on the disk now, take over from it.\n"
             "Visitors and agents stay connected. The relay's arguments stay, and its configuration file is\n"
             "read again.",
  .examples = "adit relay upgrade\n"
              "adit relay upgrade --state ./state --exec ./build/adit",
  .options = upgrade_rows,
  .options_n = ARRAY_LEN(upgrade_rows),
  .run = upgrade_main,
};
