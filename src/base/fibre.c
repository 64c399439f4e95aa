/* The hard thing is the sanitizers, which take a stack that changes under them for a fault unless each change is
   announced to them. */
#include "base/fibre.h"

#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/context.h"
#include "base/limits.h"
#include "base/secret.h"

#if defined(__SANITIZE_ADDRESS__)
#define WITH_ASAN 1
#elif defined(__SANITIZE_THREAD__)
#define WITH_TSAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define WITH_ASAN 1
#elif __has_feature(thread_sanitizer)
#define WITH_TSAN 1
#endif
#endif

#if defined(WITH_ASAN)
#include <sanitizer/common_interface_defs.h>
enum { STACK_BYTES = 8 * FIBRE_STACK_BYTES };    /* frames are larger there */
#elif defined(WITH_TSAN)
#include <sanitizer/tsan_interface.h>
enum { STACK_BYTES = 8 * FIBRE_STACK_BYTES };
#else
enum { STACK_BYTES = FIBRE_STACK_BYTES };
#endif

struct fibre {
  struct fibres *all;
  struct fibre *next;              /* among those that are kept */
  uint8_t *stack;                  /* with a page below it that ends whoever overruns it */
  struct context own, outside;
  void (*run)(void *arg), (*wake)(void *arg);
  void *arg;
  bool cancelled, returned;
#if defined(WITH_ASAN)
  void *fake_own, *fake_outside;
  const void *outside_bottom;
  size_t outside_bytes;
#elif defined(WITH_TSAN)
  void *tsan_own, *tsan_outside;
#endif
};

struct fibres { struct fibre *kept; size_t kept_n, paused_n; };

static _Thread_local struct fibre *current;

/* What the sanitizers are told: before and after each change. */

#if defined(WITH_ASAN)
static void goes_in(struct fibre *f) { __sanitizer_start_switch_fiber(&f->fake_outside, f->stack, STACK_BYTES); }
static void is_in(struct fibre *f, bool begins) {
  __sanitizer_finish_switch_fiber(begins ? NULL : f->fake_own, &f->outside_bottom, &f->outside_bytes);
}
static void goes_out(struct fibre *f) {
  __sanitizer_start_switch_fiber(f->returned ? NULL : &f->fake_own, f->outside_bottom, f->outside_bytes);
}
static void is_out(struct fibre *f) { __sanitizer_finish_switch_fiber(f->fake_outside, NULL, NULL); }
static void know(struct fibre *f) { (void)f; }
static void forget(struct fibre *f) { (void)f; }
#elif defined(WITH_TSAN)
static void goes_in(struct fibre *f) {
  f->tsan_outside = __tsan_get_current_fiber();
  __tsan_switch_to_fiber(f->tsan_own, 0);
}
static void is_in(struct fibre *f, bool begins) { (void)f, (void)begins; }
static void goes_out(struct fibre *f) { __tsan_switch_to_fiber(f->tsan_outside, 0); }
static void is_out(struct fibre *f) { (void)f; }
static void know(struct fibre *f) { f->tsan_own = __tsan_create_fiber(0); }
static void forget(struct fibre *f) { __tsan_destroy_fiber(f->tsan_own); }
#else
static void goes_in(struct fibre *f) { (void)f; }
static void is_in(struct fibre *f, bool begins) { (void)f, (void)begins; }
static void goes_out(struct fibre *f) { (void)f; }
static void is_out(struct fibre *f) { (void)f; }
static void know(struct fibre *f) { (void)f; }
static void forget(struct fibre *f) { (void)f; }
#endif

/* Stacks */

static size_t guard_bytes(void) { return (size_t)sysconf(_SC_PAGESIZE); }

static struct fibre *fibre_make(void) {
  struct fibre *f = calloc(1, sizeof *f);
  if (f == NULL) return NULL;
  uint8_t *at = mmap(NULL, guard_bytes() + STACK_BYTES, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
  if (at == MAP_FAILED) {
    free(f);
    return NULL;
  }
  f->stack = at + guard_bytes();
  if (mprotect(f->stack, STACK_BYTES, PROT_READ | PROT_WRITE) == 0) {
    (void)madvise(f->stack, STACK_BYTES, MADV_DONTDUMP);
    know(f);
    return f;
  }
  (void)munmap(at, guard_bytes() + STACK_BYTES);
  free(f);
  return NULL;
}

static void fibre_unmake(struct fibre *f) {
  forget(f);
  (void)munmap(f->stack - guard_bytes(), guard_bytes() + STACK_BYTES);
  free(f);
}

/* It held what OpenSSL computes with. */
static void fibre_put(struct fibre *f) {
  struct fibres *all = f->all;
  if (all->kept_n >= FIBRES_KEPT_MAX) {
    fibre_unmake(f);
    return;
  }
  wipe(f->stack, STACK_BYTES);
  f->next = all->kept;
  all->kept = f;
  all->kept_n++;
}

static struct fibre *fibre_get(struct fibres *all) {
  struct fibre *f = all->kept;
  if (f == NULL) f = fibre_make();
  else {
    all->kept = f->next;
    all->kept_n--;
  }
  if (f != NULL) f->all = all;
  return f;
}

struct fibres *fibres_new(void) { return calloc(1, sizeof(struct fibres)); }

void fibres_free(struct fibres *all) {
  if (all == NULL) return;
  ASSERT(all->paused_n == 0);
  while (all->kept != NULL) {
    struct fibre *f = all->kept;
    all->kept = f->next;
    fibre_unmake(f);
  }
  free(all);
}

/* Changes */

static void entry(void) {
  struct fibre *f = current;
  is_in(f, true);
  f->run(f->arg);
  f->returned = true;
  goes_out(f);
  context_switch(&f->own, &f->outside);
}

/* NULL when it has returned. */
static struct fibre *enter(struct fibre *f) {
  ASSERT(current == NULL);
  current = f;
  goes_in(f);
  context_switch(&f->outside, &f->own);
  is_out(f);
  current = NULL;
  if (!f->returned) return f;
  fibre_put(f);
  return NULL;
}

int fibre_start(struct fibres *all, void (*run)(void *arg), void (*wake)(void *arg), void *arg, struct fibre **out) {
  struct fibre *f = fibre_get(all);
  *out = NULL;
  if (f == NULL) return ERR_NOMEM;
  f->run = run;
  f->wake = wake;
  f->arg = arg;
  f->cancelled = f->returned = false;
  context_make(&f->own, f->stack, STACK_BYTES, entry);
  *out = enter(f);
  if (*out != NULL) all->paused_n++;
  return 0;
}

struct fibre *fibre_resume(struct fibre *f) {
  struct fibres *all = f->all;
  struct fibre *again = enter(f);
  if (again == NULL) all->paused_n--;
  return again;
}

void fibre_cancel(struct fibre *f) {
  f->cancelled = true;
  struct fibre *again = fibre_resume(f);
  ASSERT(again == NULL);
}

void fibre_wake(struct fibre *f) { f->wake(f->arg); }

struct fibre *fibre_current(void) { return current; }

bool fibre_pause(void) {
  struct fibre *f = current;
  goes_out(f);
  context_switch(&f->own, &f->outside);
  is_in(f, false);
  return !f->cancelled;
}
