/* The kept ticket. Its format, a line each, in this order:

     adit ticket 1
     relay r1.example.com
     host 7h4m...k2.r1.example.com
     incarnation 3
     ticket <base64url>

   A ticket lost is an address lost, so a file that we do not understand is never overwritten, and a write replaces the
   old file only when the new one is whole and on disk. */
#include "agent/ticket_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/addr.h"
#include "base/secret.h"
#include "base/text.h"

static int ticket_file_fail(struct err *e, const char *path, const char *what) {
  return err_set_errno_remedy(e, "give a file in a folder that you may write to", "keep file %.200s%s", path, what);
}

/* Takes the line `key value\n` from the front of *at. */
static int take_line(const char **at, const char *end, const char *key, char *value, size_t cap) {
  size_t key_n = strlen(key);
  const char *newline = memchr(*at, '\n', (size_t)(end - *at));
  if (newline == NULL || (size_t)(newline - *at) <= key_n) return ERR_SYNTAX;
  if (memcmp(*at, key, key_n) != 0 || (*at)[key_n] != ' ') return ERR_SYNTAX;
  const char *from = *at + key_n + 1;
  size_t n = (size_t)(newline - from);
  if (n == 0 || n >= cap || memchr(from, '\0', n) != NULL) return ERR_SYNTAX;
  memcpy(value, from, n);
  value[n] = '\0';
  *at = newline + 1;
  return 0;
}

static int decode_lines(const char *at, const char *end, struct ticket_file *f) {
  char text[TICKET_MAX_BYTES * 4 / 3 + 8], number[16];
  uint64_t incarnation;
  if (take_line(&at, end, "adit", number, sizeof number) != 0 || strcmp(number, "ticket 1") != 0) return ERR_SYNTAX;
  if (take_line(&at, end, "relay", f->relay, sizeof f->relay) != 0) return ERR_SYNTAX;
  if (!host_name_is_valid(f->relay) && !host_is_ip(f->relay)) return ERR_SYNTAX;
  if (take_line(&at, end, "host", f->host, sizeof f->host) != 0 || !host_name_is_valid(f->host)) return ERR_SYNTAX;
  if (take_line(&at, end, "incarnation", number, sizeof number) != 0) return ERR_SYNTAX;
  if (text_to_u64(number, UINT32_MAX - 1, &incarnation) != 0) return ERR_SYNTAX;
  if (take_line(&at, end, "ticket", text, sizeof text) != 0 || at != end) return ERR_SYNTAX;
  if (base64url_decode(text, strlen(text), f->ticket, sizeof f->ticket, &f->ticket_n) != 0) return ERR_SYNTAX;
  f->incarnation = (uint32_t)incarnation;
  return f->ticket_n == 0 ? ERR_SYNTAX : 0;
}

int ticket_file_decode(const char *text, size_t n, struct ticket_file *f, struct err *e) {
  memset(f, 0, sizeof *f);
  if (n <= TICKET_FILE_MAX_BYTES && decode_lines(text, text + n, f) == 0) return 0;
  return err_set(e, ERR_SYNTAX, "not a ticket file of adit (give another file, or delete it for a new address)");
}

int ticket_file_encode(const struct ticket_file *f, char *out, size_t cap, size_t *n) {
  char text[TICKET_MAX_BYTES * 4 / 3 + 8];
  if (f->ticket_n > sizeof f->ticket) return ERR_LIMIT;
  base64url_encode(f->ticket, f->ticket_n, text);
  int r = snprintf(out, cap, "adit ticket 1\nrelay %s\nhost %s\nincarnation %u\nticket %s\n", f->relay, f->host,
                   f->incarnation, text);
  if (r < 0 || (size_t)r >= cap) return ERR_LIMIT;
  *n = (size_t)r;
  return 0;
}

int ticket_file_read(const char *path, struct ticket_file *f, bool *found, struct err *e) {
  *found = false;
  int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
  if (fd < 0 && errno == ENOENT) return 0;
  if (fd < 0) return ticket_file_fail(e, path, "");
  struct stat st;
  char *text = malloc(TICKET_FILE_MAX_BYTES + 1);
  int r = ERR_NOMEM;
  if (text == NULL) {
    err_set(e, r, "keep file %s: out of memory", path);
    goto out;
  }
  if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) {   /* a write would replace it: /dev/null, say */
    r = err_set(e, ERR_IO, "keep file %.200s: it is not a regular file (give another)", path);
    goto out;
  }
  size_t n = 0;
  ssize_t got = 0;
  while (n <= TICKET_FILE_MAX_BYTES && (got = read(fd, text + n, TICKET_FILE_MAX_BYTES + 1 - n)) > 0) n += (size_t)got;
  if (got < 0) {
    r = ticket_file_fail(e, path, "");
    goto out;
  }
  r = 0;
  if (n == 0) goto out;
  r = ticket_file_decode(text, n, f, e);
  if (r != 0) err_prefix(e, "keep file %s", path);
  *found = r == 0;
