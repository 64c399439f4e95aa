/* Small files of a state folder. The hard thing is that several processes and a crash may come at any time: every file
   is written under a temporary name, made durable, and renamed over its place, under the folder's lock. */
#include "relay/key_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/folders.h"
#include "base/limits.h"
#include "base/secret.h"
#include "base/text.h"
#include "crypto/crypto.h"

enum { NAME_CAP = 128 };
static const char relay_lock[] = "relay.lock";

#define CHECKSUM_PREFIX "adit-checksum-1 "
enum { CHECKSUM_BYTES = 8, CHECKSUM_LINE_CHARS = sizeof CHECKSUM_PREFIX - 1 + 2 * CHECKSUM_BYTES + 1 };

static int make_folders(const char *path, struct err *e) {
  char *part = strdup(path);
  if (part == NULL) return err_set(e, ERR_NOMEM, "state folder %s: out of memory", path);
  int error = folders_make(part), rc = 0;
  if (error != 0)
    rc = err_set(e, ERR_IO, "state folder %s: cannot make %s: %s (choose another with --state, or make it yourself)",
                 path, part, strerror(error));
  free(part);
  return rc;
}

static int folder_check(const struct folder *f, struct err *e) {
  struct stat st;
  if (fstat(f->fd, &st) != 0) return err_set_errno(e, "state folder %s", f->path);
  uid_t me = geteuid();
  if (st.st_uid != me && me != 0)
    return err_set(e, ERR_AUTH,
                   "state folder %s: it belongs to another user (choose another with --state, or run as its owner)",
                   f->path);
  if ((st.st_mode & 022) != 0)
    return err_set(e, ERR_AUTH,
                   "state folder %s: other users may write to it, so its keys could be replaced (chmod 700 %s)",
                   f->path, f->path);
  if (faccessat(f->fd, ".", W_OK | X_OK, AT_EACCESS) != 0)
    return err_set(e, ERR_IO, "state folder %s: not writable: %s (chmod 700 it, or choose another with --state)",
                   f->path, strerror(errno));
  return 0;
}

