/* See the header. Packets are text: "upgrade" or "upgrade PROGRAM"; "done", or "failed: why". */
#include "relay/upgrade_door.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/addr.h"

enum { DOOR_BACKLOG = 8 };
static const char word[] = "upgrade", done[] = "done", failed[] = "failed: ";

/* By way of the folder's descriptor, because a path may be longer than a socket's address. */
static int reach(const char *state_dir, struct addr *at, struct err *e) {
  char path[64];
  int dir = open(state_dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
  if (dir < 0) return err_set_errno(e, "state folder %s", state_dir);
  (void)snprintf(path, sizeof path, "/proc/self/fd/%d/" UPGRADE_DOOR_NAME, dir);
  *at = addr_unix(path);
  return dir;
}

/* What root makes here belongs to the folder's owner, who is to reach it. */
static int bind_at(int fd, int dir, const struct addr *at) {
  struct stat folder;
  (void)unlinkat(dir, UPGRADE_DOOR_NAME, 0);
  if (bind(fd, &at->u.any, addr_len(at)) != 0 || fchmodat(dir, UPGRADE_DOOR_NAME, 0600, 0) != 0 ||
      fstat(dir, &folder) != 0)
    return -1;
  if (geteuid() == 0 && fchownat(dir, UPGRADE_DOOR_NAME, folder.st_uid, folder.st_gid, AT_SYMLINK_NOFOLLOW) != 0)
    return -1;
  return listen(fd, DOOR_BACKLOG);
}

int upgrade_door_open(const char *state_dir, struct err *e) {
  struct addr at;
  int dir = reach(state_dir, &at, e);
  if (dir < 0) return dir;
  int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  int rc = fd < 0 || bind_at(fd, dir, &at) != 0 ? err_set_errno(e, "%s/" UPGRADE_DOOR_NAME, state_dir) : 0;
  close(dir);
  if (rc == 0) return fd;
  if (fd >= 0) close(fd);
  return rc;
}

void upgrade_door_remove(const char *state_dir) {
  int dir = open(state_dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
  if (dir < 0) return;
  (void)unlinkat(dir, UPGRADE_DOOR_NAME, 0);
  close(dir);
}

int upgrade_door_read(int fd, char program[STARTER_PATH_MAX_BYTES + 1]) {
  char text[sizeof word + STARTER_PATH_MAX_BYTES + 1];
  ssize_t n = recv(fd, text, sizeof text, MSG_DONTWAIT | MSG_TRUNC);
  const size_t behind = sizeof word - 1;
  if (n < (ssize_t)behind || (size_t)n >= sizeof text || memcmp(text, word, behind) != 0) return ERR_SYNTAX;
  text[n] = '\0';
  program[0] = '\0';
  if (text[behind] == '\0') return (size_t)n == behind ? 0 : ERR_SYNTAX;
  if (text[behind] != ' ' || text[behind + 1] != '/' || strlen(text) != (size_t)n) return ERR_SYNTAX;
  memcpy(program, text + behind + 1, (size_t)n - behind);
  return 0;
}

void upgrade_door_answer(int fd, const char *error) {
  char text[sizeof failed + ERR_TEXT_MAX];
  int n = snprintf(text, sizeof text, "%s%s", error != NULL ? failed : done, error != NULL ? error : "");
  if (fd < 0) return;
  ssize_t sent = send(fd, text, (size_t)n, MSG_DONTWAIT | MSG_NOSIGNAL);
  (void)sent;                      /* who has asked may have left */
}

static int send_request(int fd, const char *program) {
  char text[sizeof word + STARTER_PATH_MAX_BYTES + 1];
  int n = snprintf(text, sizeof text, "%s%s%s", word, program != NULL ? " " : "", program != NULL ? program : "");
  if (n < 0 || (size_t)n >= sizeof text) return -1;
  return send(fd, text, (size_t)n, MSG_NOSIGNAL) == n ? 0 : -1;
}

static int await_answer(int fd, struct err *e) {
  char text[sizeof failed + ERR_TEXT_MAX + 1];
  ssize_t n = recv(fd, text, sizeof text - 1, 0);
  text[n > 0 ? n : 0] = '\0';
  if (strcmp(text, done) == 0) return 0;
  if (strncmp(text, failed, sizeof failed - 1) == 0)
    return err_set(e, ERR_NOT_NOW, "upgrade: %s", text + sizeof failed - 1);
  return err_set(e, ERR_CLOSED, "upgrade: no answer from the relay (its log says more)");
}

int upgrade_door_ask(const char *state_dir, const char *program, struct err *e) {
  const struct timeval limit = {.tv_sec = UPGRADE_ASK_MS / 1000};
  struct addr at;
  int dir = reach(state_dir, &at, e);
  if (dir < 0) return dir;
  int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0), rc;
  if (fd < 0 || connect(fd, &at.u.any, addr_len(&at)) != 0)
    rc = errno == ENOENT || errno == ECONNREFUSED
             ? err_set(e, ERR_NOT_NOW, "%s: no relay runs there (name its state folder with --state)", state_dir)
             : err_set_errno(e, "%s/" UPGRADE_DOOR_NAME, state_dir);
  else if (setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit) != 0 || send_request(fd, program) != 0)
    rc = err_set_errno(e, "upgrade");
  else
    rc = await_answer(fd, e);
  if (fd >= 0) close(fd);
  close(dir);
  return rc;
}