out:
  if (text != NULL) wipe(text, TICKET_FILE_MAX_BYTES + 1);
  free(text);
  close(fd);
  return r;
}

static int write_all(int fd, const char *p, size_t n) {
  while (n > 0) {
    ssize_t w = write(fd, p, n);
    if (w < 0 && errno == EINTR) continue;
    if (w < 0) return -1;
    p += w;
    n -= (size_t)w;
  }
  return fsync(fd);
}

/* The rename itself is on disk once the folder is. */
static void sync_folder(const char *path) {
  char *folder = strdup(path);
  if (folder == NULL) return;
  char *slash = strrchr(folder, '/');
  if (slash != NULL) slash[slash == folder ? 1 : 0] = '\0';
  int fd = open(slash != NULL ? folder : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd >= 0) {
    (void)fsync(fd);
    close(fd);
  }
  free(folder);
}

int ticket_file_probe(const char *path, struct err *e) {
  char *temp = NULL;
  if (asprintf(&temp, "%s.XXXXXX", path) < 0) return err_set(e, ERR_NOMEM, "keep file %s: out of memory", path);
  int r = 0, fd = mkostemp(temp, O_CLOEXEC);
  if (fd < 0) {
    r = ticket_file_fail(e, path, ": cannot be written");
  } else {
    unlink(temp);
    close(fd);
  }
  free(temp);
  return r;
}

int ticket_file_set_aside(const char *path, char **to, struct err *e) {
  *to = NULL;
  for (int i = 1; i <= TICKET_FILES_OLD_MAX; i++) {
    char number[16] = "", *old = NULL;
    if (i > 1) snprintf(number, sizeof number, ".%d", i);
    if (asprintf(&old, "%s.old%s", path, number) < 0) return err_set(e, ERR_NOMEM, "keep file %s: out of memory", path);
    if (link(path, old) == 0) {
      *to = old;
      return 0;
    }
    free(old);
    if (errno == ENOENT) return 0;
    if (errno != EEXIST) return ticket_file_fail(e, path, ": its old ticket cannot be set aside");
  }
  return err_set(e, ERR_LIMIT,
                 "keep file %s: its old ticket cannot be set aside: %d are already (delete the .old files that you do "
                 "not want back)",
                 path, TICKET_FILES_OLD_MAX);
}

int ticket_file_write_unless(const _Atomic bool *given_up, const char *path, const struct ticket_file *f,
                             struct err *e) {
  char text[TICKET_FILE_MAX_BYTES], *temp = NULL;
  size_t n;
  if (ticket_file_encode(f, text, sizeof text, &n) != 0)
    return err_set(e, ERR_LIMIT, "keep file %s: the ticket is too large", path);
  if (asprintf(&temp, "%s.XXXXXX", path) < 0) return err_set(e, ERR_NOMEM, "keep file %s: out of memory", path);
  int r = 0, fd = mkostemp(temp, O_CLOEXEC);    /* mode 0600 */
  if (fd < 0) {
    r = ticket_file_fail(e, path, ": cannot be written");
    goto out;
  }
  int failed = write_all(fd, text, n);
  int write_errno = errno;
  if (close(fd) != 0 && failed == 0) {
    failed = -1;
    write_errno = errno;
  }
  if (failed == 0 && given_up != NULL && *given_up) {   /* there may be a newer one by now */
    unlink(temp);
    goto out;
  }
  if (failed == 0 && (failed = rename(temp, path)) != 0) write_errno = errno;
  if (failed != 0) {
    unlink(temp);
    errno = write_errno;
    r = ticket_file_fail(e, path, ": cannot be written");
    goto out;
  }
  sync_folder(path);
out:
  wipe(text, sizeof text);
  free(temp);
  return r;
}

int ticket_file_write(const char *path, const struct ticket_file *f, struct err *e) {
  return ticket_file_write_unless(NULL, path, f, e);
}
