/* The relay's TLS identity. The hard thing is a replacement in two steps: certificate and key are two files, and
   whoever looks between the two writes sees a pair that does not match. So files are read when they have been left
   alone for a while, and what was seen (stat) is noted before reading, whether or not the reading succeeds: a later
   write changes it again and brings the next attempt, while the old identity serves on.

   Two threads meet here: the state thread opens, watches and reloads; loops call certs_current and certs_exact. The
   lock guards only the pointers; keys are made and files are read outside it. */
#include "relay/certs.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/addr.h"
#include "base/list.h"
#include "base/log.h"
#include "base/map.h"
#include "base/secret.h"
#include "base/text.h"
#include "relay/identity.h"
#include "relay/key_process.h"

enum { CERTS_MAGIC = 0x63657274, DAY_S = 24 * 3600, READ_TRIES_MAX = 10 };

/* The worse first. */
enum validity { VALIDITY_EXPIRED, VALIDITY_NOT_YET, VALIDITY_NOW };

/* What stat says of the file behind a name: symbolic links, as ACME clients make them, are followed. */
struct file_mark {
  dev_t dev;
  ino_t ino;
  off_t size;
  struct timespec modified, changed;
};

struct exact {
  struct list node;                /* most recently used first */
  uint8_t key[SHA256_BYTES];       /* of the host name */
  struct tls_server *server;
};

struct pair_mark { struct file_mark cert, key; };

struct certs {
  uint32_t magic;
  struct key_process *keys;        /* NULL: they are here */
  struct identity_source files;
  char *domain, *cert_file, *key_file;           /* files: NULL with our own authority */
  struct pair_mark read, seen;     /* of the files when they were last read, and last looked at */
  int64_t refused_from_s, refused_until_s;       /* when the replacement that was refused for its time is valid; or 0 */
  int64_t retry_at_s;                            /* when files that could not be used are read again; or 0 */
  int64_t tried_s;                 /* our own certificate: the last attempt to make it */
  enum validity told;              /* what the log says of the present one */
  struct pin pin;

  pthread_mutex_t lock;            /* guards what follows */
  struct authority *authority;     /* NULL with files */
  struct tls_server *current;
  struct map *exact;
  struct list recent;
};

static struct file_mark mark_of(const char *path) {
  struct stat st;
  struct file_mark mark;
  memset(&mark, 0, sizeof mark);
  if (stat(path, &st) != 0) return mark;
  mark.dev = st.st_dev;
  mark.ino = st.st_ino;
  mark.size = st.st_size;
  mark.modified = st.st_mtim;
  mark.changed = st.st_ctim;
  return mark;
}

static bool time_is_same(const struct timespec *a, const struct timespec *b) {
  return a->tv_sec == b->tv_sec && a->tv_nsec == b->tv_nsec;
}

static bool mark_is_same(const struct file_mark *a, const struct file_mark *b) {
  return a->dev == b->dev && a->ino == b->ino && a->size == b->size && time_is_same(&a->modified, &b->modified) &&
         time_is_same(&a->changed, &b->changed);
}

static struct pair_mark marks_of(const struct certs *c) {
  return (struct pair_mark){.cert = mark_of(c->cert_file), .key = mark_of(c->key_file)};
}

static bool marks_are_same(const struct pair_mark *a, const struct pair_mark *b) {
  return mark_is_same(&a->cert, &b->cert) && mark_is_same(&a->key, &b->key);
}

static enum validity validity_of(const struct tls_server *s, int64_t now_s) {
  if (now_s > tls_server_not_after(s)) return VALIDITY_EXPIRED;
  return now_s < tls_server_not_before(s) ? VALIDITY_NOT_YET : VALIDITY_NOW;
}

/* Both files as they stood at one time. */
static int load_steadily(struct certs *c, int64_t now_s, struct identity *out, struct err *e) {
  for (int tries = 1;; tries++) {
    if (c->cert_file != NULL) c->read = marks_of(c);
    int rc = c->keys != NULL ? key_process_load(c->keys, out, e)
                             : identity_load(&c->files, c->authority, now_s, out, e);
    struct pair_mark after = c->read;
    if (c->cert_file != NULL) after = marks_of(c);
    if (marks_are_same(&c->read, &after) || tries == READ_TRIES_MAX) return rc;
    identity_drop(out);
  }
}

