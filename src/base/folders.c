/* See folders.h. One that is there is fine, also where none could be made: on a file system that is read-only, say. */
#include "base/folders.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static bool is_there(const char *path, int error) {
  return error == EEXIST || error == EISDIR || (error == EROFS && access(path, F_OK) == 0);
}

/* A name is durable when the folder that it stands in is. Where that cannot be read, or knows no such thing, nothing
   more can be done. */
static int sync_parent(char *path) {
  char *slash = strrchr(path, '/'), was = '\0';
  char *end = slash == path ? path + 1 : slash;
  if (end != NULL) {
    was = *end;
    *end = '\0';
  }
  int fd = open(slash != NULL ? path : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (end != NULL) *end = was;
  if (fd < 0) return 0;
  int error = fsync(fd) == 0 || errno != EIO ? 0 : errno;
  close(fd);
  return error;
}

int folders_make(char *path) {
  for (char *at = path + 1;; at++) {
    char was = *at;
    if (was != '/' && was != '\0') continue;
    *at = '\0';
    int error = mkdir(path, 0700) == 0 ? 0 : errno;
    if (error != 0 && !is_there(path, error)) return error;
    /* The last one also if it is there: who made it may have ended before it was durable. */
    if ((error == 0 || was == '\0') && (error = sync_parent(path)) != 0) return error;
    *at = was;
    if (was == '\0') return 0;
  }
}
