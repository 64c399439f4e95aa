/* The key files of a state folder: operator.key, operator.pub, ticket.key, authority.pem, authority.key. The hard thing
   is that an authority is two files: the key is written before the certificate and taken away after it, so that a
   certificate without its key never stands there, whenever a crash comes. Secrets are read when asked for and kept
   nowhere. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/secret.h"
#include "base/text.h"
#include "relay/state_private.h"

#define OPERATOR_KEY_PREFIX "adit-operator-key-1 "
#define TICKET_KEY_PREFIX "adit-ticket-key-1 "
enum { KEY_TEXT_CHARS = 43, SMALL_FILE_CAP = 1024 };  /* 32 bytes in base64url */

static int malformed(const struct state *s, const char *name, struct err *e) {
  return err_set(e, ERR_SYNTAX,
                 "%s/%s: damaged: not what adit wrote there (restore it from a backup; or move it away and begin anew "
                 "with: adit relay --reset-state)",
                 s->folder.path, name);
}

static int no_random(struct err *e) {
  return err_set(e, ERR_CRYPTO, "keys: the system gave no random bytes (check its crypto library)");
}

/* Operator. */

static int operator_make(struct state *s, uint8_t seed[ED25519_KEY_BYTES], struct err *e) {
  uint8_t public_key[ED25519_KEY_BYTES];
  char text[SMALL_FILE_CAP] = OPERATOR_KEY_PREFIX;
  size_t n = strlen(text);
  if (ed25519_keypair(seed, public_key) != 0) return no_random(e);
  n += base64url_encode(seed, ED25519_KEY_BYTES, text + n);
  text[n++] = '\n';
  int rc = key_file_write(&s->folder, "operator.key", true, text, n, e);
  wipe(text, sizeof text);
  return rc;
}

/* ERR_NOT_NOW, without a text, when there is none. */
static int operator_read(struct state *s, uint8_t seed[ED25519_KEY_BYTES], struct err *e) {
  char text[SMALL_FILE_CAP];
  const size_t prefix_n = strlen(OPERATOR_KEY_PREFIX);
  size_t n, seed_n = 0;
  int rc = key_file_read(&s->folder, "operator.key", true, text, sizeof text, &n, e);
  if (rc != 0) return rc;
  if (n != prefix_n + KEY_TEXT_CHARS + 1 || memcmp(text, OPERATOR_KEY_PREFIX, prefix_n) != 0 || text[n - 1] != '\n' ||
      base64url_decode(text + prefix_n, KEY_TEXT_CHARS, seed, ED25519_KEY_BYTES, &seed_n) != 0 ||
      seed_n != ED25519_KEY_BYTES)
    rc = malformed(s, "operator.key", e);
  wipe(text, sizeof text);
  return rc;
}

/* operator.pub is made from the key, and made again where it differs: it is a copy for other relays, not a source. */
static int operator_public_prepare(struct state *s, struct err *e) {
  char want[OPERATOR_TEXT_MAX], have[SMALL_FILE_CAP];
  size_t n = 0;
  operator_key_encode(s->operator_public, want);
  int rc = key_file_read(&s->folder, "operator.pub", false, have, sizeof have, &n, e);
  if (rc == 0 && strcmp(have, want) == 0) return 0;
  if (rc != 0 && rc != ERR_NOT_NOW) return rc;
  return key_file_write(&s->folder, "operator.pub", false, want, strlen(want), e);
}

static int operator_note(struct state *s, struct err *e) {
  char key[2 * ED25519_KEY_BYTES + 1];
  hex_encode(s->operator_public, sizeof s->operator_public, key);
  return kept_note(s, KEPT_OPERATOR, key, e);
}

int state_keys_prepare(struct state *s, struct err *e) {
  uint8_t seed[ED25519_KEY_BYTES];
  int rc = operator_read(s, seed, e);
  if (rc == ERR_NOT_NOW) {
    rc = kept_check_missing(s, KEPT_OPERATOR, "operator.key", e);
    if (rc == 0) rc = operator_make(s, seed, e);
  }
  if (rc == 0 && ed25519_public(seed, s->operator_public) != 0)
    rc = err_set(e, ERR_CRYPTO, "%s/operator.key: the crypto library refuses it (restore it from a backup)",
                 s->folder.path);
  wipe(seed, sizeof seed);
  if (rc == 0) rc = operator_note(s, e);
  if (rc == 0) rc = key_file_seal(&s->folder, "operator.key", e);
  return rc != 0 ? rc : operator_public_prepare(s, e);
}

int state_operator_seed(struct state *s, uint8_t seed[ED25519_KEY_BYTES], struct err *e) {
  int rc = operator_read(s, seed, e);
  if (rc == ERR_NOT_NOW)
    return err_set(e, rc, "%s/operator.key: it has been removed (restore it from a backup)", s->folder.path);
  return rc;
}

int state_operator_public(struct state *s, uint8_t key[ED25519_KEY_BYTES], struct err *e) {
  (void)e;
  memcpy(key, s->operator_public, ED25519_KEY_BYTES);
  return 0;
}

