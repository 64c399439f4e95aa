/* TLS around a socket. The hard thing is that records are whole where sockets are not: half a record waits here for its
   rest, and a record that was made must leave, whatever becomes of what follows it. */
#include "pump/wrap.h"

#include <stdlib.h>
#include <string.h>

#include "base/secret.h"
#include "loop/net.h"

enum {
  WRAP_IN_BYTES = WRAP_RECORDS * (RECORD_HEADER_BYTES + RECORD_CIPHER_MAX),
  WRAP_OUT_BYTES = 3 * WRAP_RECORDS * RECORD_PLAIN_MAX, /* more is never held, however small the other end wants its
                                                           records */
  WRAPS_MAX = 2,                   /* one around another: a proxy's, and the relay's */
  WRAP_EXPORT_FIXED_BYTES = SEALED_EXPORT_MAX_BYTES + 64,
  WRAP_SHRINK_BYTES = 4096         /* a buffer is given back in part when it is so much larger than what it holds */
};

struct wrap {
  struct sealed *sealed;
  struct wrap *below;
  uint8_t *in;                     /* NULL when nothing is held */
  size_t in_size, start, end;      /* of `in`: records not yet opened */
  size_t in_max;                   /* so large may it be */
  uint8_t *plain;                  /* in `in`, before `start`: what the last one held */
  size_t plain_n;
  uint8_t *out;                    /* whole records; NULL when none is held */
  size_t out_at, out_n;
  bool ended;                      /* close_notify was read */
  bool dead;                       /* reset, truncated, malformed, or out of memory */
  bool told;                       /* of either */
  bool closed;
  uint64_t idle, data;             /* records that were read */
};

/* Making one */

static struct sealed *seal_over(const struct tls_takeover *t, bool client) {
  return sealed_new(&(struct sealed_params){.suite = tls_suite_find(t->suite),
                                            .read_secret = client ? t->server_secret : t->client_secret,
                                            .write_secret = client ? t->client_secret : t->server_secret,
                                            .read_sequence = client ? t->server_sequence : t->client_sequence,
                                            .write_sequence = client ? t->client_sequence : t->server_sequence,
                                            .fragment_max = t->fragment_max,
                                            .from_server = client});
}

/* What OpenSSL has not sent yet leaves first. */
static bool take_output(struct wrap *w, struct tls_conn *tls) {
  size_t n;
  const uint8_t *output = tls_conn_output(tls, &n);
  if (n == 0) return true;
  w->out = malloc(n);
  if (w->out == NULL) return false;
  memcpy(w->out, output, n);
  w->out_n = n;
  tls_conn_output_sent(tls, n);
  return true;
}

struct wrap *wrap_new(struct sealed *sealed, struct wrap *below) {
  struct wrap *w = calloc(1, sizeof *w);
  if (w == NULL) {
    sealed_free(sealed);
    wrap_free(below);
    return NULL;
  }
  w->sealed = sealed;
  w->below = below;
  w->in_max = WRAP_IN_BYTES;
  return w;
}

struct wrap *wrap_take_over(struct tls_conn *tls, bool client, struct wrap *below, struct err *e) {
  struct tls_takeover t;
  struct wrap *w = wrap_new(NULL, below);
  int r = w != NULL && take_output(w, tls) ? tls_conn_take_over(tls, &t) : ERR_NOMEM;
  if (r == 0) {
    w->sealed = seal_over(&t, client);
    if (w->sealed == NULL) r = ERR_NOMEM;
    wipe(&t, sizeof t);
  }
  tls_conn_free(tls);
  if (r == 0) return w;
  wrap_free(w);
  err_set(e, r, "%s", r == ERR_NOMEM ? "out of memory" : "the TLS connection could not be taken over");
  return NULL;
}

void wrap_free(struct wrap *w) {
  if (w == NULL) return;
  sealed_free(w->sealed);
  free(w->in);
  free(w->out);
  wrap_free(w->below);
  free(w);
}

void wrap_rest(struct wrap *w) {
  for (; w != NULL; w = w->below) sealed_rest(w->sealed);
}

