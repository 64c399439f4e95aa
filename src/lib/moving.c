/* See the header. */
#include "lib/moving.h"

#include <fcntl.h>
#include <stdlib.h>

#include "agent/move.h"
#include "lib/config.h"

struct moving { struct list parcels; };

static struct moving *moving_new(struct err *e) {
  struct moving *m = calloc(1, sizeof *m);
  if (m == NULL) (void)err_set(e, ERR_NOMEM, "out of memory");
  else list_init(&m->parcels);
  return m;
}

void moving_free(struct moving *m) {
  if (m == NULL) return;
  parcels_free(&m->parcels);
  free(m);
}

struct moving *moving_out(struct adit_client *client, struct err *e) {
  struct moving *m = moving_new(e);
  if (m == NULL || move_out(client, &m->parcels, e) == 0) return m;
  moving_free(m);
  return NULL;
}

int moving_write(struct moving *m, const void *host, size_t n, int file, struct err *e) {
  struct parcel *p = parcel_new(MOVE_HOST);
  int rc = p == NULL ? ERR_NOMEM : parcel_end(p, buf_append(&p->state, host, n), 0, &m->parcels);
  return rc == 0 ? move_write(file, &m->parcels, e) : err_set(e, rc, "out of memory");
}

void moving_keep_open(const struct moving *m, bool through_exec) {
  LIST_FOREACH((struct list *)(uintptr_t)&m->parcels, it) {
    const struct parcel *p = CONTAINER_OF(it, struct parcel, node);
    for (size_t i = 0; i < p->fds_n; i++) (void)fcntl(p->fds[i], F_SETFD, through_exec ? 0 : FD_CLOEXEC);
  }
}

void moving_back(struct adit_client *client, struct moving *m) {
  move_back(client, &m->parcels);
  moving_free(m);
}

struct moving *moving_read(int file, bool stand_ins, struct err *e) {
  struct moving *m = moving_new(e);
  if (m == NULL || move_read(file, &m->parcels, stand_ins, e) == 0) return m;
  moving_free(m);
  return NULL;
}

static struct reader read_parcel(const struct moving *m, enum move_kind kind) {
  const struct parcel *p = move_find(&m->parcels, kind);
  return p == NULL ? reader_of(NULL, 0) : reader_of(buf_data(&p->state), p->state.len);
}

struct reader moving_host(const struct moving *m) { return read_parcel(m, MOVE_HOST); }

int moving_config(const struct moving *m, struct adit_config *config, struct err *e) {
  struct reader r = read_parcel(m, MOVE_SETUP);
  int rc = setup_import(&config->setup, &r);
  config->setup.moves_in = true;
  config->has_proxy = true;
  return rc == 0 ? 0 : err_set(e, rc, "the agent's configuration cannot be taken over: %s", err_name(rc));
}

int moving_in(struct adit_client *client, struct moving *m, bool dry, struct err *e) {
  int rc = move_in(client, &m->parcels, dry, e);
  moving_free(m);
  return rc;
}
