/* A virtual file system of SQLite over disk.h. Locks are held by an open file, which is behind a descriptor of its
   process: so they go when the process is killed, as the real ones do, and so does what it shares of a write-ahead
   log. */
#include "sqlite_vfs.h"

#include <errno.h>
#include <fcntl.h>
#include <sqlite3.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>

#include "base/base.h"
#include "disk.h"
#include "times.h"

enum { REGIONS_MAX = 16, PATH_CAP = 512, SECTOR_BYTES = 512, WRITE_WAITS_ONE_IN = 4 };
static const int64_t JULIAN_EPOCH_MS = INT64_C(210866760000000);       /* of 1970 */

struct database_locks {            /* of a node */
  size_t shared_n, users;          /* users: who have the shared memory open */
  const void *reserved, *pending, *exclusive;    /* by whom */
  const void *slot_exclusive[SQLITE_SHM_NLOCK];
  size_t slot_shared_n[SQLITE_SHM_NLOCK];
  void *regions[REGIONS_MAX];
};

struct open_database {             /* what the descriptor refers to */
  struct file file;
  struct node *node;
  int level;                       /* SQLITE_LOCK_... */
  bool shares;
  bool slot_shared[SQLITE_SHM_NLOCK];
};

struct database {                  /* SQLite's memory */
  sqlite3_file base;
  int fd;
  bool deleted;                    /* at its end */
  char path[PATH_CAP];
};

static struct database_locks *locks_of(struct node *n) {
  if (n->locks == NULL) n->locks = world_alloc(sizeof *n->locks);
  return n->locks;
}

/* Locks of the database */

static void lock_down(struct open_database *o, int level) {
  struct database_locks *l = locks_of(o->node);
  if (level < SQLITE_LOCK_RESERVED) {
    if (l->reserved == o) l->reserved = NULL;
    if (l->pending == o) l->pending = NULL;
    if (l->exclusive == o) l->exclusive = NULL;
  }
  if (level == SQLITE_LOCK_NONE && o->level > SQLITE_LOCK_NONE) l->shared_n--;
  if (level < o->level) o->level = level;
}

static bool is_others(const void *holder, const struct open_database *o) { return holder != NULL && holder != o; }

static int lock_up(struct open_database *o, int level) {
  struct database_locks *l = locks_of(o->node);
  if (o->level >= level) return SQLITE_OK;
  if (level == SQLITE_LOCK_SHARED) {
    if (is_others(l->pending, o) || is_others(l->exclusive, o)) return SQLITE_BUSY;
    l->shared_n++;
  } else {
    if (is_others(l->reserved, o) || is_others(l->pending, o)) return SQLITE_BUSY;
    l->reserved = o;
    if (level == SQLITE_LOCK_EXCLUSIVE) {
      l->pending = o;
      if (l->shared_n > 1) return SQLITE_BUSY;
      l->exclusive = o;
    }
  }
  o->level = level;
  return SQLITE_OK;
}

/* Shared memory of a write-ahead log: none is left when the last one has gone. */

static void share_end(struct open_database *o) {
  struct database_locks *l = locks_of(o->node);
  if (!o->shares) return;
  o->shares = false;
  for (int i = 0; i < SQLITE_SHM_NLOCK; i++) {
    if (l->slot_exclusive[i] == o) l->slot_exclusive[i] = NULL;
    l->slot_shared_n[i] -= o->slot_shared[i];
    o->slot_shared[i] = false;
  }
  if (--l->users > 0) return;
  for (int i = 0; i < REGIONS_MAX; i++) {
    world_free(l->regions[i]);
    l->regions[i] = NULL;
  }
}

static void *share_region(struct open_database *o, int i, size_t bytes) {
  struct database_locks *l = locks_of(o->node);
  ASSERT(i < REGIONS_MAX);
  if (!o->shares) l->users++;
  o->shares = true;
  if (l->regions[i] == NULL) l->regions[i] = world_alloc(bytes);
  return l->regions[i];
}

static bool slot_is_free(const struct database_locks *l, const struct open_database *o, int i, bool exclusive) {
  return !is_others(l->slot_exclusive[i], o) && !(exclusive && l->slot_shared_n[i] > o->slot_shared[i]);
}

static int slots_lock(struct open_database *o, int from, int n, bool exclusive) {
  struct database_locks *l = locks_of(o->node);
  for (int i = from; i < from + n; i++)
    if (!slot_is_free(l, o, i, exclusive)) return SQLITE_BUSY;
  for (int i = from; i < from + n; i++) {
    if (exclusive) l->slot_exclusive[i] = o;
    else if (!o->slot_shared[i]) l->slot_shared_n[i]++;
    if (!exclusive) o->slot_shared[i] = true;
  }
  return SQLITE_OK;
}

