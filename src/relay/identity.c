/* Certificate and key are texts here, for a moment, and wiped. */
#include "relay/identity.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "base/addr.h"
#include "base/secret.h"

/* A malloced, NUL-terminated text of at most CERT_FILE_MAX_BYTES - 1 bytes. */
static int file_read(const char *what, const char *path, char **out, size_t *n, struct err *e) {
  *out = NULL;
  *n = 0;
  int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) return err_set_errno_remedy(e, "it must be readable by the relay's user", "%s %s", what, path);
  char *text = malloc(CERT_FILE_MAX_BYTES);
  int rc = text == NULL ? err_set(e, ERR_NOMEM, "%s %s: out of memory", what, path) : 0;
  while (rc == 0) {
    ssize_t got = read(fd, text + *n, CERT_FILE_MAX_BYTES - *n);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) rc = err_set(e, ERR_IO, "%s %s: %s (it must be a readable file)", what, path, strerror(errno));
    if (got <= 0) break;
    *n += (size_t)got;
    if (*n == CERT_FILE_MAX_BYTES)
      rc = err_set(e, ERR_LIMIT, "%s %s: longer than %d bytes (it should be a PEM file)", what, path,
                   CERT_FILE_MAX_BYTES);
  }
  close(fd);
  if (rc != 0) {
    if (text != NULL) wipe(text, CERT_FILE_MAX_BYTES);
    free(text);
    return rc;
  }
  text[*n] = '\0';
  *out = text;
  return 0;
}

static int failure_code(const struct err *e, int otherwise) { return e != NULL && e->code != 0 ? e->code : otherwise; }

/* An authority of the operator's own, when the chain ends in it, is what agents are to know; else the public ones. */
static int pin_of_chain(const char *chain, size_t n, struct pin *pin, struct err *e) {
  bool self_signed = false;
  memset(pin, 0, sizeof *pin);
  int rc = authority_pin_of_chain(chain, n, pin->spki_sha256, &self_signed, e);
  if (rc != 0) return rc;
  pin->kind = self_signed ? PIN_SPKI_SHA256 : PIN_PUBLIC_AUTHORITIES;
  if (!self_signed) memset(pin->spki_sha256, 0, sizeof pin->spki_sha256);
  return 0;
}

struct pair { char *cert, *key; size_t cert_n, key_n; };

/* Both may be one file, which has the key in it. */
static void pair_drop(struct pair *p) {
  if (p->cert != NULL) wipe(p->cert, p->cert_n);
  if (p->key != NULL) wipe(p->key, p->key_n);
  free(p->cert);
  free(p->key);
}

static int load_files(const struct identity_source *s, struct identity *out, struct err *e) {
  struct pair p = {NULL, NULL, 0, 0};
  int rc = file_read("certificate", s->cert_file, &p.cert, &p.cert_n, e);
  if (rc == 0) rc = file_read("certificate's key", s->key_file, &p.key, &p.key_n, e);
  if (rc == 0) rc = pin_of_chain(p.cert, p.cert_n, &out->pin, e);
  if (rc == 0) {
    out->server = tls_server_new(p.cert, p.cert_n, p.key, p.key_n, s->domain, e);
    if (out->server == NULL) rc = failure_code(e, ERR_CRYPTO);
  }
  if (rc != 0 && e != NULL && strstr(e->text, s->cert_file) == NULL && strstr(e->text, s->key_file) == NULL)
    (void)err_prefix(e, "%s", strncmp(e->text, "private key", 11) == 0 ? s->key_file : s->cert_file);
  pair_drop(&p);
  return rc;
}

/* A certificate under our own authority. It is kept in memory only: the next start makes another. */
static int issue(const struct authority *a, const char *const *names, size_t n, const char *domain, int64_t now_s,
                 struct tls_server **out, struct err *e) {
  char *chain = NULL, *key = NULL;
  int rc = authority_issue(a, names, n, CERT_LIFE_DAYS, now_s, &chain, &key, e);
  if (rc != 0) return rc;
  *out = tls_server_new(chain, strlen(chain), key, strlen(key), domain, e);
  authority_pem_free(key);
  authority_pem_free(chain);
  return *out != NULL ? 0 : failure_code(e, ERR_CRYPTO);
}

static int load_own(const struct identity_source *s, int64_t now_s, struct identity *out, struct err *e) {
  char wildcard[HOST_NAME_MAX_CHARS + 1];
  if (snprintf(wildcard, sizeof wildcard, "*.%s", s->domain) >= (int)sizeof wildcard)
    return err_set(e, ERR_USAGE, "domain %s: too long for names under it (choose a shorter one)", s->domain);
  const char *names[] = {s->domain, wildcard};
  out->pin.kind = PIN_SPKI_SHA256;
  int rc = authority_pin(out->authority, out->pin.spki_sha256);
  if (rc != 0)
    return err_set(e, rc, "authority of %s: its key cannot be read (restore authority.pem from a backup)", s->domain);
  return issue(out->authority, names, ARRAY_LEN(names), s->domain, now_s, &out->server, e);
}

int identity_load(const struct identity_source *s, struct authority *present, int64_t now_s, struct identity *out,
                  struct err *e) {
  int rc = 0;
  memset(out, 0, sizeof *out);
  if (s->cert_file != NULL) {
    rc = load_files(s, out, e);
  } else {
    if (present == NULL) rc = state_authority(s->state, s->domain, now_s, &out->authority, e);
    else if (authority_is_timely(present, now_s)) out->authority = authority_ref(present);
    else rc = state_authority_renew(s->state, present, now_s, &out->authority, e);
    if (rc == 0) rc = load_own(s, now_s, out, e);
  }
  if (rc != 0) identity_drop(out);
  return rc;
}

void identity_drop(struct identity *i) {
  tls_server_unref(i->server);
  authority_unref(i->authority);
  memset(i, 0, sizeof *i);
}

/* One label under the domain: what our wildcard covers, too. */
static bool is_under(const char *host, const char *domain) {
  const char *dot = strchr(host, '.');
  return dot != NULL && dot != host && host_name_is_valid(host) && strcasecmp(dot + 1, domain) == 0;
}

int identity_issue(const struct authority *a, const char *domain, const char *host, int64_t now_s,
                   struct tls_server **out, struct err *e) {
  if (!is_under(host, domain))
    return err_set(e, ERR_USAGE, "certificate for %s: not a name directly under %s", host, domain);
  return issue(a, &host, 1, NULL, now_s, out, e);
}
