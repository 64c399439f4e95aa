/* See signals.h. */
#include "base/signals.h"

#include <errno.h>
#include <sys/signalfd.h>

enum { SIGNALS_CHANGED_MAX = 4 };

bool signals_ignored(int number) {
  struct sigaction given;
  return sigaction(number, NULL, &given) == 0 && (given.sa_flags & SA_SIGINFO) == 0 && given.sa_handler == SIG_IGN;
}

int signals_take(const int *numbers, size_t n, sigset_t *before, struct err *e) {
  sigset_t set;
  (void)sigemptyset(&set);
  for (size_t i = 0; i < n; i++)
    if (!signals_ignored(numbers[i])) (void)sigaddset(&set, numbers[i]);
  errno = pthread_sigmask(SIG_BLOCK, &set, before);
  if (errno != 0) return err_set_errno(e, "signals");
  int fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
  return fd >= 0 ? fd : err_set_errno(e, "signals");
}

static struct { int number; struct sigaction given; } changed[SIGNALS_CHANGED_MAX];
static size_t changed_n;

void signals_change(int number, void (*handler)(int)) {
  ASSERT(changed_n < ARRAY_LEN(changed));
  changed[changed_n].number = number;
  (void)sigaction(number, &(struct sigaction){.sa_handler = handler}, &changed[changed_n].given);
  changed_n++;
}

void signals_give_back(void) {
  for (size_t i = changed_n; i > 0; i--) (void)sigaction(changed[i - 1].number, &changed[i - 1].given, NULL);
}

uint64_t signals_were_ignored(void) {
  uint64_t ignored = 0;
  for (size_t i = 0; i < changed_n; i++)
    if (changed[i].given.sa_handler == SIG_IGN) ignored |= (uint64_t)1 << (changed[i].number - 1);
  return ignored;
}

void signals_go_on(uint64_t ignored) {
  for (size_t i = 0; i < changed_n; i++) {
    bool was_ignored = (ignored >> (changed[i].number - 1) & 1) != 0;
    changed[i].given = (struct sigaction){.sa_handler = was_ignored ? SIG_IGN : SIG_DFL};
  }
}