static int slots_unlock(struct open_database *o, int from, int n, bool exclusive) {
  struct database_locks *l = locks_of(o->node);
  for (int i = from; i < from + n; i++) {
    if (exclusive && l->slot_exclusive[i] == o) l->slot_exclusive[i] = NULL;
    if (!exclusive && o->slot_shared[i]) l->slot_shared_n[i]--;
    if (!exclusive) o->slot_shared[i] = false;
  }
  return SQLITE_OK;
}

/* The open file behind the descriptor */

static ssize_t refuse(struct file *f, const struct iovec *iov, int n) {
  (void)f, (void)iov, (void)n;
  return -EIO;
}

static uint32_t poll_nothing(struct file *f) {
  (void)f;
  return EPOLLIN | EPOLLOUT;
}

static void end(struct file *f) {
  struct open_database *o = CONTAINER_OF(f, struct open_database, file);
  lock_down(o, SQLITE_LOCK_NONE);
  share_end(o);
  node_unref(o->node);
  file_finish(f);
  world_free(o);
}

static const struct file_kind database_kind = {
    .name = "database", .mode = S_IFREG, .read = refuse, .write = refuse, .poll = poll_nothing, .end = end};

static struct open_database *open_of(sqlite3_file *f) {
  struct file *file = file_of(((struct database *)(void *)f)->fd);
  ASSERT(file != NULL && file->kind == &database_kind);
  return CONTAINER_OF(file, struct open_database, file);
}

/* SQLite's methods of a file */

static int on_close(sqlite3_file *f) {
  struct database *d = (void *)f;
  struct place at;
  if (d->deleted && disk_find(AT_FDCWD, d->path, &at) == 0) (void)disk_unlink(&at, false);
  (void)files_close(process_current()->files, d->fd);
  return SQLITE_OK;
}

static int on_read(sqlite3_file *f, void *out, int n, sqlite3_int64 offset) {
  ssize_t got = node_read(open_of(f)->node, out, (size_t)n, (uint64_t)offset);
  if (got < n) memset((char *)out + got, 0, (size_t)(n - got));
  return got < n ? SQLITE_IOERR_SHORT_READ : SQLITE_OK;
}

static int on_write(sqlite3_file *f, const void *from, int n, sqlite3_int64 offset) {
  task_step();
  if (world_chance(WRITE_WAITS_ONE_IN)) disk_settle();
  world_trace("database write", (uint64_t)n, (uint64_t)offset);
  (void)node_write(open_of(f)->node, from, (size_t)n, (uint64_t)offset);
  return SQLITE_OK;
}

static int on_truncate(sqlite3_file *f, sqlite3_int64 bytes) {
  node_truncate(open_of(f)->node, (uint64_t)bytes);
  return SQLITE_OK;
}

/* The folder as well, as SQLite does with a file that it has made. */
static int on_sync(sqlite3_file *f, int flags) {
  const struct database *d = (void *)f;
  struct place at;
  (void)flags;
  task_step();
  disk_settle();
  world_trace("database sync", open_of(f)->node->n, 0);
  node_sync(open_of(f)->node);
  if (disk_find(AT_FDCWD, d->path, &at) == 0) node_sync(at.folder);
  return SQLITE_OK;
}

static int on_size(sqlite3_file *f, sqlite3_int64 *out) {
  *out = (sqlite3_int64)open_of(f)->node->n;
  return SQLITE_OK;
}

static int on_lock(sqlite3_file *f, int level) {
  task_step();
  return lock_up(open_of(f), level);
}

static int on_unlock(sqlite3_file *f, int level) {
  lock_down(open_of(f), level);
  return SQLITE_OK;
}

static int on_check_reserved(sqlite3_file *f, int *out) {
  struct open_database *o = open_of(f);
  *out = locks_of(o->node)->reserved != NULL;
  return SQLITE_OK;
}

static int on_control(sqlite3_file *f, int what, void *arg) {
  (void)f, (void)what, (void)arg;
  return SQLITE_NOTFOUND;
}

static int on_sector_size(sqlite3_file *f) {
  (void)f;
  return SECTOR_BYTES;
}

static int on_characteristics(sqlite3_file *f) {
  (void)f;
  return 0;
}

static int on_shm_map(sqlite3_file *f, int i, int bytes, int make, void volatile **out) {
  struct open_database *o = open_of(f);
  bool there = i < REGIONS_MAX && locks_of(o->node)->regions[i] != NULL;
  *out = there || make ? share_region(o, i, (size_t)bytes) : NULL;
  return SQLITE_OK;
}

static int on_shm_lock(sqlite3_file *f, int from, int n, int flags) {
  struct open_database *o = open_of(f);
  bool exclusive = (flags & SQLITE_SHM_EXCLUSIVE) != 0;
  if ((flags & SQLITE_SHM_UNLOCK) != 0) return slots_unlock(o, from, n, exclusive);
  task_step();
  return slots_lock(o, from, n, exclusive);
}

