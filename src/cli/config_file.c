/* See the header. */
#include "cli/config_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/secret.h"

int config_read(const char *path, size_t max, char **text, size_t *n, struct err *e) {
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return err_set_errno_remedy(e, "check the path, and who may read it", "%s", path);
  int code = 0;
  size_t len = 0;
  char *base = malloc(max + 2);
  if (base == NULL) {
    code = err_set(e, ERR_NOMEM, "%s: out of memory", path);
    goto out;
  }
  for (;;) {
    ssize_t got = read(fd, base + len, max + 1 - len);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) {
      code = err_set(e, ERR_IO, "%s: %s (is it a file?)", path, strerror(errno));
      goto out;
    }
    if (got == 0) break;
    len += (size_t)got;
    if (len > max) {
      code = err_set(e, ERR_LIMIT, "%s: longer than %zu bytes (is it the right file?)", path, max);
      goto out;
    }
  }
  base[len] = 0;
  *text = base;
  *n = len;
  base = NULL;
out:
  if (base != NULL) wipe(base, len);
  free(base);
  close(fd);
  return code;
}