int folder_open(const char *path, struct folder *f, struct err *e) {
  f->fd = -1;
  f->path = NULL;
  if (path[0] == '\0') return err_set(e, ERR_USAGE, "state folder: its name is empty (give one with --state)");
  int rc = make_folders(path, e);
  if (rc != 0) return rc;
  /* Absolute, so that a later chdir of the process changes nothing. */
  f->path = realpath(path, NULL);
  if (f->path == NULL) return err_set_errno(e, "state folder %s", path);
  f->fd = open(f->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (f->fd < 0) {
    if (errno == ENOTDIR)
      rc = err_set(e, ERR_IO, "state folder %s: it is not a folder (choose another with --state)", path);
    else
      rc = err_set_errno_remedy(e, "choose another with --state, or run as its owner",
                                "state folder %s: cannot be opened", path);
    goto fail;
  }
  rc = folder_check(f, e);
  if (rc != 0) goto fail;
  struct stat st;
  if (fstat(f->fd, &st) != 0) {
    rc = err_set_errno(e, "state folder %s", path);
    goto fail;
  }
  f->uid = st.st_uid;
  f->gid = st.st_gid;
  return 0;
fail:
  folder_close(f);
  return rc;
}

void folder_close(struct folder *f) {
  if (f->fd >= 0) close(f->fd);
  free(f->path);
  f->fd = -1;
  f->path = NULL;
}

int folder_adopt(const struct folder *f, int fd, const char *name, struct err *e) {
  if (geteuid() == 0 && f->uid != 0 && fchown(fd, f->uid, f->gid) != 0)
    return err_set_errno(e, "%s/%s: cannot be given to the folder's owner", f->path, name);
  return 0;
}

/* Locks a file of the folder; ERR_TIMEOUT, without a text: another has held it for limit_ms. */
static int lock_file(const struct folder *f, const char *name, int limit_ms, struct err *e) {
  int fd = openat(f->fd, name, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600);
  if (fd < 0)
    return err_set_errno_remedy(e, "the folder must be writable by this user", "%s/%s", f->path, name);
  int rc = folder_adopt(f, fd, name, e);
  for (int waited_ms = 0; rc == 0; waited_ms += STATE_LOCK_RETRY_MS) {
    if (flock(fd, LOCK_EX | LOCK_NB) == 0) return fd;
    if (errno != EWOULDBLOCK && errno != EINTR)
      rc = err_set_errno(e, "%s/%s", f->path, name);
    else if (waited_ms >= limit_ms) rc = ERR_TIMEOUT;
    else
      nanosleep(&(struct timespec){.tv_nsec = STATE_LOCK_RETRY_MS * 1000000L}, NULL);
  }
  close(fd);
  return rc;
}

int folder_lock(const struct folder *f, struct err *e) {
  int rc = lock_file(f, "lock", STATE_BUSY_MS, e);
  if (rc != ERR_TIMEOUT) return rc;
  return err_set(e, ERR_TIMEOUT,
                 "state folder %s: another adit has held its lock for %d s (end that program, or try again)", f->path,
                 STATE_BUSY_MS / 1000);
}

int folder_lock_relay(const struct folder *f, struct err *e) {
  int rc = lock_file(f, relay_lock, STATE_CLAIM_MS, e);
  if (rc != ERR_TIMEOUT) return rc;
  return err_set(e, ERR_CONFLICT,
                 "state folder %s: another relay serves from it (end that one, or give each a --state of its own)",
                 f->path);
}

bool folder_is_relay_lock(const struct folder *f, int fd) {
  struct stat named, given;
  return fstatat(f->fd, relay_lock, &named, AT_SYMLINK_NOFOLLOW) == 0 && fstat(fd, &given) == 0 &&
         named.st_dev == given.st_dev && named.st_ino == given.st_ino;
}

void folder_unlock(int lock) { close(lock); }

/* By a shared lock for a moment, which whoever tries meanwhile does not fail for: he tries again. */
bool folder_is_locked_by_relay(const struct folder *f) {
  int fd = openat(f->fd, relay_lock, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
  if (fd < 0) return false;
  bool locked = flock(fd, LOCK_SH | LOCK_NB) != 0 && errno == EWOULDBLOCK;
  close(fd);
  return locked;
}

/* Everything up to cap - 1 bytes; a longer file is an error. */
static int read_all(int fd, char *out, size_t cap, size_t *n) {
  *n = 0;
  for (;;) {
    ssize_t got = read(fd, out + *n, cap - *n);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return ERR_IO;
    if (got == 0) break;
    *n += (size_t)got;
    if (*n == cap) return ERR_LIMIT;
  }
  out[*n] = '\0';
  return 0;
}

static int checksum_line(const char *text, size_t n, char line[CHECKSUM_LINE_CHARS + 1], struct err *e) {
  uint8_t hash[SHA256_BYTES];
  memcpy(line, CHECKSUM_PREFIX, sizeof CHECKSUM_PREFIX);
  if (sha256(text, n, hash) != 0)
    return err_set(e, ERR_CRYPTO, "keys: no checksum could be made (check the crypto library)");
  hex_encode(hash, CHECKSUM_BYTES, line + sizeof CHECKSUM_PREFIX - 1);
  memcpy(line + CHECKSUM_LINE_CHARS - 1, "\n", 2);
  wipe(hash, sizeof hash);
  return 0;
}

/* Takes the last line off, if it is a checksum and holds. */
static int checksum_take(const struct folder *f, const char *name, char *text, size_t *n, bool *had, struct err *e) {
  char line[CHECKSUM_LINE_CHARS + 1];
  size_t rest = *n - size_min(*n, CHECKSUM_LINE_CHARS);
  *had = *n >= CHECKSUM_LINE_CHARS && memcmp(text + rest, CHECKSUM_PREFIX, sizeof CHECKSUM_PREFIX - 1) == 0;
  if (!*had) return 0;
  int rc = checksum_line(text, rest, line, e);
  if (rc == 0 && memcmp(text + rest, line, CHECKSUM_LINE_CHARS) != 0)
    rc = err_set(e, ERR_SYNTAX,
                 "%s/%s: damaged: its checksum does not hold (restore it from a backup; or move it away and begin anew "
                 "with: adit relay --reset-state)",
                 f->path, name);
  *n = rest;
  text[rest] = '\0';
  return rc;
}

static int read_checked(const struct folder *f, const char *name, bool secret, char *out, size_t cap, size_t *n,
                        bool *had, struct err *e) {
  /* NONBLOCK, so that a FIFO of that name cannot hold us up before it is found out. */
  int fd = openat(f->fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
  if (fd < 0 && errno == ENOENT) return ERR_NOT_NOW;
  if (fd < 0)
    return err_set_errno_remedy(e, "run as the folder's owner", "%s/%s: cannot be read", f->path, name);
  struct stat st;
  int rc = 0;
  if (fstat(fd, &st) != 0)
    rc = err_set_errno(e, "%s/%s", f->path, name);
  else if (!S_ISREG(st.st_mode))
    rc = err_set(e, ERR_SYNTAX, "%s/%s: not a regular file (move it away)", f->path, name);
  else if (secret && (st.st_mode & 077) != 0)
    rc = err_set(e, ERR_AUTH, "%s/%s: other users may read or write this key (if nobody has: chmod 600 it)", f->path,
                 name);
  if (rc == 0) {
    rc = read_all(fd, out, cap, n);
    if (rc == ERR_LIMIT)
      (void)err_set(e, rc, "%s/%s: too long for what it should be (restore it from a backup)", f->path, name);
    else if (rc != 0)
      (void)err_set_errno(e, "%s/%s: cannot be read", f->path, name);
  }
  close(fd);
  *had = false;
  return rc == 0 && secret ? checksum_take(f, name, out, n, had, e) : rc;
}

int key_file_read(const struct folder *f, const char *name, bool secret, char *out, size_t cap, size_t *n,
                  struct err *e) {
  bool had;
  return read_checked(f, name, secret, out, cap, n, &had, e);
}

int key_file_seal(const struct folder *f, const char *name, struct err *e) {
  char *text = malloc(STATE_FILE_MAX_BYTES);
  bool had = false;
  size_t n = 0;
  if (text == NULL) return err_set(e, ERR_NOMEM, "%s/%s: out of memory", f->path, name);
  int rc = read_checked(f, name, true, text, STATE_FILE_MAX_BYTES, &n, &had, e);
  if (rc == 0 && !had) rc = key_file_write(f, name, true, text, n, e);
  wipe(text, STATE_FILE_MAX_BYTES);
  free(text);
  return rc;
}

static int write_all(int fd, const char *p, size_t n) {
  while (n > 0) {
    ssize_t put = write(fd, p, n);
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) return ERR_IO;
    p += put;
    n -= (size_t)put;
  }
  return 0;
}

int key_file_write(const struct folder *f, const char *name, bool secret, const char *text, size_t n, struct err *e) {
  char new_name[NAME_CAP], checksum[CHECKSUM_LINE_CHARS + 1];
  int rc = secret ? checksum_line(text, n, checksum, e) : 0;
  if (rc != 0) return rc;
  snprintf(new_name, sizeof new_name, "%s.new", name);
  if (unlinkat(f->fd, new_name, 0) != 0 && errno != ENOENT)   /* what a crash left */
    return err_set_errno(e, "%s/%s: cannot be removed", f->path, new_name);
  int fd = openat(f->fd, new_name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (fd < 0)
    return err_set_errno_remedy(e, "the folder must be writable and have room", "%s/%s: cannot be written", f->path,
                                name);
  rc = folder_adopt(f, fd, name, e);
  if (rc != 0) goto fail;
  if (fchmod(fd, secret ? 0600 : 0644) != 0 || write_all(fd, text, n) != 0 ||
      (secret && write_all(fd, checksum, CHECKSUM_LINE_CHARS) != 0) || fsync(fd) != 0 ||
      renameat(f->fd, new_name, f->fd, name) != 0) {
    rc = err_set(e, ERR_IO, "%s/%s: cannot be written: %s (the folder must be writable and have room)", f->path, name,
                 strerror(errno));
    goto fail;
  }
  close(fd);
  if (fsync(f->fd) != 0) return err_set_errno(e, "%s: cannot be made durable", f->path);
  return 0;
fail:
  close(fd);
  (void)unlinkat(f->fd, new_name, 0);
  return rc;
}

int key_file_set_aside(const struct folder *f, const char *name, int64_t now_s, struct err *e) {
  for (;; now_s++) {               /* a second later when that name is taken */
    struct tm tm;
    time_t t = (time_t)now_s;
    char date[32], aside[NAME_CAP];
    if (gmtime_r(&t, &tm) == NULL || strftime(date, sizeof date, "%Y%m%d-%H%M%S", &tm) == 0)
      return err_set(e, ERR_NOT_NOW, "%s/%s: cannot be set aside: the clock is wrong (set it)", f->path, name);
    snprintf(aside, sizeof aside, "%s.%s", name, date);
    struct stat st;
    if (fstatat(f->fd, aside, &st, AT_SYMLINK_NOFOLLOW) == 0) continue;
    if (renameat(f->fd, name, f->fd, aside) != 0 && errno != ENOENT)
      return err_set_errno(e, "%s/%s: cannot be set aside", f->path, name);
    return 0;
  }
}