static int load(struct certs *c, int64_t now_s, struct identity *out, struct err *e) {
  if (c->cert_file == NULL) c->tried_s = now_s;
  return load_steadily(c, now_s, out, e);
}

/* What is no reason to refuse it, since only its operator knows whom it is for. */
static void warn_of_chain(const struct certs *c, const struct tls_server *server, int64_t now_s) {
  struct err e = {0};
  if (c->cert_file == NULL || tls_server_check_chain(server, false, now_s, &e) == 0) return;
  log_event(LOG_WARN, "certificate_chain", "file", c->cert_file, "error", e.text, "what_to_do",
            "give --cert the whole chain, with the certificates between this one and its authority (certbot's "
            "fullchain.pem); it is well only if agents and visitors are given an authority of your own",
            NULL);
}

static struct certs *certs_new(struct state *s, struct key_process *keys, const char *domain, const char *cert_file,
                               const char *key_file) {
  struct certs *c = calloc(1, sizeof *c);
  if (c == NULL) return NULL;
  c->magic = CERTS_MAGIC;
  c->keys = keys;
  c->told = VALIDITY_NOW;
  (void)pthread_mutex_init(&c->lock, NULL);
  list_init(&c->recent);
  c->exact = map_new(SHA256_BYTES);
  c->domain = strdup(domain);
  c->cert_file = cert_file != NULL ? strdup(cert_file) : NULL;
  c->key_file = key_file != NULL ? strdup(key_file) : NULL;
  if (c->exact == NULL || c->domain == NULL || (cert_file != NULL && (c->cert_file == NULL || c->key_file == NULL))) {
    certs_close(c);
    return NULL;
  }
  c->files = (struct identity_source){
      .state = s, .domain = c->domain, .cert_file = c->cert_file, .key_file = c->key_file};
  return c;
}

int certs_open(struct state *s, struct key_process *keys, const char *domain, const char *cert_file,
               const char *key_file, int64_t now_s, struct certs **out, struct err *e) {
  *out = NULL;
  if ((cert_file == NULL) != (key_file == NULL))
    return err_set(e, ERR_USAGE, "certificate: --cert and --key go together (give both or none)");
  struct identity first;
  struct certs *c = certs_new(s, keys, domain, cert_file, key_file);
  if (c == NULL) return err_set(e, ERR_NOMEM, "certificate: out of memory");
  int rc = load(c, now_s, &first, e);
  if (rc != 0) {
    certs_close(c);
    return rc;
  }
  c->current = first.server;
  c->authority = first.authority;
  c->pin = first.pin;
  c->seen = c->read;
  warn_of_chain(c, c->current, now_s);
  *out = c;
  return 0;
}

static void exact_free(struct exact *x) {
  list_remove(&x->node);
  tls_server_unref(x->server);
  free(x);
}

static void exact_drop(struct certs *c, struct exact *x) {
  (void)map_remove(c->exact, x->key);
  exact_free(x);
}

static void exact_free_all(struct list *all) {
  while (!list_empty(all)) exact_free(CONTAINER_OF(all->next, struct exact, node));
}

void certs_close(struct certs *c) {
  if (c == NULL) return;
  CHECK_MAGIC(c, CERTS_MAGIC);
  exact_free_all(&c->recent);
  map_free(c->exact);
  tls_server_unref(c->current);
  authority_unref(c->authority);
  free(c->domain);
  free(c->cert_file);
  free(c->key_file);
  (void)pthread_mutex_destroy(&c->lock);
  c->magic = 0;
  free(c);
}

struct tls_server *certs_current(struct certs *c) {
  CHECK_MAGIC(c, CERTS_MAGIC);
  pthread_mutex_lock(&c->lock);
  struct tls_server *server = tls_server_ref(c->current);
  pthread_mutex_unlock(&c->lock);
  return server;
}

static bool own_is_due(const struct certs *c, int64_t now_s) {
  int64_t renew_at_s = tls_server_not_after(c->current) - CERT_LIFE_DAYS * (int64_t)DAY_S / 3;
  bool timely = authority_is_timely(c->authority, now_s) && now_s >= tls_server_not_before(c->current) &&
                now_s < renew_at_s;
  /* A clock that was set back since is no reason to wait. */
  return !timely && (now_s < c->tried_s || now_s >= c->tried_s + CERT_RETRY_S);
}

