/* Small files of a state folder: read whole and bounded, and replaced at once: a crash or another process sees the old
   or the new one, never a part. Writers hold the folder's lock. */
#ifndef RELAY_KEY_FILE_H
#define RELAY_KEY_FILE_H

#include "base/err.h"

struct folder {
  int fd;
  char *path;                      /* for messages */
  unsigned uid, gid;               /* its owner: what root makes in it belongs to that user, too */
};

/* Makes what is missing of path (0700) and checks that the folder is ours and only ours to write. */
int folder_open(const char *path, struct folder *f, struct err *e) MUST_USE;
void folder_close(struct folder *f);
/* One process or thread at a time; waits at most STATE_BUSY_MS. Returns a descriptor for folder_unlock. */
int folder_lock(const struct folder *f, struct err *e) MUST_USE;
/* The lock that a relay holds while it serves from the folder; ERR_CONFLICT: another one does. */
int folder_lock_relay(const struct folder *f, struct err *e) MUST_USE;
bool folder_is_relay_lock(const struct folder *f, int fd);       /* whether that is the file of this folder's */
void folder_unlock(int lock);
bool folder_is_locked_by_relay(const struct folder *f);  /* this process's own lock counts, too */
/* Gives a new file to the folder's owner, when we are root. */
int folder_adopt(const struct folder *f, int fd, const char *name, struct err *e) MUST_USE;

/* Reads all into out, NUL-terminated. ERR_NOT_NOW: not there (e untouched); ERR_AUTH: a secret that others may read.
   The last line of a secret's file is a checksum, which is made, checked and taken off here; of times before that there
   are files without. */
int key_file_read(const struct folder *f, const char *name, bool secret, char *out, size_t cap, size_t *n,
                  struct err *e) MUST_USE;
int key_file_write(const struct folder *f, const char *name, bool secret, const char *text, size_t n,
                   struct err *e) MUST_USE;
/* Gives a secret's file its checksum if it has none yet. */
int key_file_seal(const struct folder *f, const char *name, struct err *e) MUST_USE;
/* Renames name to name.YYYYMMDD-HHMMSS, never over another; fine when there is no such file. */
int key_file_set_aside(const struct folder *f, const char *name, int64_t now_s, struct err *e) MUST_USE;

#endif
