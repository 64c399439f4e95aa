/* The file of an agent that moves. It comes from a program of another version, perhaps: lengths are bounded before
   anything is allocated. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agent/move.h"
#include "base/cursor.h"
#include "base/secret.h"

enum { MAGIC = 0x6164666f, HEAD_BYTES = 12, PARCEL_HEAD_BYTES = 8, PARCEL_HEAD_MAX_BYTES = 8 + 4 * PARCEL_FDS_MAX };

/* By offset: the file may be read by somebody else meanwhile. */
static int write_at(int file, off_t *at, const void *bytes, size_t n) {
  for (size_t done = 0; done < n;) {
    ssize_t wrote = pwrite(file, (const uint8_t *)bytes + done, n - done, *at);
    if (wrote < 0 && errno == EINTR) continue;
    if (wrote <= 0) return ERR_IO;
    done += (size_t)wrote;
    *at += wrote;
  }
  return 0;
}

/* ERR_SYNTAX: it ends before. */
static int read_at(int file, off_t *at, void *to, size_t n) {
  for (size_t done = 0; done < n;) {
    ssize_t got = pread(file, (uint8_t *)to + done, n - done, *at);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return got < 0 ? ERR_IO : ERR_SYNTAX;
    done += (size_t)got;
    *at += got;
  }
  return 0;
}

static int write_parcel(int file, off_t *at, const struct parcel *p) {
  uint8_t head[PARCEL_HEAD_MAX_BYTES];
  struct writer w = writer_of(head, sizeof head);
  write_u16(&w, (uint16_t)p->kind);
  write_u8(&w, (uint8_t)p->fds_n);
  write_u8(&w, 0);
  write_u32(&w, (uint32_t)p->state.len);
  for (size_t i = 0; i < p->fds_n; i++) write_u32(&w, (uint32_t)p->fds[i]);
  int rc = write_at(file, at, head, w.len);
  return rc == 0 ? write_at(file, at, buf_data(&p->state), p->state.len) : rc;
}

int move_write(int file, const struct list *parcels, struct err *e) {
  uint8_t head[HEAD_BYTES];
  struct writer w = writer_of(head, sizeof head);
  uint32_t n = 0;
  off_t at = 0;
  LIST_FOREACH((struct list *)(uintptr_t)parcels, it) n++;
  write_u32(&w, MAGIC);
  write_u16(&w, MOVE_FORMAT);
  write_u16(&w, 0);
  write_u32(&w, n);
  int rc = n > MOVE_PARCELS_MAX ? ERR_LIMIT : write_at(file, &at, head, w.len);
  LIST_FOREACH((struct list *)(uintptr_t)parcels, it)
    if (rc == 0) rc = write_parcel(file, &at, CONTAINER_OF(it, struct parcel, node));
  return rc == 0 ? 0 : err_set(e, rc, "the agent's state could not be written (is memory short?)");
}

/* ---- reading ---- */

static int stand_in(void) {
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) != 0) return -1;
  close(ends[1]);
  return ends[0];
}

/* Of the process's own: each is in one parcel. */
static int take_descriptor(uint32_t number) {
  if (number <= STDERR_FILENO || number > INT32_MAX) return -1;
  return fcntl((int)number, F_SETFD, FD_CLOEXEC) == 0 ? (int)number : -1;
}

static int read_descriptors(int file, off_t *at, struct parcel *p, size_t n, bool stand_ins) {
  uint8_t numbers[4 * PARCEL_FDS_MAX] = {0};
  int rc = read_at(file, at, numbers, 4 * n);
  struct reader r = reader_of(numbers, sizeof numbers);
  for (size_t i = 0; rc == 0 && i < n; i++) {
    uint32_t number = read_u32(&r);
    p->fds[i] = stand_ins ? stand_in() : take_descriptor(number);
    if (p->fds[i] < 0) return stand_ins ? ERR_LIMIT : ERR_SYNTAX;
    p->fds_n++;
  }
  return rc;
}

static int read_body(int file, off_t *at, struct parcel *p, size_t n) {
  uint8_t *to = buf_reserve(&p->state, n);
  if (to == NULL) return ERR_NOMEM;
  int rc = read_at(file, at, to, n);
  if (rc == 0) buf_added(&p->state, n);
  return rc;
}

static int read_parcel(int file, off_t *at, bool stand_ins, struct list *to) {
  uint8_t head[PARCEL_HEAD_BYTES] = {0};
  struct reader r = reader_of(head, sizeof head);
  int rc = read_at(file, at, head, sizeof head);
  if (rc != 0) return rc;
  unsigned kind = read_u16(&r);
  size_t fds_n = read_u8(&r), reserved = read_u8(&r), n = read_u32(&r);
  if (kind == 0 || kind >= MOVE_KINDS || fds_n > PARCEL_FDS_MAX || reserved != 0 || n > PARCEL_MAX_BYTES)
    return ERR_SYNTAX;
  struct parcel *p = parcel_new(kind);
  if (p == NULL) return ERR_NOMEM;
  rc = read_descriptors(file, at, p, fds_n, stand_ins);
  if (rc == 0) rc = read_body(file, at, p, n);
  if (rc == 0) list_push_tail(to, &p->node);
  else parcel_free(p);
  return rc;
}

int move_read(int file, struct list *parcels, bool stand_ins, struct err *e) {
  uint8_t head[HEAD_BYTES] = {0};
  struct reader r = reader_of(head, sizeof head);
  off_t at = 0;
  int rc = read_at(file, &at, head, sizeof head);
  bool known = rc == 0 && read_u32(&r) == MAGIC && read_u16(&r) == MOVE_FORMAT && read_u16(&r) == 0;
  uint32_t n = read_u32(&r);
  if (rc == 0 && (!known || n > MOVE_PARCELS_MAX)) rc = ERR_SYNTAX;
  for (uint32_t i = 0; rc == 0 && i < n; i++) rc = read_parcel(file, &at, stand_ins, parcels);
  if (rc == 0) return 0;
  parcels_free(parcels);
  return err_set(e, rc, "the agent's state cannot be read: %s", err_name(rc));
}
