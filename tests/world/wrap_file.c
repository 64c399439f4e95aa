/* Calls that name files, or are about files of a disk. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/base.h"
#include "disk.h"
#include "wrap.h"

enum { MODE_BITS = 07777, LETTERS = 6, LINE_CAP = 4096 };

static int result(int rc) {
  if (rc >= 0) return rc;
  errno = -rc;
  return -1;
}

static int traced(const char *what, int rc) {
  world_trace(what, (uint64_t)(int64_t)rc, 0);
  return result(rc);
}

static mode_t mode_argument(int flags, va_list args) { return (flags & O_CREAT) != 0 ? va_arg(args, mode_t) : 0; }

static int find_node(int folder_fd, const char *path, struct place *at) {
  int rc = disk_find(folder_fd, path, at);
  return rc != 0 ? rc : at->node == NULL ? -ENOENT : 0;
}

/* Opening */

WRAP(int, open64, (const char *path, int flags, ...)) {
  va_list args;
  va_start(args, flags);
  mode_t mode = mode_argument(flags, args);
  va_end(args);
  if (task_current() == NULL) return __real_open64(path, flags, mode);
  task_step();
  return traced("open", disk_open(AT_FDCWD, path, flags, mode));
}

WRAP(int, openat64, (int folder, const char *path, int flags, ...)) {
  va_list args;
  va_start(args, flags);
  mode_t mode = mode_argument(flags, args);
  va_end(args);
  if (task_current() == NULL) return __real_openat64(folder, path, flags, mode);
  task_step();
  return traced("open", disk_open(folder, path, flags, mode));
}

WRAP(int, mkostemp64, (char *path, int flags)) {
  if (task_current() == NULL) return __real_mkostemp64(path, flags);
  char *letters = path + strlen(path) - LETTERS;
  int rc = -EEXIST;
  while (rc == -EEXIST) {
    for (int i = 0; i < LETTERS; i++) letters[i] = (char)('a' + world_below(26));
    rc = disk_open(AT_FDCWD, path, flags | O_RDWR | O_CREAT | O_EXCL, 0600);
  }
  return traced("open", rc);
}

/* Nothing that is simulated has a file that is read so. */
WRAP(FILE *, fopen64, (const char *path, const char *mode)) {
  if (task_current() == NULL) return __real_fopen64(path, mode);
  errno = ENOENT;
  return NULL;
}

/* What is there */

WRAP(int, fstatat64, (int folder, const char *path, struct stat *out, int flags)) {
  struct place at;
  if (task_current() == NULL) return __real_fstatat64(folder, path, out, flags);
  int rc = find_node(folder, path, &at);
  if (rc == 0) node_stat(at.node, out);
  return result(rc);
}

WRAP(int, stat64, (const char *path, struct stat *out)) {
  return task_current() == NULL ? __real_stat64(path, out) : __wrap_fstatat64(AT_FDCWD, path, out, 0);
}

WRAP(int, lstat64, (const char *path, struct stat *out)) {
  return task_current() == NULL ? __real_lstat64(path, out) : __wrap_fstatat64(AT_FDCWD, path, out, 0);
}

WRAP(int, faccessat, (int folder, const char *path, int mode, int flags)) {
  struct place at;
  return task_current() == NULL ? __real_faccessat(folder, path, mode, flags) : result(find_node(folder, path, &at));
}

WRAP(int, access, (const char *path, int mode)) {
  return task_current() == NULL ? __real_access(path, mode) : __wrap_faccessat(AT_FDCWD, path, mode, 0);
}

WRAP(char *, realpath, (const char *restrict path, char *restrict out)) {
  struct place at;
  if (task_current() == NULL) return __real_realpath(path, out);
  ASSERT(out == NULL && path[0] == '/');
  return result(find_node(AT_FDCWD, path, &at)) == 0 ? strdup(path) : NULL;
}

/* What a fortified build calls. */
WRAP(char *, __realpath_chk, (const char *path, char *out, size_t cap)) {
  return task_current() == NULL ? __real___realpath_chk(path, out, cap) : __wrap_realpath(path, out);
}