static void on_shm_barrier(sqlite3_file *f) { (void)f; }

static int on_shm_unmap(sqlite3_file *f, int deleted) {
  (void)deleted;
  share_end(open_of(f));
  return SQLITE_OK;
}

static const sqlite3_io_methods methods = {
    .iVersion = 2, .xClose = on_close, .xRead = on_read, .xWrite = on_write, .xTruncate = on_truncate,
    .xSync = on_sync, .xFileSize = on_size, .xLock = on_lock, .xUnlock = on_unlock,
    .xCheckReservedLock = on_check_reserved, .xFileControl = on_control, .xSectorSize = on_sector_size,
    .xDeviceCharacteristics = on_characteristics, .xShmMap = on_shm_map, .xShmLock = on_shm_lock,
    .xShmBarrier = on_shm_barrier, .xShmUnmap = on_shm_unmap};

/* SQLite's methods of a file system */

static int fs_open(sqlite3_vfs *v, const char *path, sqlite3_file *f, int flags, int *flags_out) {
  struct database *d = (void *)f;
  struct place at;
  (void)v;
  *d = (struct database){.deleted = (flags & SQLITE_OPEN_DELETEONCLOSE) != 0};
  if (path == NULL) (void)snprintf(d->path, sizeof d->path, "/sqlite-%016llx", (unsigned long long)world_random());
  else (void)snprintf(d->path, sizeof d->path, "%s", path);
  if (disk_find(AT_FDCWD, d->path, &at) != 0) return SQLITE_CANTOPEN;
  if (at.node == NULL && (flags & SQLITE_OPEN_CREATE) == 0) return SQLITE_CANTOPEN;
  struct open_database *o = world_alloc(sizeof *o);
  o->node = node_ref(at.node != NULL ? at.node : node_make(&at, S_IFREG | 0600));
  file_begin(&o->file, &database_kind, O_RDWR);
  d->fd = files_install(process_current()->files, &o->file, 0);
  if (d->fd < 0) return SQLITE_CANTOPEN;
  d->base.pMethods = &methods;
  if (flags_out != NULL) *flags_out = flags;
  return SQLITE_OK;
}

static int fs_delete(sqlite3_vfs *v, const char *path, int sync_folder) {
  struct place at;
  (void)v;
  task_step();
  world_trace("database file removed", 0, 0);
  if (disk_find(AT_FDCWD, path, &at) != 0 || at.node == NULL) return SQLITE_IOERR_DELETE_NOENT;
  if (disk_unlink(&at, false) != 0) return SQLITE_IOERR_DELETE;
  if (sync_folder) node_sync(at.folder);
  return SQLITE_OK;
}

static int fs_access(sqlite3_vfs *v, const char *path, int what, int *out) {
  struct place at;
  (void)v;
  bool there = disk_find(AT_FDCWD, path, &at) == 0 && at.node != NULL;
  *out = there && (what != SQLITE_ACCESS_EXISTS || at.node->n > 0);
  return SQLITE_OK;
}

static int fs_full_path(sqlite3_vfs *v, const char *path, int cap, char *out) {
  (void)v;
  return snprintf(out, (size_t)cap, "%s%s", path[0] == '/' ? "" : "/", path) < cap ? SQLITE_OK : SQLITE_CANTOPEN;
}

static int fs_random(sqlite3_vfs *v, int n, char *out) {
  (void)v;
  world_random_bytes(out, (size_t)n);
  return n;
}

static int fs_sleep(sqlite3_vfs *v, int us) {
  (void)v;
  uint64_t until_ns = world_now_ns() + (uint64_t)us * WORLD_NS_PER_US;
  while (task_sleep(until_ns)) continue;
  return us;
}

static int fs_time(sqlite3_vfs *v, sqlite3_int64 *out) {
  struct timespec now;
  (void)v;
  (void)clock_gettime(CLOCK_REALTIME, &now);
  *out = JULIAN_EPOCH_MS + now.tv_sec * INT64_C(1000) + now.tv_nsec / (int64_t)WORLD_NS_PER_MS;
  return SQLITE_OK;
}

static int fs_error(sqlite3_vfs *v, int cap, char *out) {
  (void)v, (void)cap, (void)out;
  return 0;
}

void sqlite_vfs_install(void) {
  static sqlite3_vfs vfs = {.iVersion = 2, .szOsFile = sizeof(struct database), .mxPathname = PATH_CAP - 1,
                            .zName = "world", .xOpen = fs_open, .xDelete = fs_delete, .xAccess = fs_access,
                            .xFullPathname = fs_full_path, .xRandomness = fs_random, .xSleep = fs_sleep,
                            .xCurrentTimeInt64 = fs_time, .xGetLastError = fs_error};
  ASSERT(sqlite3_initialize() == SQLITE_OK && sqlite3_vfs_register(&vfs, 1) == SQLITE_OK);
}
