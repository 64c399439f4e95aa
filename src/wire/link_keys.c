/* The chain of keys behind a link's data connections. The hard thing is that the relay must look at a number before it
   can tell whether the preface is genuine: looking may therefore derive keys and keep them, but moves nothing that
   decides. What decides is `claimed_end`, which only a claim after a verified MAC moves; a forger makes us derive up to
   DATA_NUMBER_WINDOW keys beyond it once, and finds them there the next time. */
#include "wire/link_keys.h"

#include "base/list.h"
#include "base/secret.h"

enum { CHAIN_BYTES = SHA256_BYTES };
#define NOT_PASSED UINT64_MAX

struct kept_key {                  /* in ascending order of number; 64 bytes, a cell of secret memory */
  struct list node;
  uint64_t number;
  uint64_t passed_ms;              /* when a later number was claimed; NOT_PASSED: not yet, so it does not expire */
  uint8_t key[CHAIN_BYTES];
};

struct link_keys {
  uint8_t chain[CHAIN_BYTES];      /* of `next` */
  uint64_t next;                   /* the first number whose key is not derived yet */
  uint64_t claimed_end;            /* one above the highest number claimed */
  struct list kept;
};

int link_id_derive(const uint8_t exporter[32], uint8_t id[LINK_ID_BYTES]) {
  return hkdf_expand(exporter, "adit link id", id, LINK_ID_BYTES);
}

struct link_keys *link_keys_new(const uint8_t exporter[32], const uint8_t shared[X25519_BYTES]) {
  struct link_keys *k = secret_alloc(sizeof *k);
  if (k == NULL) return NULL;
  list_init(&k->kept);
  uint8_t root[SHA256_BYTES];
  int r = hkdf_extract(HASH_SHA256, exporter, 32, shared, X25519_BYTES, root);
  if (r == 0) r = hkdf_expand(root, "adit chain", k->chain, sizeof k->chain);
  wipe(root, sizeof root);
  if (r == 0) return k;
  secret_free(k, sizeof *k);
  return NULL;
}

static void kept_key_drop(struct kept_key *key) {
  list_remove(&key->node);
  secret_free(key, sizeof *key);
}

void link_keys_free(struct link_keys *k) {
  if (k == NULL) return;
  LIST_FOREACH(&k->kept, it) kept_key_drop(CONTAINER_OF(it, struct kept_key, node));
  secret_free(k, sizeof *k);
}

static int number_keys_derive(const uint8_t key[CHAIN_BYTES], struct number_keys *out) {
  int r = hkdf_expand(key, "adit preface", out->preface, sizeof out->preface);
  if (r == 0) r = hkdf_expand(key, "adit open", out->open, sizeof out->open);
  if (r == 0) r = hkdf_expand(key, "adit accept", out->accept, sizeof out->accept);
  if (r != 0) wipe(out, sizeof *out);
  return r;
}

/* The key of `next`, and one step of the chain. On failure nothing has moved. */
static int chain_step(struct link_keys *k, uint8_t key[CHAIN_BYTES]) {
  uint8_t chain[CHAIN_BYTES];
  int r = hkdf_expand(k->chain, "adit number", key, CHAIN_BYTES);
  if (r == 0) r = hkdf_expand(k->chain, "adit next", chain, sizeof chain);
  if (r == 0) {
    for (size_t i = 0; i < sizeof chain; i++) k->chain[i] = chain[i];
    k->next++;
  }
  wipe(chain, sizeof chain);
  return r;
}

int link_keys_next(struct link_keys *k, uint64_t *number, struct number_keys *out) {
  uint8_t key[CHAIN_BYTES];
  *number = k->next;
  int r = chain_step(k, key);
  if (r == 0) r = number_keys_derive(key, out);
  wipe(key, sizeof key);
  return r;
}

static int derive_up_to(struct link_keys *k, uint64_t number) {
  while (k->next <= number) {
    struct kept_key *key = secret_alloc(sizeof *key);
    if (key == NULL) return ERR_NOMEM;
    key->number = k->next;
    key->passed_ms = NOT_PASSED;
    int r = chain_step(k, key->key);
    if (r != 0) {
      secret_free(key, sizeof *key);
      return r;
    }
    list_push_tail(&k->kept, &key->node);
  }
  return 0;
}

static bool is_expired(const struct kept_key *key, uint64_t now_ms) {
  return key->passed_ms != NOT_PASSED && now_ms > key->passed_ms && now_ms - key->passed_ms > DATA_SKIPPED_KEY_LIFE_MS;
}

static struct kept_key *kept_find(const struct link_keys *k, uint64_t number) {
  LIST_FOREACH(&k->kept, it) {
    struct kept_key *key = CONTAINER_OF(it, struct kept_key, node);
    if (key->number == number) return key;
    if (key->number > number) break;
  }
  return NULL;
}