/* Tickets: a line each for the current and the previous key: prefix, id, creation time, key. */

struct kept_ticket_key {
  struct ticket_key key;
  int64_t created_s;
};

/* Cuts the word that ends with `end` off *at; NULL when there is none. */
static char *word_cut(char **at, char end) {
  char *word = *at, *stop = strchr(word, end);
  if (stop == NULL) return NULL;
  *stop = '\0';
  *at = stop + 1;
  return word;
}

static bool ticket_line_parse(char **at, struct kept_ticket_key *k) {
  const size_t prefix_n = strlen(TICKET_KEY_PREFIX);
  if (strncmp(*at, TICKET_KEY_PREFIX, prefix_n) != 0) return false;
  *at += prefix_n;
  const char *id = word_cut(at, ' ');
  const char *created = id == NULL ? NULL : word_cut(at, ' ');
  const char *key = created == NULL ? NULL : word_cut(at, '\n');
  uint64_t id_value, created_value;
  size_t key_n = 0;
  if (key == NULL || text_to_u64(id, UINT32_MAX, &id_value) != 0 ||
      text_to_u64(created, INT64_MAX, &created_value) != 0 ||
      base64url_decode(key, strlen(key), k->key.key, TICKET_KEY_BYTES, &key_n) != 0 || key_n != TICKET_KEY_BYTES)
    return false;
  k->key.id = (uint32_t)id_value;
  k->created_s = (int64_t)created_value;
  return true;
}

static int tickets_read(struct state *s, struct kept_ticket_key keys[2], size_t *n, struct err *e) {
  char text[SMALL_FILE_CAP];
  size_t text_n;
  *n = 0;
  int rc = key_file_read(&s->folder, "ticket.key", true, text, sizeof text, &text_n, e);
  if (rc == ERR_NOT_NOW) return 0;
  if (rc != 0) return rc;
  char *at = text;
  while (*n < 2 && *at != '\0' && ticket_line_parse(&at, &keys[*n])) ++*n;
  if (*n == 0 || at != text + text_n) rc = malformed(s, "ticket.key", e);
  wipe(text, sizeof text);
  return rc;
}

static int tickets_write(struct state *s, const struct kept_ticket_key *keys, size_t n, struct err *e) {
  char text[SMALL_FILE_CAP], key[KEY_TEXT_CHARS + 2];
  size_t at = 0;
  for (size_t i = 0; i < n; i++) {
    (void)base64url_encode(keys[i].key.key, TICKET_KEY_BYTES, key);
    at += (size_t)snprintf(text + at, sizeof text - at, TICKET_KEY_PREFIX "%" PRIu32 " %" PRId64 " %s\n",
                           keys[i].key.id, keys[i].created_s, key);
  }
  int rc = key_file_write(&s->folder, "ticket.key", true, text, at, e);
  wipe(text, sizeof text);
  wipe(key, sizeof key);
  return rc;
}

/* The current key becomes the previous one, which verifies every ticket made under it until that has expired. */
static int tickets_rotate(struct state *s, int64_t now_s, struct kept_ticket_key keys[2], size_t *n, struct err *e) {
  if (*n > 0) keys[1] = keys[0];
  keys[0].key.id = *n > 0 ? keys[1].key.id + 1 : 1;
  keys[0].created_s = now_s;
  if (random_bytes(keys[0].key.key, TICKET_KEY_BYTES) != 0) return no_random(e);
  *n = *n > 0 ? 2 : 1;
  return tickets_write(s, keys, *n, e);
}

int state_ticket_keys(struct state *s, int64_t now_s, struct ticket_key keys[2], size_t *n, struct err *e) {
  *n = 0;
  int lock = folder_lock(&s->folder, e);
  if (lock < 0) return lock;
  struct kept_ticket_key kept[2];
  size_t kept_n = 0;
  int rc = tickets_read(s, kept, &kept_n, e);
  if (rc == 0 && kept_n == 0) rc = kept_check_missing(s, KEPT_TICKETS, "ticket.key", e);
  if (rc == 0 && (kept_n == 0 || now_s - kept[0].created_s > TICKET_LIFE_S))
    rc = tickets_rotate(s, now_s, kept, &kept_n, e);
  if (rc == 0) rc = kept_note(s, KEPT_TICKETS, "in use", e);   /* one after the other */
  if (rc == 0) rc = key_file_seal(&s->folder, "ticket.key", e);
  folder_unlock(lock);
  if (rc == 0)
    for (; *n < kept_n; ++*n) keys[*n] = kept[*n].key;
  wipe(kept, sizeof kept);
  return rc;
}

/* Authority. */

static int authority_write(struct state *s, const struct authority *a, struct err *e) {
  char *cert = NULL, *key = NULL;
  int rc = authority_cert_pem(a, &cert, e);
  if (rc == 0) rc = authority_key_pem(a, &key, e);
  if (rc == 0) rc = key_file_write(&s->folder, "authority.key", true, key, strlen(key), e);
  if (rc == 0) rc = key_file_write(&s->folder, "authority.pem", false, cert, strlen(cert), e);
  authority_pem_free(key);
  authority_pem_free(cert);
  return rc;
}

