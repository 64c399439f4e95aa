/* Hash map from a fixed-size key to a pointer: open addressing, SipHash-like keyed hashing so that strangers cannot
   choose collisions. Not thread-safe. Keys are copied. */
#ifndef BASE_MAP_H
#define BASE_MAP_H

#include "base/base.h"

struct map;
struct map *map_new(size_t key_bytes) MUST_USE;                 /* key_bytes at most 64; NULL when out of memory */
void map_free(struct map *m);                                   /* NULL is fine; the values are the caller's */
void *map_get(const struct map *m, const void *key);
int map_put(struct map *m, const void *key, void *value) MUST_USE; /* replaces; value not NULL; ERR_NOMEM */
void *map_remove(struct map *m, const void *key);               /* the value that was there, or NULL */
size_t map_count(const struct map *m);
/* Iteration in no order: start with *at = 0; false at the end. The map must not change meanwhile. */
bool map_next(const struct map *m, size_t *at, const void **key, void **value);

#endif