/* Receiving */

/* The other end says nothing more that could be believed. */
static ssize_t wrap_die(struct wrap *w, int fd) {
  uint8_t owed[SEALED_OWED_MAX];
  w->dead = true;
  size_t n = w->out_n == 0 ? sealed_write_owed(w->sealed, owed) : 0;
  if (n > 0) (void)wrap_send(w->below, fd, owed, n);     /* our alert, if there is room */
  return NET_RESET;
}

static bool has_whole_record(const struct wrap *w) {
  size_t full = w->in == NULL ? 0 : record_length(w->in + w->start, w->end - w->start);
  return full > 0 && full <= w->end - w->start;
}

bool wrap_has_input(const struct wrap *w) {
  if (w == NULL) return false;
  if (w->plain_n > 0) return true;
  return w->ended || w->dead ? !w->told : has_whole_record(w) || wrap_has_input(w->below);
}

size_t wrap_unread(const struct wrap *w) {
  return w == NULL ? 0 : w->plain_n + (w->end - w->start) + wrap_unread(w->below);
}

/* Keeps what is left of `in`: nothing, or the beginning of a record. */
static void trim_input(struct wrap *w) {
  size_t left = w->end - w->start;
  if (w->plain_n > 0 || w->in == NULL) return;
  if (left > 0 && has_whole_record(w)) return;
  if (left > 0) memmove(w->in, w->in + w->start, left);
  w->start = 0;
  w->end = left;
  if (left > 0 && w->in_size <= left + WRAP_SHRINK_BYTES) return;
  uint8_t *smaller = left > 0 ? realloc(w->in, left) : NULL;
  if (left == 0) free(w->in);
  if (left > 0 && smaller == NULL) return;               /* it stays as it is */
  w->in = smaller;
  w->in_size = left;
}

void wrap_read_little(struct wrap *w, size_t n) { w->in_max = n > 0 ? n : WRAP_IN_BYTES; }

/* Reads once, behind what is there. */
static ssize_t read_below(struct wrap *w, int fd) {
  if (w->end >= w->in_max) return wrap_die(w, fd);
  if (w->in_size < w->in_max) {
    uint8_t *larger = realloc(w->in, w->in_max);
    if (larger == NULL) return wrap_die(w, fd);
    w->in = larger;
    w->in_size = w->in_max;
  }
  ssize_t n = wrap_recv(w->below, fd, w->in + w->end, w->in_size - w->end);
  if (n > 0) w->end += (size_t)n;
  if (n == 0 || n == NET_RESET) w->dead = true;          /* without close_notify it is a truncation */
  return n == 0 ? NET_RESET : n;
}

/* Opens the next record. False: there is no whole one, or it says that there will be no more. */
static bool open_record(struct wrap *w, int fd) {
  size_t consumed = 0;
  enum sealed_result r = sealed_read(w->sealed, w->in == NULL ? NULL : w->in + w->start, w->end - w->start, &consumed,
                                     &w->plain, &w->plain_n);
  w->start += consumed;
  switch (r) {
    case SEALED_MORE: return false;
    case SEALED_DATA: w->data++; return true;
    case SEALED_NOTHING:
      if (++w->idle <= WRAP_IDLE_RECORDS_MAX + w->data / DATA_RECORDS_PER_IDLE) return true;
      sealed_fail(w->sealed, ALERT_UNEXPECTED_MESSAGE);
      break;
    case SEALED_EOF: w->ended = true; return false;
    case SEALED_PEER_ALERT:
    case SEALED_FAILED: break;
  }
  (void)wrap_die(w, fd);
  return false;
}

/* Of what is in here already. */
static size_t take_plain(struct wrap *w, int fd, uint8_t *p, size_t n) {
  size_t taken = 0;
  while (taken < n) {
    if (w->plain_n == 0 && (w->ended || w->dead || !open_record(w, fd))) break;
    if (w->plain_n == 0) continue;                       /* a record without data */
    size_t part = size_min(n - taken, w->plain_n);
    memcpy(p + taken, w->plain, part);
    taken += part;
    w->plain += part;
    w->plain_n -= part;
  }
  return taken;
}

