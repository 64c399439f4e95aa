/* POSIX threads as tasks. What a mutex, a condition or a semaphore is in the world is kept in the memory of the real
   one, whose initializers are zero where it matters; whoever waits for it is behind a pointer there, from the first one
   on that waits. */
#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <semaphore.h>
#include <string.h>
#include <time.h>

#include "base/base.h"
#include "times.h"
#include "world.h"
#include "wrap.h"

struct mutex {
  uint64_t owner;                  /* task_id; 0: nobody's */
  struct waiters *waiters;
};
struct rwlock {
  uint32_t readers, writers;
  struct waiters *waiters;
};
struct cond {
  struct waiters *waiters;
  int64_t clock;                   /* CLOCK_REALTIME is 0 */
};
struct semaphore {
  uint64_t value;
  struct waiters *waiters;
};
_Static_assert(sizeof(struct mutex) <= sizeof(pthread_mutex_t) && sizeof(struct rwlock) <= sizeof(pthread_rwlock_t) &&
               sizeof(struct cond) <= sizeof(pthread_cond_t) && sizeof(struct semaphore) <= sizeof(sem_t),
               "what is simulated fits where the real one was");

static struct waiters *waiters_of(struct waiters **w) {
  if (*w == NULL) {
    *w = world_alloc(sizeof **w);
    ASSERT(*w != NULL);
    waiters_init(*w);
  }
  return *w;
}

static void wake_all(struct waiters *w) {
  if (w != NULL) waiters_wake(w);
}

static void waiters_drop(struct waiters **w) {
  if (*w != NULL) waiters_end(*w);
  world_free(*w);
  *w = NULL;
}

/* Threads */

WRAP(int, pthread_create,
     (pthread_t * restrict out, const pthread_attr_t *restrict attr, void *(*main)(void *), void *restrict arg)) {
  if (task_current() == NULL) return __real_pthread_create(out, attr, main, arg);
  struct task *t = task_start(process_current(), main, arg);
  *out = (pthread_t)(uintptr_t)t;
  world_trace("thread", task_id(t), 0);
  task_step();
  return 0;
}

static struct task *task_of(pthread_t thread) { return (struct task *)(uintptr_t)thread; }

WRAP(int, pthread_join, (pthread_t thread, void **result)) {
  if (task_current() == NULL) return __real_pthread_join(thread, result);
  void *r = task_join(task_of(thread));
  if (result != NULL) *result = r;
  return 0;
}

WRAP(int, pthread_detach, (pthread_t thread)) {
  if (task_current() == NULL) return __real_pthread_detach(thread);
  task_detach(task_of(thread));
  return 0;
}

WRAP(int, pthread_setname_np, (pthread_t thread, const char *name)) {
  return task_current() == NULL ? __real_pthread_setname_np(thread, name) : 0;
}

/* There is no real fork in the world. */
WRAP(int, pthread_atfork, (void (*prepare)(void), void (*parent)(void), void (*child)(void))) {
  return task_current() == NULL ? __real_pthread_atfork(prepare, parent, child) : 0;
}

WRAP(int, sched_yield, (void)) {
  if (task_current() == NULL) return __real_sched_yield();
  task_yield();
  return 0;
}

/* Mutexes */

WRAP(int, pthread_mutex_init, (pthread_mutex_t * m, const pthread_mutexattr_t *attr)) {
  (void)attr;
  memset(m, 0, sizeof *m);
  return 0;
}

WRAP(int, pthread_mutex_destroy, (pthread_mutex_t * m)) {
  if (task_current() != NULL) waiters_drop(&((struct mutex *)(void *)m)->waiters);
  return 0;
}

WRAP(int, pthread_mutex_lock, (pthread_mutex_t * real)) {
  struct mutex *m = (void *)real;
  struct task *self = task_current();
  if (self == NULL) return __real_pthread_mutex_lock(real);
  task_step();
  if (m->owner == task_id(self)) world_fail("a thread locks a mutex that it has locked");
  while (m->owner != 0) (void)task_park(waiters_of(&m->waiters), WORLD_NEVER);
  m->owner = task_id(self);
  return 0;
}

WRAP(int, pthread_mutex_unlock, (pthread_mutex_t * real)) {
  struct mutex *m = (void *)real;
  struct task *self = task_current();
  if (self == NULL) return __real_pthread_mutex_unlock(real);
  if (m->owner != task_id(self)) world_fail("a thread unlocks a mutex that is not its own");
  m->owner = 0;
  wake_all(m->waiters);
  return 0;
}

/* Locks for several readers */

WRAP(int, pthread_rwlock_rdlock, (pthread_rwlock_t * real)) {
  struct rwlock *l = (void *)real;
  if (task_current() == NULL) return __real_pthread_rwlock_rdlock(real);
  task_step();
  while (l->writers > 0) (void)task_park(waiters_of(&l->waiters), WORLD_NEVER);
  l->readers++;
  return 0;
}