int link_keys_peek(struct link_keys *k, uint64_t number, uint64_t now_ms, struct number_keys *out) {
  if (number >= k->claimed_end && number - k->claimed_end >= DATA_NUMBER_WINDOW) return ERR_LIMIT;
  int r = derive_up_to(k, number);
  if (r != 0) return r;
  struct kept_key *key = kept_find(k, number);
  if (key == NULL || is_expired(key, now_ms)) return ERR_CONFLICT;
  return number_keys_derive(key->key, out);
}

void link_keys_claim(struct link_keys *k, uint64_t number, uint64_t now_ms) {
  struct kept_key *claimed = kept_find(k, number);
  if (claimed == NULL) return; /* never peeked: nothing to claim */
  kept_key_drop(claimed);
  if (number < k->claimed_end) return;
  k->claimed_end = number + 1;
  LIST_FOREACH(&k->kept, it) {
    struct kept_key *key = CONTAINER_OF(it, struct kept_key, node);
    if (key->number > number) break;
    if (key->passed_ms == NOT_PASSED) key->passed_ms = now_ms;
    if (number - key->number >= DATA_NUMBER_WINDOW) kept_key_drop(key);
  }
}

void link_keys_expire(struct link_keys *k, uint64_t now_ms) {
  LIST_FOREACH(&k->kept, it) {
    struct kept_key *key = CONTAINER_OF(it, struct kept_key, node);
    if (is_expired(key, now_ms)) kept_key_drop(key);
  }
}

/* Moving: the chain, and the keys that are kept, each with how long it has been passed, if it has. */

enum {
  EXPORT_FIXED_BYTES = CHAIN_BYTES + 8 + 8 + 2,
  EXPORT_KEPT_BYTES = 8 + 1 + 8 + CHAIN_BYTES,
  KEPT_MAX = 2 * DATA_NUMBER_WINDOW              /* on either side of what was claimed */
};

_Static_assert((int)LINK_KEYS_EXPORT_MAX_BYTES >= (int)EXPORT_FIXED_BYTES + (int)KEPT_MAX * (int)EXPORT_KEPT_BYTES, "");

static const uint64_t NUMBERS_MAX = UINT64_MAX / 2;      /* nobody lives to see that one */

static size_t kept_n(const struct link_keys *k) {
  size_t n = 0;
  LIST_FOREACH(&k->kept, it) n++;
  return n;
}

size_t link_keys_export_bytes(const struct link_keys *k) { return EXPORT_FIXED_BYTES + kept_n(k) * EXPORT_KEPT_BYTES; }

void link_keys_export(const struct link_keys *k, uint64_t now_ms, struct writer *w) {
  write_bytes(w, k->chain, sizeof k->chain);
  write_u64(w, k->next);
  write_u64(w, k->claimed_end);
  write_u16(w, (uint16_t)kept_n(k));
  LIST_FOREACH(&k->kept, it) {
    const struct kept_key *key = CONTAINER_OF(it, struct kept_key, node);
    bool passed = key->passed_ms != NOT_PASSED;
    write_u64(w, key->number);
    write_u8(w, passed);
    write_u64(w, passed && now_ms > key->passed_ms ? now_ms - key->passed_ms : 0);
    write_bytes(w, key->key, sizeof key->key);
  }
}

static int import_kept(struct link_keys *k, uint64_t now_ms, struct reader *r) {
  uint64_t number = read_u64(r);
  bool passed = read_flag(r);
  uint64_t age_ms = read_u64(r);
  const uint8_t *bytes = read_bytes(r, CHAIN_BYTES);
  bool first = list_empty(&k->kept);
  if (bytes == NULL || r->bad || number >= k->next || passed != (number < k->claimed_end)) return ERR_SYNTAX;
  if (!first && number <= CONTAINER_OF(k->kept.prev, struct kept_key, node)->number) return ERR_SYNTAX;
  struct kept_key *key = secret_alloc(sizeof *key);
  if (key == NULL) return ERR_NOMEM;
  key->number = number;
  key->passed_ms = !passed ? NOT_PASSED : age_ms < now_ms ? now_ms - age_ms : 0;
  for (size_t i = 0; i < CHAIN_BYTES; i++) key->key[i] = bytes[i];
  list_push_tail(&k->kept, &key->node);
  return 0;
}

static int import_chain(struct link_keys *k, uint64_t now_ms, struct reader *r) {
  read_copy(r, k->chain, sizeof k->chain);
  k->next = read_u64(r);
  k->claimed_end = read_u64(r);
  size_t n = read_u16(r);
  int rc = 0;
  if (r->bad || n > KEPT_MAX || k->claimed_end > k->next || k->next > NUMBERS_MAX) return ERR_SYNTAX;
  for (size_t i = 0; rc == 0 && i < n; i++) rc = import_kept(k, now_ms, r);
  return rc;
}

int link_keys_import(struct reader *r, uint64_t now_ms, struct link_keys **out) {
  struct link_keys *k = secret_alloc(sizeof *k);
  if (k == NULL) return ERR_NOMEM;
  list_init(&k->kept);
  int rc = import_chain(k, now_ms, r);
  if (rc == 0) *out = k;
  else link_keys_free(k);
  return rc;
}
