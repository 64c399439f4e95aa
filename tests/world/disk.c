/* See disk.h. A folder keeps its names twice, and a file its bytes: as they are, and as they were when they were last
   synced. */
#include "disk.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/file.h>

#include "base/base.h"
#include "times.h"

enum { BYTES_MIN = 512, BLOCK_BYTES = 4096, DEVICE = 7 };

struct disk { struct node *root; };

/* Nodes */

static int64_t now_s(void) { return WORLD_BEGINNING_S + (int64_t)(world_now_ns() / WORLD_NS_PER_S); }

static struct node *node_new(mode_t mode) {
  struct node *n = world_alloc(sizeof *n);
  n->mode = mode;
  n->inode = file_next_inode();
  n->changed_s = now_s();
  list_init(&n->names);
  list_init(&n->synced_names);
  return n;
}

static void names_free(struct list *names) {
  LIST_FOREACH(names, it) {
    struct disk_name *e = CONTAINER_OF(it, struct disk_name, of_folder);
    list_remove(&e->of_folder);
    node_unref(e->node);
    world_free(e);
  }
}

struct node *node_ref(struct node *n) {
  n->refs++;
  return n;
}

void node_unref(struct node *n) {
  if (--n->refs > 0) return;
  names_free(&n->names);
  names_free(&n->synced_names);
  world_free(n->bytes);
  world_free(n->synced);
  world_free(n->locks);
  world_free(n);
}

static void touch(struct node *n) {
  n->changed_s = now_s();
  n->dirty = true;
}

ssize_t node_read(const struct node *n, void *out, size_t bytes, uint64_t offset) {
  if (offset >= n->n) return 0;
  size_t part = size_min(bytes, n->n - (size_t)offset);
  memcpy(out, n->bytes + offset, part);
  return (ssize_t)part;
}

static void resize(struct node *n, size_t bytes) {
  if (bytes > n->cap) {
    n->cap = size_max(2 * bytes, BYTES_MIN);
    n->bytes = world_realloc(n->bytes, n->cap);
  }
  if (bytes > n->n) memset(n->bytes + n->n, 0, bytes - n->n);
  n->n = bytes;
}

ssize_t node_write(struct node *n, const void *from, size_t bytes, uint64_t offset) {
  if (offset + bytes > n->n) resize(n, (size_t)offset + bytes);
  if (bytes > 0) memcpy(n->bytes + offset, from, bytes);
  touch(n);
  return (ssize_t)bytes;
}

void node_truncate(struct node *n, uint64_t bytes) {
  resize(n, (size_t)bytes);
  touch(n);
}

static void add_name(struct list *names, const char *name, struct node *n) {
  struct disk_name *e = world_alloc(sizeof *e);
  (void)snprintf(e->name, sizeof e->name, "%s", name);
  e->node = node_ref(n);
  list_push_tail(names, &e->of_folder);
}

static void copy_names(struct list *to, struct list *from) {
  names_free(to);
  LIST_FOREACH(from, it) {
    const struct disk_name *e = CONTAINER_OF(it, struct disk_name, of_folder);
    add_name(to, e->name, e->node);
  }
}

void node_sync(struct node *n) {
  if (!n->dirty) return;
  n->dirty = false;
  if (S_ISDIR(n->mode)) {
    copy_names(&n->synced_names, &n->names);
    return;
  }
  n->synced = world_realloc(n->synced, n->n + 1);
  if (n->n > 0) memcpy(n->synced, n->bytes, n->n);
  n->synced_n = n->n;
}

void disk_settle(void) {
  if (weather.disk_max_ns == 0) return;
  uint64_t until_ns = world_now_ns() + world_below(weather.disk_max_ns);
  while (task_sleep(until_ns)) continue;
}

void node_stat(const struct node *n, struct stat *out) {
  *out = (struct stat){.st_dev = DEVICE, .st_ino = n->inode, .st_mode = n->mode, .st_nlink = n->links,
                       .st_uid = DISK_USER, .st_gid = DISK_USER, .st_size = (off_t)n->n, .st_blksize = BLOCK_BYTES,
                       .st_mtim.tv_sec = n->changed_s, .st_ctim.tv_sec = n->changed_s};
}

