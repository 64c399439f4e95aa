/* The hard thing is fork: a child that begins while a thread of its parent is trying has the mark of it but not the
   thread. */
#include "base/once.h"

#include <sched.h>
#include <unistd.h>

int once_run(struct once *o, int (*fn)(void)) {
  if (atomic_load(&o->done)) return 0;           /* nearly always, and so without a system call */
  pid_t self = getpid();
  while (!atomic_load(&o->done)) {
    pid_t trying = 0;
    if (atomic_compare_exchange_strong(&o->trying, &trying, self)) {
      int r = atomic_load(&o->done) ? 0 : fn();
      if (r == 0) atomic_store(&o->done, true);
      atomic_store(&o->trying, 0);
      return r;
    }
    if (trying != self) (void)atomic_compare_exchange_strong(&o->trying, &trying, 0);
    else (void)sched_yield();
  }
  return 0;
}
