/* Has one allocation of the program fail: the test says which, by a number in a file that the program and all that it
   forks have in common (kit/failing_memory.py). It is counted down, and the allocation that finds 0 fails. Those of
   OpenSSL are among them. The linker has our code call these for the C library's. */
#include <fcntl.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <openssl/crypto.h>

void *__real_malloc(size_t n);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t n);
void *__real_reallocarray(void *p, size_t n, size_t size);
char *__real_strdup(const char *s);
void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t n);
void *__wrap_reallocarray(void *p, size_t n, size_t size);
char *__wrap_strdup(const char *s);

static _Atomic int64_t never = INT64_MIN;
static _Atomic int64_t *left = &never;           /* negative: none fails */

static int fails_now(void) {
  if (atomic_load(left) < 0) return 0;
  return atomic_fetch_sub(left, 1) == 0;
}

void *__wrap_malloc(size_t n) { return fails_now() ? NULL : __real_malloc(n); }
void *__wrap_calloc(size_t n, size_t size) { return fails_now() ? NULL : __real_calloc(n, size); }
void *__wrap_realloc(void *p, size_t n) { return fails_now() ? NULL : __real_realloc(p, n); }
void *__wrap_reallocarray(void *p, size_t n, size_t size) {
  return fails_now() ? NULL : __real_reallocarray(p, n, size);
}
char *__wrap_strdup(const char *s) { return fails_now() ? NULL : __real_strdup(s); }

static void *openssl_malloc(size_t n, const char *file, int line) {
  (void)file;
  (void)line;
  return __wrap_malloc(n);
}

static void *openssl_realloc(void *p, size_t n, const char *file, int line) {
  (void)file;
  (void)line;
  return __wrap_realloc(p, n);
}

static void openssl_free(void *p, const char *file, int line) {
  (void)file;
  (void)line;
  free(p);
}

/* Before OpenSSL's first allocation. A relay sets its own allocators then, which call ours. */
__attribute__((constructor)) static void begin(void) {
  const char *path = getenv("FAILING_MEMORY");
  int fd = path != NULL ? open(path, O_RDWR | O_CLOEXEC) : -1;
  if (fd < 0) return;
  void *p = mmap(NULL, sizeof *left, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  close(fd);
  if (p == MAP_FAILED || CRYPTO_set_mem_functions(openssl_malloc, openssl_realloc, openssl_free) != 1) abort();
  left = p;
}