static void undo(struct node *n) {
  if (S_ISDIR(n->mode)) {
    if (n->dirty && world_chance(2)) copy_names(&n->names, &n->synced_names);
    LIST_FOREACH(&n->names, it) undo(CONTAINER_OF(it, struct disk_name, of_folder)->node);
  } else if (n->dirty && world_chance(2)) {
    resize(n, n->synced_n);
    if (n->synced_n > 0) memcpy(n->bytes, n->synced, n->synced_n);
  }
  n->dirty = false;
}

void disk_cut_power(struct disk *d) { undo(d->root); }

struct disk *disk_new(void) {
  struct disk *d = world_alloc(sizeof *d);
  d->root = node_ref(node_new(S_IFDIR | 0755));
  return d;
}

/* Names */

static struct disk_name *look_up(const struct node *folder, const char *name) {
  LIST_FOREACH(&folder->names, it) {
    struct disk_name *e = CONTAINER_OF(it, struct disk_name, of_folder);
    if (strcmp(e->name, name) == 0) return e;
  }
  return NULL;
}

static const char *skip_slashes(const char *path) {
  while (*path == '/') path++;
  return path;
}

/* From where a path begins; *path is what is left of it. */
static struct node *base_of(int folder_fd, const char **path) {
  static const char own[] = "/proc/self/fd/";
  if (strncmp(*path, own, sizeof own - 1) == 0) {
    char *rest = NULL;
    folder_fd = (int)strtol(*path + sizeof own - 1, &rest, 10);
    *path = rest;
  } else if (**path == '/' || folder_fd == AT_FDCWD) {
    return process_current()->host->disk->root;
  }
  const struct disk_file *f = disk_file_of(folder_fd);
  return f == NULL ? NULL : f->node;
}

int disk_find(int folder_fd, const char *path, struct place *out) {
  struct node *at = *path == '\0' ? NULL : base_of(folder_fd, &path);
  *out = (struct place){.folder = at, .node = at, .name = "."};
  if (at == NULL) return -ENOENT;
  for (path = skip_slashes(path); *path != '\0'; path = skip_slashes(path)) {
    size_t n = strcspn(path, "/");
    if (out->node == NULL) return -ENOENT;
    if (!S_ISDIR(out->node->mode)) return -ENOTDIR;
    if (n >= DISK_NAME_CAP) return -ENAMETOOLONG;
    if (n != 1 || *path != '.') {
      memcpy(out->name, path, n);
      out->name[n] = '\0';
      out->folder = out->node;
      const struct disk_name *e = look_up(out->folder, out->name);
      out->node = e == NULL ? NULL : e->node;
    }
    path += n;
  }
  return 0;
}

static void put_name(const struct place *at, struct node *n) {
  add_name(&at->folder->names, at->name, n);
  n->links++;
  touch(at->folder);
}

struct node *node_make(const struct place *at, mode_t mode) {
  struct node *n = node_new(mode);
  n->dirty = true;
  put_name(at, n);
  return n;
}

int disk_link(struct node *n, const struct place *at) {
  if (at->node != NULL) return -EEXIST;
  put_name(at, n);
  return 0;
}

static void take_name(const struct place *at) {
  struct disk_name *e = look_up(at->folder, at->name);
  list_remove(&e->of_folder);
  e->node->links--;
  node_unref(e->node);
  world_free(e);
  touch(at->folder);
}

int disk_unlink(const struct place *at, bool folder) {
  if (at->node == NULL) return -ENOENT;
  if (folder != S_ISDIR(at->node->mode)) return folder ? -ENOTDIR : -EISDIR;
  if (folder && !list_empty(&at->node->names)) return -ENOTEMPTY;
  take_name(at);
  return 0;
}

int disk_rename(const struct place *from, const struct place *to) {
  struct node *n = from->node;
  if (n == NULL) return -ENOENT;
  if (to->node == n) return 0;
  if (to->node != NULL && S_ISDIR(to->node->mode)) return -EISDIR;
  node_ref(n);
  if (to->node != NULL) take_name(to);
  take_name(from);
  put_name(to, n);
  node_unref(n);
  return 0;
}

int disk_socket_make(const char *path, uint64_t inode) {
  struct place at;
  int rc = disk_find(AT_FDCWD, path, &at);
  if (rc != 0) return rc;
  if (at.node != NULL) return -EADDRINUSE;
  node_make(&at, S_IFSOCK | 0600)->inode = inode;
  return 0;
}

int disk_socket_find(const char *path, uint64_t *inode) {
  struct place at;
  int rc = disk_find(AT_FDCWD, path, &at);
  if (rc != 0) return rc;
  if (at.node == NULL) return -ENOENT;
  if (!S_ISSOCK(at.node->mode)) return -ECONNREFUSED;
  *inode = at.node->inode;
  return 0;
}

