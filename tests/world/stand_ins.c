/* What takes the place of src/relay/starter.c and rights.c in the world: a relay has no process beside it that forks,
   and no rights to give up. */
#include <stdio.h>
#include <string.h>

#include "relay/rights.h"
#include "relay/starter.h"

int rights_take_user(const char *user, const char *state_dir, struct rights *r, struct err *e) {
  (void)user, (void)state_dir, (void)e;
  memset(r, 0, sizeof *r);
  return 0;
}

void rights_drop(const struct rights_paths *paths, struct rights *r) { (void)paths, (void)r; }

void rights_drop_keys(const struct rights_paths *paths, char *text, size_t cap) {
  (void)paths;
  (void)snprintf(text, cap, "%s", "");
}

void rights_log(const struct rights *r) { (void)r; }

int starter_begin(struct starter *s, int not_its, struct err *e) {
  (void)not_its;
  s->fd = -1;
  return err_set(e, ERR_UNSUPPORTED, "no starter in the world");
}

int starter_start(struct starter *s, int carrier, int asked, struct err *e) {
  (void)s, (void)carrier, (void)asked;
  return err_set(e, ERR_UNSUPPORTED, "no starter in the world");
}

void starter_kill(struct starter *s, char how[STARTER_HOW_CAP]) {
  (void)s;
  how[0] = '\0';
}

void starter_let_go(struct starter *s) { (void)s; }
void starter_end(struct starter *s) { (void)s; }
