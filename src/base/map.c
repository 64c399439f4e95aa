/* The hash map: linear probing over a power of two of slots, at most three quarters full, removal by shifting back, so
   that there are no tombstones. The hash is SipHash-1-3 under a key drawn for each map: a stranger who picks keys
   cannot make them collide. */
#include "base/map.h"

#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/err.h"

enum { KEY_BYTES_MAX = 64, SLOTS_FIRST = 16 };

struct map {
  size_t key_bytes, slot_bytes;
  size_t slots, count; /* slots is a power of two, or 0 before the first put */
  uint64_t k0, k1;
  uint8_t *table; /* each slot: void *value (NULL: empty), key */
};

static uint64_t rotl(uint64_t v, unsigned bits) { return v << bits | v >> (64 - bits); }

static void sip_round(uint64_t v[4]) {
  v[0] += v[1]; v[1] = rotl(v[1], 13) ^ v[0]; v[0] = rotl(v[0], 32);
  v[2] += v[3]; v[3] = rotl(v[3], 16) ^ v[2];
  v[0] += v[3]; v[3] = rotl(v[3], 21) ^ v[0];
  v[2] += v[1]; v[1] = rotl(v[1], 17) ^ v[2]; v[2] = rotl(v[2], 32);
}

static uint64_t sip_hash(const struct map *m, const uint8_t *p) {
  uint64_t v[4] = {m->k0 ^ 0x736f6d6570736575U, m->k1 ^ 0x646f72616e646f6dU, m->k0 ^ 0x6c7967656e657261U,
                   m->k1 ^ 0x7465646279746573U};
  size_t n = m->key_bytes;
  uint64_t last = (uint64_t)n << 56;
  for (; n >= 8; n -= 8, p += 8) {
    uint64_t word;
    memcpy(&word, p, 8);
    v[3] ^= word;
    sip_round(v);
    v[0] ^= word;
  }
  for (size_t i = 0; i < n; i++) last |= (uint64_t)p[i] << (8 * i);
  v[3] ^= last;
  sip_round(v);
  v[0] ^= last;
  v[2] ^= 0xff;
  for (int i = 0; i < 3; i++) sip_round(v);
  return v[0] ^ v[1] ^ v[2] ^ v[3];
}

static uint8_t *slot_at(const struct map *m, size_t i) { return m->table + i * m->slot_bytes; }
static uint8_t *slot_key(uint8_t *slot) { return slot + sizeof(void *); }

static void *slot_value(const uint8_t *slot) {
  void *value;
  memcpy(&value, slot, sizeof value);
  return value;
}

static void slot_set(const struct map *m, uint8_t *slot, const void *key, void *value) {
  memcpy(slot, &value, sizeof value);
  memcpy(slot_key(slot), key, m->key_bytes);
}

struct map *map_new(size_t key_bytes) {
  ASSERT(key_bytes > 0 && key_bytes <= KEY_BYTES_MAX);
  struct map *m = calloc(1, sizeof *m);
  if (m == NULL) return NULL;
  uint64_t keys[2];
  if (getrandom(keys, sizeof keys, 0) != (ssize_t)sizeof keys) {
    free(m);
    return NULL;
  }
  m->k0 = keys[0];
  m->k1 = keys[1];
  m->key_bytes = key_bytes;
  m->slot_bytes = (sizeof(void *) + key_bytes + 7) & ~(size_t)7;
  return m;
}

void map_free(struct map *m) {
  if (m == NULL) return;
  free(m->table);
  free(m);
}

/* The slot that holds key, or the empty one where it would go. */
static size_t find_slot(const struct map *m, const void *key) {
  size_t mask = m->slots - 1, i = (size_t)sip_hash(m, key) & mask;
  for (;; i = (i + 1) & mask) {
    uint8_t *slot = slot_at(m, i);
    if (slot_value(slot) == NULL || memcmp(slot_key(slot), key, m->key_bytes) == 0) return i;
  }
}

static int grow(struct map *m) {
  struct map bigger = *m;
  bigger.slots = m->slots == 0 ? SLOTS_FIRST : m->slots * 2;
  bigger.table = calloc(bigger.slots, m->slot_bytes);
  if (bigger.table == NULL) return ERR_NOMEM;
  for (size_t i = 0; i < m->slots; i++) {
    uint8_t *slot = slot_at(m, i);
    void *value = slot_value(slot);
    if (value != NULL) slot_set(m, slot_at(&bigger, find_slot(&bigger, slot_key(slot))), slot_key(slot), value);
  }
  free(m->table);
  *m = bigger;
  return 0;
}

void *map_get(const struct map *m, const void *key) {
  if (m->count == 0) return NULL;
  return slot_value(slot_at(m, find_slot(m, key)));
}

int map_put(struct map *m, const void *key, void *value) {
  ASSERT(value != NULL);
  if (m->slots > 0) {
    uint8_t *slot = slot_at(m, find_slot(m, key));
    if (slot_value(slot) != NULL) {
      memcpy(slot, &value, sizeof value);
      return 0;
    }
  }
  if ((m->count + 1) * 4 > m->slots * 3) {
    int r = grow(m);
    if (r != 0) return r;
  }
  slot_set(m, slot_at(m, find_slot(m, key)), key, value);
  m->count++;
  return 0;
}

/* Moves later members of the run back into the hole, those that may not stand before their home slot excepted. */
static void close_hole(struct map *m, size_t hole) {
  size_t mask = m->slots - 1;
  for (size_t i = (hole + 1) & mask; slot_value(slot_at(m, i)) != NULL; i = (i + 1) & mask) {
    size_t home = (size_t)sip_hash(m, slot_key(slot_at(m, i))) & mask;
    if (((i - home) & mask) < ((i - hole) & mask)) continue;
    memcpy(slot_at(m, hole), slot_at(m, i), m->slot_bytes);
    hole = i;
  }
  memset(slot_at(m, hole), 0, m->slot_bytes);
}

void *map_remove(struct map *m, const void *key) {
  if (m->count == 0) return NULL;
  size_t i = find_slot(m, key);
  void *value = slot_value(slot_at(m, i));
  if (value == NULL) return NULL;
  close_hole(m, i);
  m->count--;
  return value;
}

size_t map_count(const struct map *m) { return m->count; }

bool map_next(const struct map *m, size_t *at, const void **key, void **value) {
  while (*at < m->slots) {
    uint8_t *slot = slot_at(m, (*at)++);
    void *found = slot_value(slot);
    if (found == NULL) continue;
    if (key != NULL) *key = slot_key(slot);
    if (value != NULL) *value = found;
    return true;
  }
  return false;
}
