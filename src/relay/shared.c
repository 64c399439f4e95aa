/* The hard thing is the race between those who start at once, and with a relay that ends: starters go one at a time,
   under a lock, and the descriptor counts as handed over only when the relay has said so. A relay that ends needs no
   lock: it takes its socket away first, and whoever was not heard is told so by the end of his connection. */
#include "relay/shared.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include "base/limits.h"
#include "base/text.h"
#include "crypto/crypto.h"
#include "loop/net.h"

/* A starter waits for those before it, and for a relay that is starting or busy; the agent waits for EMBEDDED_START_MS.
   */
enum {
  LOCK_WAIT_MS = 4000,
  LOCK_LOOK_MS = 5,
  ANSWER_WAIT_MS = 4000,
  SHARED_BACKLOG = 128,
  JOIN_TRIES = 2,
  LEFT_OVER_S = 3600
};

static const char *const namespaces[] = {"mnt", "net", "pid", "user"};
enum { NAMESPACES = sizeof namespaces / sizeof namespaces[0], NAME_CAP = SHARED_KEY_CHARS + 32 };

struct place { dev_t dev; ino_t ino; };

/* Of a process, by its directory in /proc. */
static bool namespaces_of(const char *process, struct place out[NAMESPACES]) {
  for (size_t i = 0; i < NAMESPACES; i++) {
    char path[64];
    struct stat st;
    (void)snprintf(path, sizeof path, "/proc/%s/ns/%s", process, namespaces[i]);
    if (stat(path, &st) != 0) return false;
    memset(&out[i], 0, sizeof out[i]);           /* it is hashed and compared as bytes */
    out[i].dev = st.st_dev;
    out[i].ino = st.st_ino;
  }
  return true;
}

/* Machines may share a home folder. */
static bool read_boot(char out[64]) {
  int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
  ssize_t n = fd >= 0 ? read(fd, out, 64) : -1;
  net_close(fd);
  return n > 0;
}

static bool make_key(char key[SHARED_KEY_CHARS + 1]) {
  struct { char version[32], boot[64]; uid_t user; struct place at[NAMESPACES]; } whom;
  uint8_t hash[SHA256_BYTES];
  memset(&whom, 0, sizeof whom);
  (void)snprintf(whom.version, sizeof whom.version, "%s", ADIT_VERSION);
  whom.user = geteuid();
  if (!read_boot(whom.boot) || !namespaces_of("self", whom.at) || sha256(&whom, sizeof whom, hash) != 0) return false;
  hex_encode(hash, SHARED_KEY_CHARS / 2, key);
  return true;
}

static void file_name(const struct shared *s, const char *end, char out[NAME_CAP]) {
  (void)snprintf(out, NAME_CAP, "shared-%s.%s", s->key, end);
}

/* By the folder's descriptor: however long its own path is. */
static struct addr socket_at(const struct shared *s, const char *name) {
  char path[UNIX_PATH_MAX_BYTES + 1];
  (void)snprintf(path, sizeof path, "/proc/self/fd/%d/%.64s", s->folder_fd, name);
  return addr_unix(path);
}

static struct addr own_socket(const struct shared *s) {
  char name[NAME_CAP];
  file_name(s, "sock", name);
  return socket_at(s, name);
}

/* What others can write to is no place to meet in. */
static bool open_folder(const char *dir, struct shared *s) {
  struct stat st;
  s->folder_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  return s->folder_fd >= 0 && fstat(s->folder_fd, &st) == 0 && st.st_uid == geteuid() && (st.st_mode & 077) == 0;
}

static int take_lock(const struct shared *s) {
  const struct timespec pause = {.tv_nsec = LOCK_LOOK_MS * 1000000L};
  int fd = openat(s->folder_fd, "shared.lock", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
  for (int waited = 0; fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) != 0; waited += LOCK_LOOK_MS) {
    if (waited < LOCK_WAIT_MS && nanosleep(&pause, NULL) == 0) continue;
    net_close(fd);
    fd = -1;
  }
  return fd;
}

