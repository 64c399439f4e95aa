/* The file of --keep: the ticket that brings a restarted agent its address back. */
#ifndef AGENT_TICKET_FILE_H
#define AGENT_TICKET_FILE_H

#include "base/err.h"
#include "base/limits.h"
#include "wire/ticket.h"

struct ticket_file {
  char relay[HOST_NAME_MAX_CHARS + 1];
  char host[HOST_NAME_MAX_CHARS + 1];          /* the address it stands for; for people */
  uint32_t incarnation;
  uint8_t ticket[TICKET_MAX_BYTES];
  size_t ticket_n;
};
/* Text to struct and back; no I/O. */
int ticket_file_decode(const char *text, size_t n, struct ticket_file *f, struct err *e) MUST_USE;
int ticket_file_encode(const struct ticket_file *f, char *out, size_t cap, size_t *n) MUST_USE;
/* *found is false when there is no such file, or an empty one. */
int ticket_file_read(const char *path, struct ticket_file *f, bool *found, struct err *e) MUST_USE;
/* Whether a file could be written there; leaves nothing behind. */
int ticket_file_probe(const char *path, struct err *e) MUST_USE;
/* Gives the file, if there is one, a second name that no write replaces: path.old, or path.old.2 and so on. *to is that
   name, malloced, or NULL when there was nothing. ERR_LIMIT: all these names are taken. */
int ticket_file_set_aside(const char *path, char **to, struct err *e) MUST_USE;
/* All or nothing, on disk when it returns, mode 0600. */
int ticket_file_write(const char *path, const struct ticket_file *f, struct err *e) MUST_USE;
/* The same, but what is there stays if *given_up is true by the time that the new file is on disk; NULL: it is not. */
int ticket_file_write_unless(const _Atomic bool *given_up, const char *path, const struct ticket_file *f,
                             struct err *e) MUST_USE;

#endif
