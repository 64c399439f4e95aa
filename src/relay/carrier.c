/* See the header. The descriptors of a frame come with its first byte. */
#include "relay/carrier.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/cursor.h"
#include "base/err.h"
#include "base/limits.h"
#include "base/secret.h"
#include "relay/totals.h"

static const struct {
  uint32_t bytes_max;
  uint8_t fds_min, fds_max;
} rules[CARRIER_KINDS] = {
    [CARRIER_HELLO] = {CARRIER_WHOLE_BYTES, 0, 0},
    [CARRIER_REFUSED] = {CARRIER_WHOLE_BYTES, 0, 0},
    [CARRIER_WELCOME] = {CARRIER_WHOLE_BYTES, 1, 1},
    [CARRIER_LISTENER] = {CARRIER_WHOLE_BYTES, 1, 1},
    [CARRIER_COMMIT] = {CARRIER_WHOLE_BYTES, 0, 0},
    [CARRIER_LINK] = {PARCEL_MAX_BYTES, 1, 1},
    [CARRIER_WARM] = {PARCEL_MAX_BYTES, 1, 1},
    [CARRIER_RAW] = {PARCEL_MAX_BYTES, 1, 2},
    [CARRIER_VISITOR] = {PARCEL_MAX_BYTES, 1, 1},
    [CARRIER_STRAY] = {PARCEL_MAX_BYTES, 1, 1},
    [CARRIER_STREAM] = {PARCEL_MAX_BYTES, 2, 2},
    [CARRIER_TOTALS] = {TOTALS_EXPORT_MAX_BYTES, 0, 0},
    [CARRIER_TAKEN] = {CARRIER_WHOLE_BYTES, 0, 0},
};

int carrier_header_decode(const uint8_t bytes[CARRIER_HEADER_BYTES], struct carrier_header *out) {
  struct reader r = reader_of(bytes, CARRIER_HEADER_BYTES);
  unsigned kind = read_u16(&r);
  uint8_t fds_n = read_u8(&r), reserved = read_u8(&r);
  uint32_t n = read_u32(&r);
  if (kind == 0 || kind >= CARRIER_KINDS || reserved != 0 || n > rules[kind].bytes_max ||
      fds_n < rules[kind].fds_min || fds_n > rules[kind].fds_max)
    return ERR_SYNTAX;
  *out = (struct carrier_header){.kind = (enum carrier_kind)kind, .fds_n = fds_n, .bytes = n};
  return 0;
}

void carrier_frame_free(struct carrier_frame *f) {
  for (size_t i = 0; i < f->header.fds_n; i++) {
    if (f->fds[i] >= 0) close(f->fds[i]);
  }
  if (f->body != NULL) wipe(f->body, f->header.bytes);
  free(f->body);
  memset(f, 0, sizeof *f);
}

void carrier_init(struct carrier *c, int fd) {
  memset(c, 0, sizeof *c);
  c->fd = fd;
}

void carrier_close(struct carrier *c) {
  carrier_frame_free(&c->frame);
  if (c->fd >= 0) close(c->fd);
  c->fd = -1;
}

int carrier_pair(int fds[2]) {
  const struct timeval limit = {.tv_sec = UPGRADE_STEP_MS / 1000, .tv_usec = UPGRADE_STEP_MS % 1000 * 1000};
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) != 0) return ERR_IO;
  for (int i = 0; i < 2; i++) (void)setsockopt(fds[i], SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
  return 0;
}

/* CMSG_SPACE rounds up, so for an odd number the kernel would bring one more than there is room for. */
_Static_assert(CARRIER_FDS_MAX % 2 == 0, "a control message has room for an even number of descriptors");

/* Sending */

union control {
  struct cmsghdr header;
  char bytes[CMSG_SPACE(CARRIER_FDS_MAX * sizeof(int))];
};

static void attach(struct msghdr *m, union control *control, const int *fds, size_t n) {
  if (n == 0) return;
  memset(control, 0, sizeof *control);
  m->msg_control = control->bytes;
  m->msg_controllen = CMSG_SPACE(n * sizeof(int));
  *CMSG_FIRSTHDR(m) =
      (struct cmsghdr){.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(n * sizeof(int))};
  memcpy(CMSG_DATA(CMSG_FIRSTHDR(m)), fds, n * sizeof(int));
}

/* From p on, until all has left; the descriptors with the first byte. */
static int send_all(int fd, uint8_t *p, size_t n, const int *fds, size_t fds_n) {
  union control control;
  for (size_t done = 0; done < n;) {
    struct iovec iov = {.iov_base = p + done, .iov_len = n - done};
    struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};
    attach(&m, &control, fds, done == 0 ? fds_n : 0);
    ssize_t sent = sendmsg(fd, &m, MSG_NOSIGNAL);
    if (sent < 0 && errno == EINTR) continue;
    if (sent <= 0) return ERR_CLOSED;
    done += (size_t)sent;
  }
  return 0;
}