/* Joining */

static bool is_of_our_user(int fd) {
  struct ucred who;
  socklen_t n = sizeof who;
  return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &n) == 0 && who.uid == geteuid();
}

static bool send_descriptor(int connection, int fd) {
  char byte = '+';
  struct iovec v = {.iov_base = &byte, .iov_len = 1};
  union { char bytes[CMSG_SPACE(sizeof fd)]; struct cmsghdr header; } control;
  memset(&control, 0, sizeof control);
  struct msghdr m = {
      .msg_iov = &v, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof control.bytes};
  struct cmsghdr *c = CMSG_FIRSTHDR(&m);
  c->cmsg_level = SOL_SOCKET;
  c->cmsg_type = SCM_RIGHTS;
  c->cmsg_len = CMSG_LEN(sizeof fd);
  memcpy(CMSG_DATA(c), &fd, sizeof fd);
  return sendmsg(connection, &m, MSG_NOSIGNAL) == 1;
}

/* Who gives up says so: after that the relay cannot accept any more, and what it said before is here to be read. So
   there are never two who hold one descriptor. */
static int wait_for_answer(int connection) {
  char answer;
  bool came = poll(&(struct pollfd){.fd = connection, .events = POLLIN}, 1, ANSWER_WAIT_MS) == 1;
  if (!came) (void)shutdown(connection, SHUT_RD);
  if (recv(connection, &answer, 1, MSG_DONTWAIT) == 1) return 0;
  return came ? ERR_CLOSED : ERR_TIMEOUT;
}

/* 0: a relay holds it; ERR_CLOSED: there is none; else one is there and does not take it. */
static int hand_over(const struct shared *s, int fd) {
  struct addr at = own_socket(s);
  int connection = net_connect(&at, NULL);
  if (connection < 0) return connection;
  int rc = ERR_AUTH;
  if (is_of_our_user(connection)) rc = send_descriptor(connection, fd) ? wait_for_answer(connection) : ERR_CLOSED;
  net_close(connection);
  return rc;
}

/* Becoming it */

static void drop(const struct shared *s, const char *end) {
  char name[NAME_CAP];
  file_name(s, end, name);
  (void)unlinkat(s->folder_fd, name, 0);
}

