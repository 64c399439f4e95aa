/* See folders.h. One that is there is fine, also where none could be made: on a file system that is read-only, say. */
#include "base/folders.h"

#include <errno.h>
#include <sys/stat.h>
#include <unistd.h>

static bool is_there(const char *path, int error) {
  return error == EEXIST || error == EISDIR || (error == EROFS && access(path, F_OK) == 0);
}

int folders_make(char *path) {
  for (char *at = path + 1;; at++) {
    char was = *at;
    if (was != '/' && was != '\0') continue;
    *at = '\0';
    int error = mkdir(path, 0700) == 0 ? 0 : errno;
    if (error != 0 && !is_there(path, error)) return error;
    *at = was;
    if (was == '\0') return 0;
  }
}