/* Writes what has just been made, or NULL, and passes it on. */
static int authority_put(struct state *s, struct authority *made, struct authority **out, struct err *e) {
  int rc = made == NULL ? (e != NULL && e->code != 0 ? e->code : ERR_CRYPTO) : authority_write(s, made, e);
  if (rc == 0) *out = made;
  else authority_unref(made);
  return rc;
}

/* Which one it is, is not noted: whoever puts a whole authority in the place of another means it. */
static int authority_note(struct state *s, struct err *e) {
  int rc = kept_note(s, KEPT_AUTHORITY, "in use", e);
  return rc == 0 ? key_file_seal(&s->folder, "authority.key", e) : rc;
}

/* *out is NULL when there is none (a key alone is what a crash left of making or of replacing one). */
static int authority_read(struct state *s, struct authority **out, struct err *e) {
  *out = NULL;
  char *cert = malloc(STATE_FILE_MAX_BYTES), *key = malloc(STATE_FILE_MAX_BYTES);
  size_t cert_n, key_n;
  int rc = ERR_NOMEM;
  if (cert == NULL || key == NULL) {
    (void)err_set(e, rc, "%s/authority.pem: out of memory", s->folder.path);
    goto done;
  }
  rc = key_file_read(&s->folder, "authority.pem", false, cert, STATE_FILE_MAX_BYTES, &cert_n, e);
  if (rc == ERR_NOT_NOW) {
    rc = kept_check_missing(s, KEPT_AUTHORITY, "authority.pem", e);
    goto done;
  }
  if (rc != 0) goto done;
  rc = key_file_read(&s->folder, "authority.key", true, key, STATE_FILE_MAX_BYTES, &key_n, e);
  if (rc == ERR_NOT_NOW)
    (void)err_set(e, rc,
                  "%s/authority.key: missing, though authority.pem is there (restore it from a backup, or begin anew "
                  "with: adit relay --reset-state)",
                  s->folder.path);
  if (rc != 0) goto done;
  *out = authority_from_pem(cert, cert_n, key, key_n, e);
  if (*out == NULL) {
    rc = e != NULL && e->code != 0 ? e->code : ERR_SYNTAX;
    (void)err_prefix(e, "%s/authority.pem", s->folder.path);
  }
done:
  if (key != NULL) wipe(key, STATE_FILE_MAX_BYTES);
  free(key);
  free(cert);
  return rc;
}

/* The same one for the time that is now. */
static int authority_renewed(struct state *s, const struct authority *a, int64_t now_s, struct authority **out,
                             struct err *e) {
  char from[TIME_TEXT_CHARS + 1];
  int rc = authority_put(s, authority_renew(a, now_s, e), out, e);
  if (rc != 0) return rc;
  text_of_time(authority_not_before(a), from);
  bool future = authority_not_before(a) > now_s;
  log_event(LOG_WARN, "authority_renewed", "was_valid_from", from, "reason",
            future ? "it was made by a clock that has been set back since" : "its time is nearly over", "what_to_do",
            "nothing: its key stays, so tokens hold, and who trusts the authority.pem of before may do so until that "
            "ends",
            NULL);
  return 0;
}

static int authority_replace(struct state *s, const char *domain, int64_t now_s, struct authority **out,
                             struct err *e) {
  int rc = kept_forget(s, KEPT_AUTHORITY, e);
  if (rc == 0) rc = key_file_set_aside(&s->folder, "authority.pem", now_s, e);
  if (rc == 0) rc = key_file_set_aside(&s->folder, "authority.key", now_s, e);
  if (rc != 0) return rc;
  return authority_put(s, authority_make(domain, now_s, e), out, e);
}

int state_authority(struct state *s, const char *domain, int64_t now_s, struct authority **out, struct err *e) {
  *out = NULL;
  int lock = folder_lock(&s->folder, e);
  if (lock < 0) return lock;
  struct authority *a = NULL;
  int rc = authority_read(s, &a, e);
  if (rc == 0 && (a == NULL || !authority_covers(a, domain)))
    rc = authority_replace(s, domain, now_s, out, e);
  else if (rc == 0 && !authority_is_timely(a, now_s))
    rc = authority_renewed(s, a, now_s, out, e);
  else if (rc == 0)
    *out = authority_ref(a);
  authority_unref(a);
  if (rc == 0) rc = authority_note(s, e);
  if (rc != 0) {
    authority_unref(*out);
    *out = NULL;
  }
  folder_unlock(lock);
  return rc;
}

int state_authority_renew(struct state *s, const struct authority *a, int64_t now_s, struct authority **out,
                          struct err *e) {
  *out = NULL;
  int lock = folder_lock(&s->folder, e);
  if (lock < 0) return lock;
  int rc = authority_renewed(s, a, now_s, out, e);
  folder_unlock(lock);
  return rc;
}