/* What is left of others that were killed, and that nobody has come back to, as of containers that are gone. */
static void sweep(const struct shared *s) {
  struct shared other = *s;
  struct dirent *entry;
  struct stat st;
  int fd = openat(s->folder_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  DIR *folder = fd >= 0 ? fdopendir(fd) : NULL;
  if (folder == NULL) net_close(fd);
  while (folder != NULL && (entry = readdir(folder)) != NULL) {
    char end[5] = "";
    if (sscanf(entry->d_name, "shared-%16[0-9a-f].%4s", other.key, end) != 2 || strcmp(end, "sock") != 0) continue;
    if (strcmp(other.key, s->key) == 0 || fstatat(s->folder_fd, entry->d_name, &st, AT_SYMLINK_NOFOLLOW) != 0) continue;
    if (st.st_mtime > time(NULL) - LEFT_OVER_S) continue;
    struct addr at = own_socket(&other);
    net_unlink_left_over(&at);
    if (fstatat(s->folder_fd, entry->d_name, &st, AT_SYMLINK_NOFOLLOW) != 0) drop(&other, "port");
  }
  if (folder != NULL) closedir(folder);
}

/* Its parent leaves at once, so that who started it has no child left; and nothing ties it to a terminal or a folder.
   */
static enum shared_role become(struct shared *s, int lock_fd) {
  struct addr at = own_socket(s);
  struct stat st;
  sweep(s);
  s->listen_fd = net_listen_unix(&at, SHARED_BACKLOG, NULL);
  if (s->listen_fd < 0) return SHARED_APART;
  net_take_descriptors(s->listen_fd);
  (void)chmod(at.u.un.sun_path, 0600);
  if (stat(at.u.un.sun_path, &st) == 0) {
    s->dev = st.st_dev;
    s->ino = st.st_ino;
  }
  pid_t child = fork();
  if (child > 0) return SHARED_HANDED;
  if (child < 0) {
    shared_leave(s, true);
    return SHARED_APART;
  }
  (void)setsid();
  (void)!chdir("/");
  (void)flock(lock_fd, LOCK_UN);   /* which is the parent's, too */
  return SHARED_FIRST;
}

enum shared_role shared_join(const char *dir, int fd, struct shared *s) {
  enum shared_role role = SHARED_APART;
  *s = (struct shared){.folder_fd = -1, .listen_fd = -1};
  int lock_fd = open_folder(dir, s) && make_key(s->key) ? take_lock(s) : -1;
  if (lock_fd >= 0) {
    int rc = ERR_CLOSED;
    for (int i = 0; i < JOIN_TRIES && rc == ERR_CLOSED; i++) rc = hand_over(s, fd);
    role = rc == 0 ? SHARED_HANDED : rc == ERR_CLOSED ? become(s, lock_fd) : SHARED_APART;
  }
  net_close(lock_fd);
  if (role != SHARED_APART) return role;
  net_close(s->folder_fd);
  s->folder_fd = -1;
  return role;
}

void shared_leave(struct shared *s, bool for_good) {
  if (s->listen_fd < 0) return;
  struct addr at = own_socket(s);
  struct stat st;
  if (lstat(at.u.un.sun_path, &st) == 0 && st.st_dev == s->dev && st.st_ino == s->ino) {
    if (for_good) drop(s, "port");
    net_unlink_unix(&at);
  }
  net_close(s->listen_fd);
  s->listen_fd = -1;
}

/* The port */

uint16_t shared_port(const struct shared *s) {
  char name[NAME_CAP], text[8] = "";
  uint16_t port = 0;
  file_name(s, "port", name);
  int fd = openat(s->folder_fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
  if (fd >= 0 && read(fd, text, sizeof text - 1) > 0 && text_to_port(text, &port) != 0) port = 0;
  net_close(fd);
  return port;
}

void shared_remember_port(const struct shared *s, uint16_t port) {
  char name[NAME_CAP];
  file_name(s, "port", name);
  int fd = openat(s->folder_fd, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (fd >= 0) (void)!dprintf(fd, "%u", port);   /* without it a successor has another */
  net_close(fd);
}

/* The relay's side */

bool shared_admits(int connection) {
  struct ucred who;
  socklen_t n = sizeof who;
  char process[16];
  struct place his[NAMESPACES], ours[NAMESPACES];
  if (getsockopt(connection, SOL_SOCKET, SO_PEERCRED, &who, &n) != 0) return false;
  if (who.uid != geteuid() || who.pid <= 0) return false;
  (void)snprintf(process, sizeof process, "%d", (int)who.pid);
  return namespaces_of(process, his) && namespaces_of("self", ours) && memcmp(his, ours, sizeof his) == 0;
}

int shared_receive(int connection) {
  char byte;
  int fd = -1;
  struct iovec v = {.iov_base = &byte, .iov_len = 1};
  union { char bytes[CMSG_SPACE(sizeof fd)]; struct cmsghdr header; } control;
  struct msghdr m = {
      .msg_iov = &v, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = CMSG_LEN(sizeof fd)};
  if (recvmsg(connection, &m, MSG_CMSG_CLOEXEC | MSG_DONTWAIT) < 0) return -1;
  struct cmsghdr *c = CMSG_FIRSTHDR(&m);
  errno = EPROTO;
  if (c == NULL || c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS) return -1;
  memcpy(&fd, CMSG_DATA(c), sizeof fd);          /* the kernel closes what is more: CMSG_SPACE has room for two */
  return fd;
}

bool shared_accept(int connection) { return net_send(connection, "+", 1) == 1; }
