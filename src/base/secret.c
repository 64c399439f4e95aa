/* Secrets. Small objects are cut from 64 KiB slabs that a core dump leaves out, one list of free cells for each
   power of two, so that neighbouring secrets share a mapping instead of each costing one. A slab is never given back:
   what the process needed once it will need again. After fork the child's copy goes on independently; the lock is
   held across fork by handlers, so that the child never inherits it locked. */
#include "base/secret.h"

#include <pthread.h>
#include <string.h>
#include <sys/mman.h>

#include "base/once.h"

enum { CELL_MIN = 32, CELL_MAX = 4096, CLASSES = 8, SLAB_BYTES = 65536 };

struct cell { struct cell *next; };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct once fork_guarded;
static struct cell *free_cells[CLASSES];

void wipe(void *p, size_t n) {
  if (n == 0) return;
  memset(p, 0, n);
  __asm__ __volatile__("" : : "r"(p) : "memory"); /* the compiler must believe that somebody reads it */
}

bool equal_ct(const void *a, const void *b, size_t n) {
  const volatile uint8_t *x = a, *y = b;
  uint8_t diff = 0;
  for (size_t i = 0; i < n; i++) diff = (uint8_t)(diff | (x[i] ^ y[i]));
  return diff == 0;
}

static void before_fork(void) { pthread_mutex_lock(&lock); }
static void after_fork(void) { pthread_mutex_unlock(&lock); }
static int guard_fork(void) { return pthread_atfork(before_fork, after_fork, after_fork) == 0 ? 0 : ERR_NOMEM; }

static int size_class(size_t size) {
  int c = 0;
  for (size_t cell = CELL_MIN; cell < size; cell *= 2) c++;
  return c;
}

static bool add_slab(int class) {
  uint8_t *slab = mmap(NULL, SLAB_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (slab == MAP_FAILED) return false;
  if (madvise(slab, SLAB_BYTES, MADV_DONTDUMP) != 0) {
    munmap(slab, SLAB_BYTES);
    return false;
  }
  size_t bytes = (size_t)CELL_MIN << class;
  for (size_t at = SLAB_BYTES; at >= bytes; at -= bytes) {
    struct cell *cell = (struct cell *)(void *)(slab + at - bytes);
    cell->next = free_cells[class];
    free_cells[class] = cell;
  }
  return true;
}

void *secret_alloc(size_t size) {
  if (size > CELL_MAX || once_run(&fork_guarded, guard_fork) != 0) return NULL;
  int class = size_class(size);
  pthread_mutex_lock(&lock);
  struct cell *cell = NULL;
  if (free_cells[class] != NULL || add_slab(class)) {
    cell = free_cells[class];
    free_cells[class] = cell->next;
    cell->next = NULL; /* the rest of a free cell is zero already */
  }
  pthread_mutex_unlock(&lock);
  return cell;
}

void secret_free(void *p, size_t size) {
  if (p == NULL) return;
  ASSERT(size <= CELL_MAX);
  int class = size_class(size);
  wipe(p, (size_t)CELL_MIN << class);
  struct cell *cell = p;
  pthread_mutex_lock(&lock);
  cell->next = free_cells[class];
  free_cells[class] = cell;
  pthread_mutex_unlock(&lock);
}