static bool files_have_changed(struct certs *c, int64_t now_s) {
  struct pair_mark now = marks_of(c), before = c->seen;
  c->seen = now;
  if (!marks_are_same(&now, &c->read)) return marks_are_same(&now, &before);
  if (c->retry_at_s != 0 && now_s >= c->retry_at_s) return true;
  return c->refused_until_s != 0 && now_s >= c->refused_from_s && now_s <= c->refused_until_s;
}

bool certs_changed(struct certs *c, int64_t now_s) {
  CHECK_MAGIC(c, CERTS_MAGIC);
  return c->cert_file == NULL ? own_is_due(c, now_s) : files_have_changed(c, now_s);
}

/* The same for what stands between it and its authority, which may be one that only clients know. */
static int refuse_untimely_chain(const struct certs *c, const struct tls_server *server, int64_t now_s, struct err *e) {
  struct err why = {0}, before = {0};
  if (tls_server_check_chain(server, true, now_s, &why) != ERR_TIMEOUT) return 0;
  if (tls_server_check_chain(c->current, true, now_s, &before) != 0) return 0;
  return err_set(e, ERR_NOT_NOW,
                 "%s: %s (the one before stays in use; renew the whole chain, or check this machine's clock)",
                 c->cert_file, why.text);
}

/* A valid one is not given up for one that is not. Of two that are not, the later file is what its operator wants, but
   for an expired one in place of one whose time comes. */
static int refuse_worse(struct certs *c, const struct tls_server *server, int64_t now_s, struct err *e) {
  char at[TIME_TEXT_CHARS + 1];
  enum validity v = validity_of(server, now_s), before = validity_of(c->current, now_s);
  if (v == before) return refuse_untimely_chain(c, server, now_s, e);
  if (v > before) return 0;
  c->refused_from_s = tls_server_not_before(server);
  c->refused_until_s = tls_server_not_after(server);
  text_of_time(v == VALIDITY_EXPIRED ? c->refused_until_s : c->refused_from_s, at);
  return err_set(e, ERR_NOT_NOW, "%s: it %s %s (the one before stays in use; check this machine's clock)", c->cert_file,
                 v == VALIDITY_EXPIRED ? "has expired at" : "is not valid before", at);
}

static void warn_of_clock(const struct certs *c, int64_t now_s) {
  char from[TIME_TEXT_CHARS + 1];
  if (c->cert_file != NULL || now_s >= tls_server_not_before(c->current)) return;
  text_of_time(tls_server_not_before(c->current), from);
  log_event(LOG_WARN, "certificate_from_the_future", "valid_from", from, "reason",
            "it was made by a clock that has been set back since", "what_to_do",
            "nothing: one for the present is made now, under the same authority, so that tokens hold", NULL);
}

int certs_reload(struct certs *c, int64_t now_s, struct err *e) {
  CHECK_MAGIC(c, CERTS_MAGIC);
  struct identity new = {.server = NULL};
  c->refused_from_s = c->refused_until_s = c->retry_at_s = 0;
  warn_of_clock(c, now_s);
  int rc = load(c, now_s, &new, e);
  if (rc == 0 && c->cert_file != NULL) rc = refuse_worse(c, new.server, now_s, e);
  struct map *none = rc == 0 ? map_new(SHA256_BYTES) : NULL;
  if (rc == 0 && none == NULL) rc = err_set(e, ERR_NOMEM, "certificate: out of memory");
  if (rc != 0) {
    if (c->refused_until_s == 0) c->retry_at_s = now_s + CERT_RETRY_S;
    identity_drop(&new);
    return rc;
  }
  warn_of_chain(c, new.server, now_s);
  c->told = VALIDITY_NOW;
  struct list old_exact;
  list_init(&old_exact);
  pthread_mutex_lock(&c->lock);
  struct tls_server *old = c->current;
  struct authority *old_authority = c->authority;
  c->current = new.server;
  c->authority = new.authority;
  /* Each of them was made after the old one, for as long a life, and that is replaced when a third of it is left: so
     none expires here, and nobody keeps one. There may be many, and every visitor takes the lock: they are freed
     without it. */
  struct map *old_map = c->exact;
  c->exact = none;
  list_move_all(&old_exact, &c->recent);
  c->pin = new.pin;
  pthread_mutex_unlock(&c->lock);
  exact_free_all(&old_exact);
  map_free(old_map);
  tls_server_unref(old);
  authority_unref(old_authority);
  return 0;
}

