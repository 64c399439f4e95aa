/* A certificate is opened again at each renewal, and what stands at its name then is another file: a new one in the
   same folder, as install-certificate makes it, or a link of certbot's, which leads to a new one in the folder that it
   leads to now. So it is these two folders that stay open to who reads it: the key process. */
#include "relay/confine.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct places {                    /* owns the texts */
  struct rights_paths paths;
  char *texts[RIGHTS_PATHS_MAX * 3]; size_t texts_n;
  bool full;
};

static void places_free(struct places *p) {
  for (size_t i = 0; i < p->texts_n; i++) free(p->texts[i]);
  free(p);
}

static void place_add(struct places *p, const char **list, size_t *n, char *text) {
  if (text == NULL || *n == RIGHTS_PATHS_MAX || p->texts_n == ARRAY_LEN(p->texts)) {
    p->full = true;
    free(text);
    return;
  }
  list[(*n)++] = p->texts[p->texts_n++] = text;
}

/* Takes path; the folder that it is in. */
static char *folder_of(char *path) {
  char *slash = path == NULL ? NULL : strrchr(path, '/');
  if (path == NULL) return NULL;
  if (slash == NULL) {
    free(path);
    return strdup(".");
  }
  slash[slash == path ? 1 : 0] = '\0';
  return path;
}

static void read_folders_of(struct places *p, const char *file) {
  if (file == NULL) return;
  place_add(p, p->paths.read, &p->paths.read_n, folder_of(strdup(file)));
  char *behind = realpath(file, NULL);
  if (behind != NULL) place_add(p, p->paths.read, &p->paths.read_n, folder_of(behind));
}

static void read_authorities_of(struct places *p, const char *variable) {
  const char *path = getenv(variable);
  if (path != NULL && path[0] != '\0') place_add(p, p->paths.read, &p->paths.read_n, strdup(path));
}

static void hide(struct places *p, const char *file) {
  char *at = file == NULL ? NULL : realpath(file, NULL);
  if (at != NULL) place_add(p, p->paths.hide, &p->paths.hide_n, at);
}

static char *join(const char *folder, const char *name) {
  char *path = NULL;
  return asprintf(&path, "%s/%s", folder, name) < 0 ? NULL : path;
}

/* Of the state the relay uses the database alone; what keys there are is the key process's. Names come and go there: of
   a successor's database, of the socket for upgrades. */
static void use_database(struct places *p, const char *state_dir) {
  static const char *const names[] = {"state.db", "state.db-wal", "state.db-shm", "lock", "relay.lock"};
  for (size_t i = 0; i < ARRAY_LEN(names); i++)
    place_add(p, p->paths.use, &p->paths.use_n, join(state_dir, names[i]));
  place_add(p, p->paths.unlink, &p->paths.unlink_n, strdup(state_dir));
}

static void places_of_relay(const struct relay *r, struct places *p) {
  const struct relay_options *o = r->options;
  if (r->keys != NULL) {
    use_database(p, o->state_dir);
    hide(p, o->key_file);
    hide(p, o->state_dir);
  } else {
    place_add(p, p->paths.change, &p->paths.change_n, strdup(o->state_dir));
    read_folders_of(p, o->cert_file);
    read_folders_of(p, o->key_file);
  }
  read_authorities_of(p, "SSL_CERT_FILE");
  read_authorities_of(p, "SSL_CERT_DIR");
  for (size_t i = 0; i < o->agent_listens_n; i++)
    place_add(p, p->paths.unlink, &p->paths.unlink_n, folder_of(strdup(o->agent_listens[i].u.un.sun_path)));
}

int confine_relay(struct relay *r, struct err *e) {
  struct places *p = calloc(1, sizeof *p);
  if (p == NULL) return err_set(e, ERR_NOMEM, "relay: out of memory");
  if (!relay_is_embedded(r)) places_of_relay(r, p);
  int rc = p->full ? err_set(e, ERR_NOMEM, "relay: out of memory") : 0;
  if (r->keys != NULL) (void)snprintf(r->rights.key_process, sizeof r->rights.key_process, "%s",
                                      key_process_rights(r->keys));
  if (rc == 0) rights_drop(relay_is_embedded(r) ? NULL : &p->paths, &r->rights);
  places_free(p);
  return rc;
}

void confine_keys(const struct key_process_options *o, char *text, size_t cap) {
  struct places *p = calloc(1, sizeof *p);
  if (p == NULL) return;
  place_add(p, p->paths.change, &p->paths.change_n, strdup(o->state_dir));
  read_folders_of(p, o->cert_file);
  read_folders_of(p, o->key_file);
  rights_drop_keys(&p->paths, text, cap);
  places_free(p);
}