WRAP(int, pthread_rwlock_wrlock, (pthread_rwlock_t * real)) {
  struct rwlock *l = (void *)real;
  if (task_current() == NULL) return __real_pthread_rwlock_wrlock(real);
  task_step();
  while (l->readers + l->writers > 0) (void)task_park(waiters_of(&l->waiters), WORLD_NEVER);
  l->writers = 1;
  return 0;
}

WRAP(int, pthread_rwlock_unlock, (pthread_rwlock_t * real)) {
  struct rwlock *l = (void *)real;
  if (task_current() == NULL) return __real_pthread_rwlock_unlock(real);
  if (l->writers > 0) l->writers = 0;
  else l->readers--;
  wake_all(l->waiters);
  return 0;
}

/* Conditions */

WRAP(int, pthread_cond_init, (pthread_cond_t * restrict real, const pthread_condattr_t *restrict attr)) {
  clockid_t clock = CLOCK_REALTIME;
  if (task_current() == NULL) return __real_pthread_cond_init(real, attr);
  if (attr != NULL) (void)pthread_condattr_getclock(attr, &clock);
  memset(real, 0, sizeof *real);
  ((struct cond *)(void *)real)->clock = clock;
  return 0;
}

WRAP(int, pthread_cond_destroy, (pthread_cond_t * real)) {
  if (task_current() != NULL) waiters_drop(&((struct cond *)(void *)real)->waiters);
  return 0;
}

WRAP(int, pthread_cond_signal, (pthread_cond_t * real)) {
  const struct cond *c = (void *)real;
  if (task_current() == NULL) return __real_pthread_cond_signal(real);
  if (c->waiters != NULL) waiters_wake_one(c->waiters);
  return 0;
}

WRAP(int, pthread_cond_broadcast, (pthread_cond_t * real)) {
  const struct cond *c = (void *)real;
  if (task_current() == NULL) return __real_pthread_cond_broadcast(real);
  wake_all(c->waiters);
  return 0;
}

static int cond_wait(pthread_cond_t *real, pthread_mutex_t *m, uint64_t until_ns) {
  struct cond *c = (void *)real;
  (void)__wrap_pthread_mutex_unlock(m);
  bool woken = task_park(waiters_of(&c->waiters), until_ns);
  (void)__wrap_pthread_mutex_lock(m);
  return woken ? 0 : ETIMEDOUT;
}

WRAP(int, pthread_cond_wait, (pthread_cond_t * restrict c, pthread_mutex_t *restrict m)) {
  return task_current() == NULL ? __real_pthread_cond_wait(c, m) : cond_wait(c, m, WORLD_NEVER);
}

WRAP(int, pthread_cond_timedwait,
     (pthread_cond_t * restrict c, pthread_mutex_t *restrict m, const struct timespec *restrict until)) {
  if (task_current() == NULL) return __real_pthread_cond_timedwait(c, m, until);
  return cond_wait(c, m, time_of_world((clockid_t)((struct cond *)(void *)c)->clock, until));
}

/* Semaphores */

WRAP(int, sem_init, (sem_t * s, int shared, unsigned value)) {
  if (task_current() == NULL) return __real_sem_init(s, shared, value);
  memset(s, 0, sizeof *s);
  ((struct semaphore *)(void *)s)->value = value;
  return 0;
}

WRAP(int, sem_destroy, (sem_t * s)) {
  if (task_current() == NULL) return __real_sem_destroy(s);
  waiters_drop(&((struct semaphore *)(void *)s)->waiters);
  return 0;
}

WRAP(int, sem_post, (sem_t * s)) {
  struct semaphore *sem = (void *)s;
  if (task_current() == NULL) return __real_sem_post(s);
  sem->value++;
  wake_all(sem->waiters);
  return 0;
}

WRAP(int, sem_wait, (sem_t * s)) {
  struct semaphore *sem = (void *)s;
  if (task_current() == NULL) return __real_sem_wait(s);
  while (sem->value == 0) (void)task_park(waiters_of(&sem->waiters), WORLD_NEVER);
  sem->value--;
  return 0;
}

/* What OpenSSL has for each thread: these two are exported by the program, so libcrypto finds them before libc's. */

static void *real(const char *name) {
  void *found = dlsym(RTLD_NEXT, name);
  ASSERT(found != NULL);
  return found;
}

EXPORTED void *pthread_getspecific(pthread_key_t key) {
  static void *(*get)(pthread_key_t key);
  void **own = task_specific(key);
  if (own != NULL) return *own;
  if (get == NULL) *(void **)&get = real("pthread_getspecific");
  return get(key);
}

EXPORTED int pthread_setspecific(pthread_key_t key, const void *value) {
  static int (*set)(pthread_key_t key, const void *value);
  void **own = task_specific(key);
  if (own != NULL) {
    memcpy(own, &value, sizeof *own);
    return 0;
  }
  if (set == NULL) *(void **)&set = real("pthread_setspecific");
  return set(key, value);
}
