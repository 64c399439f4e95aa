/* See the header. */
#include "base/own_program.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static bool is_this_program(const char *path) {
  struct stat named, own;
  return stat(path, &named) == 0 && stat("/proc/self/exe", &own) == 0 && named.st_dev == own.st_dev &&
         named.st_ino == own.st_ino;
}

void own_program_find(const char *name, char *out, size_t cap) {
  const char *path = getenv("PATH");
  if (strchr(name, '/') != NULL) {
    (void)snprintf(out, cap, "%s", name);
    if (is_this_program(out)) return;
  }
  while (strchr(name, '/') == NULL && path != NULL && path[0] != '\0') {
    size_t n = strcspn(path, ":");
    (void)snprintf(out, cap, "%.*s/%s", (int)n, path, name);
    if (is_this_program(out)) return;
    path += n + (path[n] == ':');
  }
  ssize_t n = readlink("/proc/self/exe", out, cap - 1);
  out[n > 0 ? n : 0] = '\0';
}