int carrier_send(int fd, enum carrier_kind kind, const void *body, size_t n, const int *fds, size_t fds_n) {
  uint8_t piece[CARRIER_HEADER_BYTES + CARRIER_WHOLE_BYTES];
  struct reader left = reader_of(body, n);
  int rc = 0;
  ASSERT(n <= rules[kind].bytes_max && fds_n >= rules[kind].fds_min && fds_n <= rules[kind].fds_max);
  for (bool first = true; rc == 0 && (first || left.left > 0); first = false) {
    struct writer w = writer_of(piece, sizeof piece);
    if (first) {
      write_u16(&w, (uint16_t)kind);
      write_u8(&w, (uint8_t)fds_n);
      write_u8(&w, 0);
      write_u32(&w, (uint32_t)n);
    }
    size_t some = size_min(left.left, CARRIER_WHOLE_BYTES);
    write_bytes(&w, read_bytes(&left, some), some);
    rc = send_all(fd, piece, w.len, fds, first ? fds_n : 0);
  }
  wipe(piece, sizeof piece);
  return rc;
}

/* Receiving */

static int wait_readable(int fd, uint64_t until_ms) {
  for (;;) {
    uint64_t now_ms = clock_ms();
    struct pollfd p = {.fd = fd, .events = POLLIN};
    int n = poll(&p, 1, until_ms > now_ms ? (int)(until_ms - now_ms) : 0);
    if (n > 0) return 0;
    if (n == 0) return ERR_TIMEOUT;
    if (errno != EINTR) return ERR_IO;
  }
}

/* Those that no frame may bring are closed, too. */
static int keep_descriptors(struct carrier *c, struct msghdr *m) {
  const struct cmsghdr *h = CMSG_FIRSTHDR(m);
  int fds[CARRIER_FDS_MAX];
  if (h == NULL || h->cmsg_level != SOL_SOCKET || h->cmsg_type != SCM_RIGHTS) return 0;
  size_t n = (h->cmsg_len - CMSG_LEN(0)) / sizeof(int);
  memcpy(fds, CMSG_DATA(h), n * sizeof(int));
  bool fits = c->header_n == 0 && c->frame.header.fds_n == 0 && (m->msg_flags & MSG_CTRUNC) == 0;
  for (size_t i = 0; i < n && !fits; i++) close(fds[i]);
  if (!fits) return ERR_SYNTAX;
  memcpy(c->frame.fds, fds, n * sizeof(int));
  c->frame.header.fds_n = (uint8_t)n;
  return 0;
}

/* Some of what is missing: > 0, ERR_TIMEOUT, ERR_CLOSED, ERR_SYNTAX. */
static ssize_t receive_some(struct carrier *c, void *to, size_t n) {
  union control control;
  struct iovec iov = {.iov_base = to, .iov_len = n};
  struct msghdr m = {
      .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof control.bytes};
  ssize_t got = recvmsg(c->fd, &m, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  if (got < 0) return errno == EAGAIN || errno == EINTR ? ERR_TIMEOUT : ERR_CLOSED;
  if (got == 0) return ERR_CLOSED;
  return keep_descriptors(c, &m) == 0 ? got : ERR_SYNTAX;
}

static int begin_body(struct carrier *c) {
  size_t fds_n = c->frame.header.fds_n;
  struct carrier_header h;
  if (carrier_header_decode(c->header, &h) != 0 || h.fds_n != fds_n) return ERR_SYNTAX;
  c->frame.body = malloc(h.bytes + 1);
  if (c->frame.body == NULL) return ERR_NOMEM;
  c->frame.header = h;
  return 0;
}

static int receive_now(struct carrier *c) {
  while (c->header_n < sizeof c->header) {
    ssize_t got = receive_some(c, c->header + c->header_n, sizeof c->header - c->header_n);
    if (got < 0) return (int)got;
    c->header_n += (size_t)got;
  }
  int rc = c->frame.body == NULL ? begin_body(c) : 0;      /* again, where there was no memory before */
  if (rc != 0) return rc;
  while (c->body_n < c->frame.header.bytes) {
    ssize_t got = receive_some(c, c->frame.body + c->body_n, c->frame.header.bytes - c->body_n);
    if (got < 0) return (int)got;
    c->body_n += (size_t)got;
  }
  return 0;
}

int carrier_receive(struct carrier *c, uint64_t until_ms, struct carrier_frame *out) {
  int rc;
  memset(out, 0, sizeof *out);     /* to be freed whatever comes */
  while ((rc = receive_now(c)) == ERR_TIMEOUT) {
    if (until_ms == 0 || (rc = wait_readable(c->fd, until_ms)) != 0) break;
  }
  if (rc != 0) return rc;
  *out = c->frame;
  memset(&c->frame, 0, sizeof c->frame);
  c->header_n = c->body_n = 0;
  return 0;
}
