/* sd_notify's protocol is one datagram; it needs no library. */
#include "relay/notify.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/limits.h"
#include "base/shortage.h"

void notify_systemd(const char *text) {
  const char *path = getenv("NOTIFY_SOCKET");
  struct sockaddr_un to = {.sun_family = AF_UNIX};
  if (path == NULL || (path[0] != '/' && path[0] != '@') || strlen(path) >= sizeof to.sun_path) return;
  memcpy(to.sun_path, path, strlen(path) + 1);
  if (path[0] == '@') to.sun_path[0] = '\0';       /* abstract */
  int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0) {
    (void)shortage_note(errno);
    return;
  }
  const struct timeval limit = {.tv_sec = NOTIFY_MS / 1000};
  (void)setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
  ssize_t sent = sendto(fd, text, strlen(text), MSG_NOSIGNAL, (const struct sockaddr *)&to,
                        (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(path)));
  (void)sent;                                      /* nobody to tell that nobody listens */
  (void)close(fd);
}