WRAP(ssize_t, readlink, (const char *restrict path, char *restrict out, size_t cap)) {
  struct place at;
  if (task_current() == NULL) return __real_readlink(path, out, cap);
  int rc = find_node(AT_FDCWD, path, &at);
  return result(rc != 0 ? rc : -EINVAL);
}

/* Changes */

WRAP(int, mkdirat, (int folder, const char *path, mode_t mode)) {
  struct place at;
  if (task_current() == NULL) return __real_mkdirat(folder, path, mode);
  task_step();
  int rc = disk_find(folder, path, &at);
  if (rc == 0 && at.node != NULL) rc = -EEXIST;
  if (rc == 0) (void)node_make(&at, S_IFDIR | mode);
  return traced("mkdir", rc);
}

WRAP(int, mkdir, (const char *path, mode_t mode)) {
  return task_current() == NULL ? __real_mkdir(path, mode) : __wrap_mkdirat(AT_FDCWD, path, mode);
}

WRAP(int, unlinkat, (int folder, const char *path, int flags)) {
  struct place at;
  if (task_current() == NULL) return __real_unlinkat(folder, path, flags);
  task_step();
  int rc = disk_find(folder, path, &at);
  return traced("unlink", rc != 0 ? rc : disk_unlink(&at, (flags & AT_REMOVEDIR) != 0));
}

WRAP(int, unlink, (const char *path)) {
  return task_current() == NULL ? __real_unlink(path) : __wrap_unlinkat(AT_FDCWD, path, 0);
}

WRAP(int, renameat, (int from_folder, const char *from, int to_folder, const char *to)) {
  struct place a, b;
  if (task_current() == NULL) return __real_renameat(from_folder, from, to_folder, to);
  task_step();
  int rc = disk_find(from_folder, from, &a);
  if (rc == 0) rc = disk_find(to_folder, to, &b);
  return traced("rename", rc != 0 ? rc : disk_rename(&a, &b));
}

WRAP(int, rename, (const char *from, const char *to)) {
  return task_current() == NULL ? __real_rename(from, to) : __wrap_renameat(AT_FDCWD, from, AT_FDCWD, to);
}

WRAP(int, link, (const char *from, const char *to)) {
  struct place a, b;
  if (task_current() == NULL) return __real_link(from, to);
  task_step();
  int rc = find_node(AT_FDCWD, from, &a);
  if (rc == 0) rc = disk_find(AT_FDCWD, to, &b);
  return traced("link", rc != 0 ? rc : disk_link(a.node, &b));
}

WRAP(int, fchmodat, (int folder, const char *path, mode_t mode, int flags)) {
  struct place at;
  if (task_current() == NULL) return __real_fchmodat(folder, path, mode, flags);
  int rc = find_node(folder, path, &at);
  if (rc == 0) at.node->mode = (at.node->mode & (mode_t)~MODE_BITS) | mode;
  return result(rc);
}

WRAP(int, chmod, (const char *path, mode_t mode)) {
  return task_current() == NULL ? __real_chmod(path, mode) : __wrap_fchmodat(AT_FDCWD, path, mode, 0);
}

WRAP(int, fchmod, (int fd, mode_t mode)) {
  if (task_current() == NULL) return __real_fchmod(fd, mode);
  const struct disk_file *f = disk_file_of(fd);
  if (f != NULL) f->node->mode = (f->node->mode & (mode_t)~MODE_BITS) | mode;
  return result(f == NULL ? -EBADF : 0);
}

/* There is one user. */
WRAP(int, fchownat, (int folder, const char *path, uid_t user, gid_t group, int flags)) {
  struct place at;
  if (task_current() == NULL) return __real_fchownat(folder, path, user, group, flags);
  return result(user == DISK_USER ? find_node(folder, path, &at) : -EPERM);
}

WRAP(int, chown, (const char *path, uid_t user, gid_t group)) {
  return task_current() == NULL ? __real_chown(path, user, group) : __wrap_fchownat(AT_FDCWD, path, user, group, 0);
}

