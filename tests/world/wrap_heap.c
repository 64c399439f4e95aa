/* Memory that is refused, by seed; and no look at the real heap, whose state is not the world's. */
#include <errno.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>

#include "heap_failures.h"
#include "world.h"
#include "wrap.h"

static const struct host *of;
static uint64_t one_in;            /* 0: none fails */

void heap_failures(const struct host *of_host, uint64_t one_in_so_many) {
  of = of_host;
  one_in = one_in_so_many;
}

static bool fails(void) {
  if (one_in == 0 || task_current() == NULL || process_current()->host != of || !world_chance(one_in)) return false;
  world_trace("no memory", 0, 0);
  errno = ENOMEM;
  return true;
}

WRAP(void *, malloc, (size_t n)) { return fails() ? NULL : __real_malloc(n); }
WRAP(void *, calloc, (size_t n, size_t each)) { return fails() ? NULL : __real_calloc(n, each); }
WRAP(void *, realloc, (void *p, size_t n)) { return fails() ? NULL : __real_realloc(p, n); }
WRAP(void *, reallocarray, (void *p, size_t n, size_t each)) {
  return fails() ? NULL : __real_reallocarray(p, n, each);
}
WRAP(char *, strdup, (const char *s)) { return fails() ? NULL : __real_strdup(s); }
WRAP(char *, strndup, (const char *s, size_t n)) { return fails() ? NULL : __real_strndup(s, n); }

WRAP(struct mallinfo2, mallinfo2, (void)) {
  return task_current() == NULL ? __real_mallinfo2() : (struct mallinfo2){.fordblks = 0};
}

WRAP(int, malloc_trim, (size_t pad)) { return task_current() == NULL ? __real_malloc_trim(pad) : 0; }

/* Exits at once: nothing in the world is meant to go on. */
static void *must(void *p) {
  if (p == NULL) world_fail("the simulation itself is out of memory");
  return p;
}

void *world_alloc(size_t n) { return must(__real_calloc(1, n)); }
void *world_realloc(void *p, size_t n) { return must(__real_realloc(p, n)); }
void world_free(void *p) { free(p); }