/* Open files */

static struct disk_file *disk_file(struct file *f) { return CONTAINER_OF(f, struct disk_file, file); }

static ssize_t read_file(struct file *f, const struct iovec *iov, int n) {
  struct disk_file *d = disk_file(f);
  ssize_t sum = 0;
  if (S_ISDIR(d->node->mode)) return -EISDIR;
  for (int i = 0; i < n; i++) {
    ssize_t got = node_read(d->node, iov[i].iov_base, iov[i].iov_len, d->offset);
    d->offset += (uint64_t)got;
    sum += got;
  }
  return sum;
}

static ssize_t write_file(struct file *f, const struct iovec *iov, int n) {
  struct disk_file *d = disk_file(f);
  ssize_t sum = 0;
  if ((f->flags & O_ACCMODE) == O_RDONLY) return -EBADF;
  for (int i = 0; i < n; i++) {
    if ((f->flags & O_APPEND) != 0) d->offset = d->node->n;
    ssize_t put = node_write(d->node, iov[i].iov_base, iov[i].iov_len, d->offset);
    d->offset += (uint64_t)put;
    sum += put;
  }
  return sum;
}

static uint32_t poll_file(struct file *f) {
  (void)f;
  return EPOLLIN | EPOLLOUT;
}

static int stat_file(struct file *f, struct stat *out) {
  node_stat(disk_file(f)->node, out);
  return 0;
}

static void end_file(struct file *f) {
  struct disk_file *d = disk_file(f);
  (void)disk_lock(d, LOCK_UN);
  node_unref(d->node);
  file_finish(f);
  world_free(d);
}

const struct file_kind disk_kind = {.name = "file", .mode = S_IFREG, .read = read_file, .write = write_file,
                                    .poll = poll_file, .stat = stat_file, .end = end_file};
const struct file_kind disk_folder_kind = {.name = "folder", .mode = S_IFDIR, .read = read_file, .write = write_file,
                                           .poll = poll_file, .stat = stat_file, .end = end_file};

struct disk_file *disk_file_of(int fd) {
  struct file *f = files_get(process_current()->files, fd);
  return f == NULL || (f->kind != &disk_kind && f->kind != &disk_folder_kind) ? NULL : disk_file(f);
}

static int may_open(const struct place *at, int flags) {
  const struct node *n = at->node;
  if (n == NULL) return (flags & O_CREAT) != 0 ? 0 : -ENOENT;
  if ((flags & O_CREAT) != 0 && (flags & O_EXCL) != 0) return -EEXIST;
  if ((flags & O_DIRECTORY) != 0 && !S_ISDIR(n->mode)) return -ENOTDIR;
  if (S_ISDIR(n->mode) && (flags & O_ACCMODE) != O_RDONLY) return -EISDIR;
  return S_ISSOCK(n->mode) ? -ENXIO : 0;
}

int disk_open(int folder_fd, const char *path, int flags, mode_t mode) {
  struct place at;
  int rc = disk_find(folder_fd, path, &at);
  if (rc == 0) rc = may_open(&at, flags);
  if (rc != 0) return rc;
  struct node *n = at.node != NULL ? at.node : node_make(&at, S_IFREG | (mode & 0777));
  if ((flags & O_TRUNC) != 0 && (flags & O_ACCMODE) != O_RDONLY) node_truncate(n, 0);
  struct disk_file *f = world_alloc(sizeof *f);
  f->node = node_ref(n);
  file_begin(&f->file, S_ISDIR(n->mode) ? &disk_folder_kind : &disk_kind, flags);
  return files_install(process_current()->files, &f->file, 0);
}

int disk_lock(struct disk_file *f, int operation) {
  struct node *n = f->node;
  int wanted = operation & ~LOCK_NB;
  if (f->locked == LOCK_EX) n->locked_by = NULL;
  if (f->locked == LOCK_SH) n->shared_n--;
  f->locked = 0;
  if (wanted == LOCK_UN) return 0;
  if (n->locked_by != NULL || (wanted == LOCK_EX && n->shared_n > 0)) {
    if ((operation & LOCK_NB) == 0) world_fail("flock that may wait is not simulated");
    return -EWOULDBLOCK;
  }
  if (wanted == LOCK_EX) n->locked_by = &f->file;
  else n->shared_n++;
  f->locked = wanted;
  return 0;
}
