/* The listener is the thread's own, because the same code runs in the threads of several clients, relays and hosts. */
#include "base/shortage.h"

#include <errno.h>

static _Thread_local void (*listener)(void *user, int error);
static _Thread_local void *listener_user;

const char *shortage_remedy(int error) {
  switch (error) {
    case EMFILE: return "raise LimitNOFILE= of its systemd unit, or ulimit -n";
    case ENFILE: return "raise the system's fs.file-max";
    case ENOMEM:
    case ENOBUFS: return "give the system, or this service or container, more memory";
    default: return NULL;
  }
}

bool shortage_note(int error) {
  if (shortage_remedy(error) == NULL) return false;
  int saved = errno;
  if (listener != NULL) listener(listener_user, error);
  errno = saved;
  return true;
}

void shortage_listen(void (*heard)(void *user, int error), void *user) {
  listener = heard;
  listener_user = user;
}