ssize_t wrap_recv(struct wrap *w, int fd, void *p, size_t n) {
  if (w == NULL) return net_recv(fd, p, n);
  size_t taken = take_plain(w, fd, p, n);
  if (taken == 0 && !w->ended && !w->dead) {
    trim_input(w);
    ssize_t got = read_below(w, fd);
    if (got > 0) taken = take_plain(w, fd, p, n);
  }
  trim_input(w);
  if (taken > 0) return (ssize_t)taken;
  if (!w->dead && !w->ended) return NET_AGAIN;
  w->told = true;
  return w->dead ? NET_RESET : 0;
}

/* Sending */

static int flush_own(struct wrap *w, int fd) {
  while (w->out_n > 0) {
    ssize_t n = wrap_send(w->below, fd, w->out + w->out_at, w->out_n);
    if (n < 0) return (int)n;
    w->out_at += (size_t)n;
    w->out_n -= (size_t)n;
  }
  free(w->out);
  w->out = NULL;
  w->out_at = 0;
  return 0;
}

int wrap_flush(struct wrap *w, int fd) {
  if (w == NULL) return 0;
  int r = flush_own(w, fd);
  return r == 0 ? wrap_flush(w->below, fd) : r;
}

/* Of the first n bytes in iov, each record behind what is owed. None is held before. */
static int make_records(struct wrap *w, const struct iovec *iov, size_t n) {
  size_t fragment = sealed_fragment_max(w->sealed), records = n / fragment + 1;
  uint8_t *out = malloc(n + records * (sealed_overhead(w->sealed) + SEALED_OWED_MAX)), *at = out;
  size_t used = 0;                 /* of *iov */
  if (out == NULL) return ERR_NOMEM;
  while (n > 0) {
    size_t part = size_min(n, fragment);
    at += sealed_write_owed(w->sealed, at);
    for (size_t have = 0; have < part;) {
      size_t take = size_min(part - have, iov->iov_len - used);
      memcpy(at + sealed_lead(w->sealed) + have, (const uint8_t *)iov->iov_base + used, take);
      have += take;
      used += take;
      if (used == iov->iov_len) {
        iov++;
        used = 0;
      }
    }
    if (sealed_write(w->sealed, at, part) != 0) {
      free(out);
      return ERR_CRYPTO;
    }
    at += part + sealed_overhead(w->sealed);
    n -= part;
  }
  w->out = out;
  w->out_at = 0;
  w->out_n = (size_t)(at - out);
  return 0;
}

ssize_t wrap_sendv(struct wrap *w, int fd, const struct iovec *iov, int n) {
  if (w == NULL) return net_sendv(fd, iov, n);
  int r = w->dead || w->closed ? NET_RESET : 0;
  size_t bytes = 0;
  if (r == 0) r = wrap_flush(w, fd);
  if (r != 0) return r;
  for (int i = 0; i < n; i++) bytes += iov[i].iov_len;
  bytes = size_min(bytes, (size_t)WRAP_RECORDS * RECORD_PLAIN_MAX);
  if (bytes == 0) return 0;
  if (make_records(w, iov, bytes) != 0) {
    w->dead = true;
    return NET_RESET;
  }
  return wrap_flush(w, fd) == NET_RESET ? NET_RESET : (ssize_t)bytes;
}

ssize_t wrap_send(struct wrap *w, int fd, const void *p, size_t n) {
  if (w == NULL) return net_send(fd, p, n);
  struct iovec iov = {.iov_len = n};
  memcpy(&iov.iov_base, &p, sizeof p); /* it is only read; the struct lacks the const */
  return wrap_sendv(w, fd, &iov, 1);
}

