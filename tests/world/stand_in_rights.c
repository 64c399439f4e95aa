/* What takes the place of src/relay/rights.c in the world, where a relay has no rights to give up. */
#include <stdio.h>
#include <string.h>

#include "relay/rights.h"

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
