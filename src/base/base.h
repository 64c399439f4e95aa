/* What every file uses: attributes, assertions, small helpers. */
#ifndef BASE_BASE_H
#define BASE_BASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MUST_USE __attribute__((warn_unused_result))
#define PRINTF_LIKE(string, first) __attribute__((__format__(__printf__, string, first)))
#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))
#define CONTAINER_OF(ptr, type, member) ((type *)(void *)((char *)(ptr)-offsetof(type, member)))

/* Stays on in release builds: it guards what cannot happen unless this program is wrong. Never for bad input. */
#define ASSERT(cond) ((cond) ? (void)0 : assert_failed(#cond, __FILE__, __LINE__))
void assert_failed(const char *cond, const char *file, int line) __attribute__((noreturn));

/* A struct that comes back through a void pointer or a callback begins with a number of its kind, `magic`, which is 0
   once it is freed. Whoever gets it back checks that first: so a pointer to something else, or to one that is gone,
   stops the program there and then. */
#define CHECK_MAGIC(obj, value) ASSERT((obj) != NULL && (obj)->magic == (value))

static inline size_t size_min(size_t a, size_t b) { return a < b ? a : b; }
static inline size_t size_max(size_t a, size_t b) { return a > b ? a : b; }

#endif