void certs_warn(struct certs *c, int64_t now_s) {
  CHECK_MAGIC(c, CERTS_MAGIC);
  char at[TIME_TEXT_CHARS + 1];
  enum validity v = validity_of(c->current, now_s);
  if (v == c->told) return;
  c->told = v;
  if (v == VALIDITY_NOW) return;
  bool expired = v == VALIDITY_EXPIRED;
  text_of_time(expired ? tls_server_not_after(c->current) : tls_server_not_before(c->current), at);
  log_event(LOG_WARN, expired ? "certificate_expired" : "certificate_not_yet_valid", expired ? "since" : "until", at,
            "what_to_do", expired ? "renew it, or set this machine's clock" : "set this machine's clock, or wait",
            NULL);
}

/* A new reference to the cached one, or NULL. One that is not valid was made by a clock that has been set since. The
   lock is held. */
static struct tls_server *exact_find(struct certs *c, const uint8_t key[SHA256_BYTES], int64_t now_s) {
  struct exact *x = map_get(c->exact, key);
  if (x == NULL) return NULL;
  if (validity_of(x->server, now_s) != VALIDITY_NOW) {
    exact_drop(c, x);
    return NULL;
  }
  list_remove(&x->node);
  list_push_head(&c->recent, &x->node);
  return tls_server_ref(x->server);
}

/* Caching is an economy only: without memory for it the certificate serves its caller all the same. The lock is
   held. */
static void exact_keep(struct certs *c, const uint8_t key[SHA256_BYTES], struct tls_server *server) {
  struct exact *x = calloc(1, sizeof *x);
  if (x == NULL) return;
  if (map_count(c->exact) >= CERTS_EXACT_MAX) exact_drop(c, CONTAINER_OF(c->recent.prev, struct exact, node));
  memcpy(x->key, key, SHA256_BYTES);
  if (map_put(c->exact, key, x) != 0) {
    free(x);
    return;
  }
  x->server = tls_server_ref(server);
  list_push_head(&c->recent, &x->node);
}

bool certs_makes_exact(const struct certs *c) {
  CHECK_MAGIC(c, CERTS_MAGIC);
  return c->cert_file == NULL;
}

struct tls_server *certs_exact_made(struct certs *c, const char *host, int64_t now_s) {
  uint8_t key[SHA256_BYTES];
  CHECK_MAGIC(c, CERTS_MAGIC);
  if (sha256(host, strlen(host), key) != 0) return NULL;
  pthread_mutex_lock(&c->lock);
  struct tls_server *server = exact_find(c, key, now_s);
  pthread_mutex_unlock(&c->lock);
  return server;
}

int certs_exact(struct certs *c, const char *host, int64_t now_s, struct tls_server **out, struct err *e) {
  uint8_t key[SHA256_BYTES];
  CHECK_MAGIC(c, CERTS_MAGIC);
  *out = NULL;
  if (c->cert_file != NULL)
    return err_set(e, ERR_NOT_NOW,
                   "certificate for %s: the relay's certificate is from files, so it cannot make others (h2 then needs "
                   "the operator's --h2-shared-name)",
                   host);
  if (sha256(host, strlen(host), key) != 0)
    return err_set(e, ERR_CRYPTO, "certificate for %s: the crypto library failed", host);
  *out = certs_exact_made(c, host, now_s);
  if (*out != NULL) return 0;
  struct tls_server *made = NULL;
  pthread_mutex_lock(&c->lock);
  struct authority *authority = authority_ref(c->authority);
  pthread_mutex_unlock(&c->lock);
  int rc = c->keys != NULL ? key_process_issue(c->keys, host, &made, e)
                           : identity_issue(authority, c->domain, host, now_s, &made, e);
  authority_unref(authority);
  if (rc != 0) return rc;
  pthread_mutex_lock(&c->lock);
  *out = exact_find(c, key, now_s);       /* another thread may have been faster */
  if (*out == NULL) {
    exact_keep(c, key, made);
    *out = made;
    made = NULL;
  }
  pthread_mutex_unlock(&c->lock);
  tls_server_unref(made);
  return 0;
}

int certs_pin(struct certs *c, struct pin *pin, struct err *e) {
  CHECK_MAGIC(c, CERTS_MAGIC);
  (void)e;
  pthread_mutex_lock(&c->lock);
  *pin = c->pin;
  pthread_mutex_unlock(&c->lock);
  return 0;
}