void wrap_close(struct wrap *w) {
  if (w == NULL || w->closed) return;
  w->closed = true;
  if (w->dead) return;             /* to whom close_notify would say nothing; callers have closed it all the same */
  sealed_close(w->sealed);
  uint8_t *out = malloc(w->out_n + SEALED_OWED_MAX);
  if (out == NULL) {
    w->dead = true;
    return;
  }
  if (w->out_n > 0) memcpy(out, w->out + w->out_at, w->out_n);
  free(w->out);
  w->out = out;
  w->out_at = 0;
  w->out_n += sealed_write_owed(w->sealed, out + w->out_n);
}

bool wrap_is_closed(const struct wrap *w) { return w == NULL || w->closed; }

/* To another process and back. Each behind a 1, from the outermost on; behind the last a 0. */

size_t wrap_export_bytes(const struct wrap *w) {
  if (w == NULL) return 1;
  return WRAP_EXPORT_FIXED_BYTES + w->plain_n + (w->end - w->start) + w->out_n + wrap_export_bytes(w->below);
}

void wrap_export(struct wrap *w, struct writer *to) {
  write_u8(to, w != NULL);
  if (w == NULL) return;
  sealed_export(w->sealed, to);
  w->sealed = NULL;
  write_u32(to, (uint32_t)w->in_max);
  write_u8(to, w->ended);
  write_u8(to, w->dead);
  write_u8(to, w->told);
  write_u8(to, w->closed);
  write_u64(to, w->idle);
  write_u64(to, w->data);
  write_vec24(to, w->plain, w->plain_n);
  write_vec24(to, w->in == NULL ? NULL : w->in + w->start, w->end - w->start);
  write_vec24(to, w->out == NULL ? NULL : w->out + w->out_at, w->out_n);
  wrap_export(w->below, to);
  w->below = NULL;
  wrap_free(w);
}

/* Both, one behind the other; NULL when there is nothing. */
static int import_bytes(struct reader first, struct reader second, uint8_t **to) {
  *to = NULL;
  if (first.left + second.left == 0) return 0;
  *to = malloc(first.left + second.left);
  if (*to == NULL) return ERR_NOMEM;
  if (first.left > 0) memcpy(*to, first.at, first.left);
  if (second.left > 0) memcpy(*to + first.left, second.at, second.left);
  return 0;
}

/* What was opened, and behind it what was not. */
static int import_input(struct wrap *w, struct reader plain, struct reader unread) {
  int rc = import_bytes(plain, unread, &w->in);
  if (rc != 0 || w->in == NULL) return rc;
  w->in_size = w->end = plain.left + unread.left;
  w->start = w->plain_n = plain.left;
  w->plain = w->in;
  return 0;
}

static int import_one(struct reader *r, struct wrap *w) {
  int rc = sealed_import(r, &w->sealed);
  if (rc != 0) return rc;
  w->in_max = read_u32(r);
  w->ended = read_flag(r);
  w->dead = read_flag(r);
  w->told = read_flag(r);
  w->closed = read_flag(r);
  w->idle = read_u64(r);
  w->data = read_u64(r);
  struct reader plain = read_vec24(r), unread = read_vec24(r), out = read_vec24(r);
  if (r->bad || w->in_max == 0 || w->in_max > WRAP_IN_BYTES || plain.left + unread.left > WRAP_IN_BYTES ||
      out.left > WRAP_OUT_BYTES)
    return ERR_SYNTAX;
  rc = import_input(w, plain, unread);
  if (rc == 0) rc = import_bytes(out, (struct reader){0}, &w->out);
  if (rc == 0) w->out_n = out.left;
  return rc;
}

int wrap_import(struct reader *r, struct wrap **out) {
  struct wrap *outermost = NULL, **at = &outermost;
  int rc = 0;
  for (int n = 0; rc == 0 && read_flag(r); n++) {
    *at = n < WRAPS_MAX ? calloc(1, sizeof **at) : NULL;
    if (*at == NULL) {
      rc = n < WRAPS_MAX ? ERR_NOMEM : ERR_SYNTAX;
      break;
    }
    rc = import_one(r, *at);
    at = &(*at)->below;
  }
  if (rc == 0 && r->bad) rc = ERR_SYNTAX;
  if (rc != 0) wrap_free(outermost);
  else *out = outermost;
  return rc;
}