WRAP(int, fchown, (int fd, uid_t user, gid_t group)) {
  if (task_current() == NULL) return __real_fchown(fd, user, group);
  return result(disk_file_of(fd) == NULL ? -EBADF : user == DISK_USER ? 0 : -EPERM);
}

/* Every call gives its file's mode. */
WRAP(mode_t, umask, (mode_t mask)) { return task_current() == NULL ? __real_umask(mask) : 0; }

/* Open files */

WRAP(int, fsync, (int fd)) {
  if (task_current() == NULL) return __real_fsync(fd);
  task_step();
  const struct disk_file *f = disk_file_of(fd);
  disk_settle();
  if (f != NULL) node_sync(f->node);
  return traced("fsync", f == NULL ? -EBADF : 0);
}

WRAP(int, flock, (int fd, int operation)) {
  if (task_current() == NULL) return __real_flock(fd, operation);
  task_step();
  struct disk_file *f = disk_file_of(fd);
  return traced("flock", f == NULL ? -EBADF : disk_lock(f, operation));
}

/* The C library would write it by itself. */
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
WRAP(int, __dprintf_chk, (int fd, int flag, const char *format, ...)) {
  char text[LINE_CAP];
  va_list args;
  (void)flag;
  va_start(args, format);
  int n = vsnprintf(text, sizeof text, format, args);
  va_end(args);
  return n < 0 ? n : (int)write(fd, text, size_min((size_t)n, sizeof text - 1));
}

WRAP(ssize_t, pread64, (int fd, void *out, size_t n, off64_t at)) {
  if (task_current() == NULL) return __real_pread64(fd, out, n, at);
  task_step();
  const struct disk_file *f = disk_file_of(fd);
  return traced("pread", f == NULL ? -EBADF : (int)node_read(f->node, out, n, (uint64_t)at));
}

WRAP(ssize_t, pwrite64, (int fd, const void *from, size_t n, off64_t at)) {
  if (task_current() == NULL) return __real_pwrite64(fd, from, n, at);
  task_step();
  const struct disk_file *f = disk_file_of(fd);
  return traced("pwrite", f == NULL ? -EBADF : (int)node_write(f->node, from, n, (uint64_t)at));
}

WRAP(int, isatty, (int fd)) { return task_current() == NULL ? __real_isatty(fd) : 0; }

/* Reading folders: the names as they were at opendir */

struct listing {
  int fd;
  size_t n, next;
  struct dirent entries[];
};

static struct listing *list_folder(const struct node *folder, int fd) {
  size_t n = 0;
  LIST_FOREACH(&folder->names, it) n++;
  struct listing *l = world_alloc(sizeof *l + n * sizeof l->entries[0]);
  l->fd = fd;
  LIST_FOREACH(&folder->names, it) {
    const struct disk_name *e = CONTAINER_OF(it, struct disk_name, of_folder);
    struct dirent *out = &l->entries[l->n++];
    out->d_ino = e->node->inode;
    memcpy(out->d_name, e->name, sizeof out->d_name);
  }
  return l;
}

WRAP(DIR *, fdopendir, (int fd)) {
  if (task_current() == NULL) return __real_fdopendir(fd);
  const struct disk_file *f = disk_file_of(fd);
  return f == NULL ? NULL : (DIR *)(void *)list_folder(f->node, fd);
}

WRAP(DIR *, opendir, (const char *path)) {
  if (task_current() == NULL) return __real_opendir(path);
  int fd = __wrap_open64(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  return fd < 0 ? NULL : __wrap_fdopendir(fd);
}

WRAP(struct dirent *, readdir64, (DIR * d)) {
  if (task_current() == NULL) return __real_readdir64(d);
  struct listing *l = (void *)d;
  return l->next < l->n ? &l->entries[l->next++] : NULL;
}

WRAP(int, closedir, (DIR * d)) {
  if (task_current() == NULL) return __real_closedir(d);
  struct listing *l = (void *)d;
  int rc = close(l->fd);
  world_free(l);
  return rc;
}
