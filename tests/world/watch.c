#include "watch.h"

#include <stdio.h>
#include <string.h>

#include "base/base.h"
#include "crypto/crypto.h"
#include "wire/data.h"
#include "world.h"
#include "wrap.h"

enum { SEEN_FIRST = 1024, NONCE_BYTES = 12, ADDRESS_HOST_CAP = 256 };

/* Two hashes of what was seen, which are never both 0. */
struct mark { uint64_t a, b; };

static struct seen {
  struct mark *at;
  size_t len, n;
} seen;

/* The keys of those objects: of an object that is freed, until its memory is one's again. */
static struct keys {
  struct { const struct aead *aead; uint64_t key; } *at;
  size_t len, n;
} keys;

static uint64_t mix(uint64_t x) {
  x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
  x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
  return x ^ x >> 31;
}

static uint64_t hash(uint64_t start, const uint8_t *p, size_t n) {
  uint64_t h = start;
  for (size_t i = 0; i < n; i++) h = mix(h + p[i] + 1);
  return h;
}

static struct mark *seen_place(struct mark m) {
  size_t i = (size_t)m.a & (seen.len - 1);
  while ((seen.at[i].a != 0 || seen.at[i].b != 0) && (seen.at[i].a != m.a || seen.at[i].b != m.b))
    i = (i + 1) & (seen.len - 1);
  return &seen.at[i];
}

static void seen_grow(void) {
  struct seen before = seen;
  seen.len = before.len == 0 ? SEEN_FIRST : 2 * before.len;
  seen.at = world_alloc(seen.len * sizeof *seen.at);
  for (size_t i = 0; i < before.len; i++) {
    if (before.at[i].a != 0 || before.at[i].b != 0) *seen_place(before.at[i]) = before.at[i];
  }
  world_free(before.at);
}

/* False: it was already. */
static bool see(struct mark m) {
  m.b |= 1;
  if (2 * (seen.n + 1) > seen.len) seen_grow();
  struct mark *place = seen_place(m);
  if (place->b != 0) return false;
  *place = m;
  seen.n++;
  return true;
}

static struct addresses {
  struct address { char host[ADDRESS_HOST_CAP]; uint16_t port; unsigned owner; } *at, kept;
  size_t n;
} addresses;

void watch_begin(void) {
  world_free(addresses.at);
  memset(&addresses, 0, sizeof addresses);
  world_free(seen.at);
  world_free(keys.at);
  memset(&seen, 0, sizeof seen);
  memset(&keys, 0, sizeof keys);
}

void watch_opened(uint64_t visitor) {
  static const uint8_t what[] = "opened";
  uint64_t h = hash(visitor, what, sizeof what);
  if (!see((struct mark){.a = h, .b = mix(h ^ visitor)}))
    world_fail("stream %016llx was opened twice", (unsigned long long)visitor);
}

/* An agent takes OPEN for a visitor once, who is known by his address: none is given to another in the same run. */
WRAP(int, open_decode, (uint8_t *in, size_t n, const struct number_keys *k, struct open_message *m)) {
  static const uint8_t what[] = "OPEN";
  int rc = __real_open_decode(in, n, k, m);
  if (rc != 0 || task_current() == NULL) return rc;
  const struct sockaddr_in *who = &m->visitor.u.v4;
  uint64_t h = hash((uint64_t)who->sin_addr.s_addr << 16 | who->sin_port, what, sizeof what);
  if (!see((struct mark){.a = h, .b = mix(h + who->sin_port)}))
    world_fail("OPEN was taken twice for the visitor of port %u", ntohs(who->sin_port));
  return rc;
}

/* Addresses */

static void address_set(struct address *a, unsigned owner, const char *host, uint16_t port) {
  *a = (struct address){.port = port, .owner = owner};
  (void)snprintf(a->host, sizeof a->host, "%s", host);
}

void watch_address(unsigned owner, const char *host, uint16_t port) {
  for (size_t i = 0; i < addresses.n; i++) {
    const struct address *a = &addresses.at[i];
    if (a->owner == owner) continue;
    if (a->port == port) world_fail("port %u was told to two owners", port);
    if (strcmp(a->host, host) == 0) world_fail("%s was told to two owners", host);
  }
  addresses.at = world_realloc(addresses.at, (addresses.n + 1) * sizeof *addresses.at);
  address_set(&addresses.at[addresses.n++], owner, host, port);
}

void watch_kept_address(const char *host, uint16_t port) {
  const struct address *a = &addresses.kept;
  if (a->host[0] != '\0' && (strcmp(a->host, host) != 0 || a->port != port))
    world_fail("whoever keeps %s, port %u, was told %s, port %u", a->host, a->port, host, port);
  address_set(&addresses.kept, 0, host, port);
}

/* Keys and numbers */

static size_t key_place(const struct aead *a) {
  size_t i = (size_t)mix((uint64_t)(uintptr_t)a) & (keys.len - 1);
  while (keys.at[i].aead != NULL && keys.at[i].aead != a) i = (i + 1) & (keys.len - 1);
  return i;
}

static void keys_grow(void) {
  struct keys before = keys;
  keys.len = before.len == 0 ? SEEN_FIRST : 2 * before.len;
  keys.at = world_alloc(keys.len * sizeof *keys.at);
  for (size_t i = 0; i < before.len; i++) {
    if (before.at[i].aead != NULL) keys.at[key_place(before.at[i].aead)] = before.at[i];
  }
  world_free(before.at);
}

WRAP(struct aead *, aead_new, (enum aead_alg alg, const uint8_t *key, bool encrypt)) {
  struct aead *a = __real_aead_new(alg, key, encrypt);
  if (a == NULL || !encrypt || task_current() == NULL) return a;
  if (2 * (keys.n + 1) > keys.len) keys_grow();
  size_t i = key_place(a);
  if (keys.at[i].aead == NULL) keys.n++;
  keys.at[i].aead = a;
  keys.at[i].key = hash((uint64_t)alg, key, aead_key_bytes(alg));
  return a;
}

WRAP(int, aead_seal, (struct aead *a, const uint8_t nonce[NONCE_BYTES], const void *ad, size_t ad_n, const uint8_t *in,
                      size_t n, uint8_t *out, uint8_t tag[AEAD_TAG_BYTES])) {
  int rc = __real_aead_seal(a, nonce, ad, ad_n, in, n, out, tag);
  if (rc != 0 || task_current() == NULL) return rc;
  uint64_t key = keys.at[key_place(a)].key;
  if (!see((struct mark){.a = hash(key, nonce, NONCE_BYTES), .b = hash(~key, nonce, NONCE_BYTES)}))
    world_fail("a key was used twice with one number");
  return rc;
}
