/* Keys are known to the relay by handles, which are never given twice. What reads files, which may take its time, holds
   another lock than look-ups do; signatures and certificates are made outside both. */
#include "relay/vault.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/map.h"
#include "base/secret.h"

enum { VAULT_KEYS_MAX = 2 * CERTS_EXACT_MAX + 64 };

struct vault {
  const char *state_dir;
  pthread_mutex_t files;           /* taken first; guards what is read from files */
  struct identity_source from;
  pthread_mutex_t lock;            /* guards what follows */
  struct authority *authority;     /* replaced with both */
  struct map *keys;                /* handle -> struct tls_server */
  uint64_t last_handle;
  struct ticket_key tickets[2];
  size_t tickets_n;
};

struct vault *vault_new(const char *state_dir, const struct identity_source *from) {
  struct vault *v = calloc(1, sizeof *v);
  if (v == NULL) return NULL;
  (void)pthread_mutex_init(&v->files, NULL);
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
  (void)pthread_mutex_destroy(&v->files);
  free(v);
}

/* The key process's own clock. A relay that was taken over could send any time, and so have ticket keys rotated away or
   an authority made that is good for a century. */
static int64_t now_s(void) { return (int64_t)time(NULL); }

/* With `files`. */
static int need_state(struct vault *v, struct err *e) {
  return v->from.state != NULL ? 0 : state_open(v->state_dir, &v->from.state, e);
}

static int keep_under(struct vault *v, struct tls_server *server, uint64_t *handle) {
  pthread_mutex_lock(&v->lock);
  *handle = v->last_handle + 1;
  int rc = map_count(v->keys) >= VAULT_KEYS_MAX ? ERR_LIMIT : map_put(v->keys, handle, server);
  if (rc == 0) v->last_handle++;
  pthread_mutex_unlock(&v->lock);
  return rc;
}

/* Takes server. */
static int keep(struct vault *v, struct tls_server *server, struct key_answer *a, struct buf *chain, struct err *e) {
  int rc = tls_server_chain(server, chain);
  if (rc == 0) rc = keep_under(v, server, &a->handle);
  if (rc != 0) {
    tls_server_unref(server);
    return err_set(e, rc, "certificate: the key process has no room for it");
  }
  a->bytes = buf_data(chain);
  a->n = chain->len;
  return 0;
}

/* With `files`. */
static int load_identity(struct vault *v, struct identity *new, struct err *e) {
  int rc = need_state(v, e);
  if (rc == 0) rc = identity_load(&v->from, v->authority, now_s(), new, e);
  if (rc != 0) return rc;
  pthread_mutex_lock(&v->lock);
  struct authority *old = v->authority;
  v->authority = new->authority;
  pthread_mutex_unlock(&v->lock);
  authority_unref(old);
  return 0;
}

static int load(struct vault *v, struct key_answer *a, struct buf *chain, struct err *e) {
  struct identity new;
  pthread_mutex_lock(&v->files);
  int rc = load_identity(v, &new, e);
  pthread_mutex_unlock(&v->files);
  if (rc != 0) return rc;
  a->pin = new.pin;
  return keep(v, new.server, a, chain, e);
}

static int issue(struct vault *v, const struct key_request *r, struct key_answer *a, struct buf *chain,
                 struct err *e) {
  struct tls_server *server = NULL;
  pthread_mutex_lock(&v->lock);
  struct authority *authority = v->authority == NULL ? NULL : authority_ref(v->authority);
  pthread_mutex_unlock(&v->lock);
  if (authority == NULL) return err_set(e, ERR_NOT_NOW, "certificate for %s: there is no authority", r->host);
  int rc = identity_issue(authority, v->from.domain, r->host, now_s(), &server, e);
  authority_unref(authority);
  return rc == 0 ? keep(v, server, a, chain, e) : rc;
}

static int read_tickets(struct vault *v, struct err *e) {
  struct ticket_key keys[2];
  size_t n = 0;
  pthread_mutex_lock(&v->files);
  int rc = need_state(v, e);
  if (rc == 0) rc = state_ticket_keys(v->from.state, now_s(), keys, &n, e);
  pthread_mutex_unlock(&v->files);
  if (rc != 0) return rc;
  pthread_mutex_lock(&v->lock);
  memcpy(v->tickets, keys, sizeof keys);
  v->tickets_n = n;
  pthread_mutex_unlock(&v->lock);
  wipe(keys, sizeof keys);
  return 0;
}

/* None outlives whoever has taken the relay over by more than any other does. */
static int make_ticket(struct vault *v, const struct key_request *r, struct key_answer *a,
                       uint8_t out[TICKET_MAX_BYTES]) {
  struct ticket t = r->ticket;
  int64_t latest_s = now_s() + TICKET_LIFE_S;
  if (t.expires_s > latest_s) t.expires_s = latest_s;
  a->bytes = out;
  pthread_mutex_lock(&v->lock);
  int rc = v->tickets_n == 0 ? ERR_NOT_NOW : ticket_encode(&t, &v->tickets[0], out, &a->n);
  pthread_mutex_unlock(&v->lock);
  return rc;
}

static int read_ticket(struct vault *v, const struct key_request *r, struct key_answer *a) {
  pthread_mutex_lock(&v->lock);
  int rc = ticket_decode(r->text, r->text_n, v->tickets, v->tickets_n, &a->ticket);
  pthread_mutex_unlock(&v->lock);
  return rc;
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

static int answer(struct vault *v, const struct key_request *r, struct key_answer *a, struct buf *chain,
                  uint8_t room[SIGNATURE_MAX_BYTES], struct err *e) {
  switch (r->kind) {
    case KEY_LOAD: return load(v, a, chain, e);
    case KEY_ISSUE: return issue(v, r, a, chain, e);
    case KEY_SIGN: return sign(v, r, a, room);
    case KEY_TICKETS: return read_tickets(v, e);
    case KEY_TICKET_MAKE: return make_ticket(v, r, a, room);
    case KEY_TICKET_READ: return read_ticket(v, r, a);
    case KEY_DROP: break;
  }
  return ERR_USAGE;
}

int vault_answer(struct vault *v, const uint8_t *request, size_t n, struct buf *out) {
  struct key_request r;
  struct key_answer a = {.code = 0};
  struct buf chain;
  struct err e = {0};
  uint8_t room[SIGNATURE_MAX_BYTES];
  int rc = key_request_read(request, n, &r);
  if (rc != 0) return rc;
  if (r.kind == KEY_DROP) {
    drop(v, r.handle);
    return 0;
  }
  buf_init(&chain, KEY_CHAIN_MAX_BYTES);
  a.code = answer(v, &r, &a, &chain, room, &e);
  if (a.code != 0) a.n = 0;
  memcpy(a.error, e.text, sizeof a.error);
  rc = key_answer_write(&a, out);
  buf_free(&chain);
  return rc;
}
