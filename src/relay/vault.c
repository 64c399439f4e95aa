/* Keys are known to the relay by handles, which are never given twice. The lock is held for look-ups and for what reads
   files; signatures are made outside it. */
#include "relay/vault.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/map.h"
#include "base/secret.h"

enum { VAULT_KEYS_MAX = 2 * CERTS_EXACT_MAX + 64 };

struct vault {
  pthread_mutex_t lock;            /* guards what follows */
  const char *state_dir;
  struct identity_source from;
  struct authority *authority;
  struct map *keys;                /* handle -> struct tls_server */
  uint64_t last_handle;
  struct ticket_key tickets[2];
  size_t tickets_n;
};

struct vault *vault_new(const char *state_dir, const struct identity_source *from) {
  struct vault *v = calloc(1, sizeof *v);
  if (v == NULL) return NULL;
  (void)pthread_mutex_init(&v->lock, NULL);
  v->state_dir = state_dir;
  v->from = *from;
  v->keys = map_new(sizeof v->last_handle);
  if (v->keys != NULL) return v;
  vault_free(v);
  return NULL;
}

void vault_free(struct vault *v) {
  const void *handle;
  void *server;
  size_t at = 0;
  while (v->keys != NULL && map_next(v->keys, &at, &handle, &server)) tls_server_unref(server);
  map_free(v->keys);
  authority_unref(v->authority);
  if (v->from.state != NULL) state_close(v->from.state);
  wipe(v->tickets, sizeof v->tickets);
  (void)pthread_mutex_destroy(&v->lock);
  free(v);
}

/* With the lock. */
static int need_state(struct vault *v, struct err *e) {
  return v->from.state != NULL ? 0 : state_open(v->state_dir, &v->from.state, e);
}

/* With the lock. Takes server. */
static int keep(struct vault *v, struct tls_server *server, struct key_answer *a, struct buf *chain, struct err *e) {
  a->handle = v->last_handle + 1;
  int rc = map_count(v->keys) >= VAULT_KEYS_MAX ? ERR_LIMIT : tls_server_chain(server, chain);
  if (rc == 0) rc = map_put(v->keys, &a->handle, server);
  if (rc != 0) {
    tls_server_unref(server);
    return err_set(e, rc, "certificate: the key process has no room for it");
  }
  v->last_handle++;
  a->bytes = buf_data(chain);
  a->n = chain->len;
  return 0;
}

static int load(struct vault *v, const struct key_request *r, struct key_answer *a, struct buf *chain, struct err *e) {
  struct identity new;
  int rc = need_state(v, e);
  if (rc == 0) rc = identity_load(&v->from, v->authority, r->now_s, &new, e);
  if (rc != 0) return rc;
  authority_unref(v->authority);
  v->authority = new.authority;
  a->pin = new.pin;
  return keep(v, new.server, a, chain, e);
}

static int issue(struct vault *v, const struct key_request *r, struct key_answer *a, struct buf *chain,
                 struct err *e) {
  struct tls_server *server = NULL;
  if (v->authority == NULL) return err_set(e, ERR_NOT_NOW, "certificate for %s: there is no authority", r->host);
  int rc = identity_issue(v->authority, r->host, r->now_s, &server, e);
  return rc == 0 ? keep(v, server, a, chain, e) : rc;
}

static int read_tickets(struct vault *v, const struct key_request *r, struct err *e) {
  int rc = need_state(v, e);
  return rc == 0 ? state_ticket_keys(v->from.state, r->now_s, v->tickets, &v->tickets_n, e) : rc;
}

static void drop(struct vault *v, uint64_t handle) {
  pthread_mutex_lock(&v->lock);
  struct tls_server *server = map_remove(v->keys, &handle);
  pthread_mutex_unlock(&v->lock);
  tls_server_unref(server);
}

static int sign(struct vault *v, const struct key_request *r, struct key_answer *a, uint8_t *signature) {
  pthread_mutex_lock(&v->lock);
  struct tls_server *server = map_get(v->keys, &r->handle);
  if (server != NULL) (void)tls_server_ref(server);
  pthread_mutex_unlock(&v->lock);
  if (server == NULL) return ERR_NOT_NOW;
  a->n = SIGNATURE_MAX_BYTES;
  a->bytes = signature;
  int rc = tls_server_sign(server, &r->scheme, r->text, r->text_n, signature, &a->n);
  if (rc != 0) a->n = 0;
  tls_server_unref(server);
  return rc;
}

/* With the lock. */
static int answer_locked(struct vault *v, const struct key_request *r, struct key_answer *a, struct buf *bytes,
                         uint8_t ticket[TICKET_MAX_BYTES], struct err *e) {
  switch (r->kind) {
    case KEY_LOAD: return load(v, r, a, bytes, e);
    case KEY_ISSUE: return issue(v, r, a, bytes, e);
    case KEY_TICKETS: return read_tickets(v, r, e);
    case KEY_TICKET_MAKE:
      a->bytes = ticket;
      return v->tickets_n == 0 ? ERR_NOT_NOW : ticket_encode(&r->ticket, &v->tickets[0], ticket, &a->n);
    case KEY_TICKET_READ: return ticket_decode(r->text, r->text_n, v->tickets, v->tickets_n, &a->ticket);
    case KEY_SIGN:
    case KEY_DROP: break;
  }
  return ERR_USAGE;
}

int vault_answer(struct vault *v, const uint8_t *request, size_t n, struct buf *out) {
  struct key_request r;
  struct key_answer a = {.code = 0};
  struct buf bytes;
  struct err e = {0};
  uint8_t room[SIGNATURE_MAX_BYTES];
  int rc = key_request_read(request, n, &r);
  if (rc != 0) return rc;
  if (r.kind == KEY_DROP) {
    drop(v, r.handle);
    return 0;
  }
  buf_init(&bytes, KEY_ANSWER_MAX_BYTES);
  if (r.kind == KEY_SIGN) {
    a.code = sign(v, &r, &a, room);
  } else {
    pthread_mutex_lock(&v->lock);
    a.code = answer_locked(v, &r, &a, &bytes, room, &e);
    pthread_mutex_unlock(&v->lock);
  }
  if (a.code != 0) a.n = 0;
  memcpy(a.error, e.text, sizeof a.error);
  rc = key_answer_write(&a, out);
  buf_free(&bytes);
  return rc;
}
