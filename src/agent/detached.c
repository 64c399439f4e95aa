/* Short-lived threads. The hard thing is to be invisible: the mask must be set before the thread can take the host's
   first signal. */
#include "agent/detached.h"

#include <pthread.h>
#include <signal.h>

int detached_start(const char *name, void *(*fn)(void *), void *arg) {
  sigset_t all, before;
  pthread_t thread;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  int failed = pthread_create(&thread, NULL, fn, arg);
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  if (failed) return ERR_LIMIT;
  pthread_setname_np(thread, name);
  pthread_detach(thread);
  return 0;
}
