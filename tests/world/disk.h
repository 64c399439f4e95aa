/* A host's disk: a tree of files in memory. What a process wrote survives it; a power cut takes what was not synced.
   Results are 0 or more, or -errno. Paths are absolute or, as the folder of every process is the root, from there;
   /proc/self/fd/N is a folder that the current process has open. */
#ifndef WORLD_DISK_H
#define WORLD_DISK_H

#include <sys/stat.h>
#include <sys/types.h>

#include "kernel.h"

enum { DISK_NAME_CAP = 256, DISK_USER = 1000 };

struct disk *disk_new(void);
void disk_cut_power(struct disk *d);       /* by seed, file by file: what was not synced is there, or is not */

struct node {                      /* a file, a folder, or the name of a Unix socket */
  mode_t mode;
  uint64_t inode, links, refs;     /* refs: of names, now and as synced, and of open files */
  int64_t changed_s;
  char *bytes, *synced;            /* of a file */
  size_t n, cap, synced_n;
  struct list names, synced_names; /* of a folder: struct disk_name */
  bool dirty;
  const struct file *locked_by;    /* flock(LOCK_EX) */
  size_t shared_n;                 /* flock(LOCK_SH) */
  struct database_locks *locks;    /* sqlite_vfs.c; NULL: none yet */
};

struct disk_name {
  struct list of_folder;
  struct node *node;
  char name[DISK_NAME_CAP];
};

/* Where a path leads: node is NULL if there is nothing of that name in the folder. */
struct place {
  struct node *folder, *node;
  char name[DISK_NAME_CAP];
};
int disk_find(int folder_fd, const char *path, struct place *out);

struct node *node_make(const struct place *at, mode_t mode);         /* nothing is there */
struct node *node_ref(struct node *n);
void node_unref(struct node *n);
ssize_t node_read(const struct node *n, void *out, size_t bytes, uint64_t offset);
ssize_t node_write(struct node *n, const void *from, size_t bytes, uint64_t offset);
void node_truncate(struct node *n, uint64_t bytes);
void node_sync(struct node *n);
void disk_settle(void);            /* waits for as long as a disk that is busy takes (weather) */
void node_stat(const struct node *n, struct stat *out);

int disk_link(struct node *n, const struct place *at);               /* a name for it, which may be another's */
int disk_unlink(const struct place *at, bool folder);
int disk_rename(const struct place *from, const struct place *to);

/* Open files. */
struct disk_file {
  struct file file;
  struct node *node;
  uint64_t offset;
  int locked;                      /* LOCK_SH, LOCK_EX; 0: not */
};
extern const struct file_kind disk_kind, disk_folder_kind;
int disk_open(int folder_fd, const char *path, int flags, mode_t mode);      /* a descriptor of the current process */
struct disk_file *disk_file_of(int fd);    /* NULL: it is none */
int disk_lock(struct disk_file *f, int operation);                   /* flock */

/* The name of a Unix socket, at bind and at connect. */
int disk_socket_make(const char *path, uint64_t inode);
int disk_socket_find(const char *path, uint64_t *inode);

#endif
