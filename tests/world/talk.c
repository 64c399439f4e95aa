/* See talk.h. */
#include "talk.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "base/base.h"
#include "kernel.h"
#include "watch.h"
#include "world.h"

enum { CHUNK_MAX_BYTES = 8192, PAUSE_ONE_IN = 50, PAUSE_MAX_MS = 200, VISIT_MAX_MS = 120000 };
enum { WIRE_AGAIN = -1, WIRE_BROKEN = -2 };

/* What the visitor says first. Of either direction so much is sent; if that is less than all, it breaks off there. */
struct opening { uint64_t key, up, down, up_sent, down_sent; };

/* One direction, at one of its ends. */
struct half {
  uint64_t key, total, done;
  uint64_t sent_max;               /* of the end that sends: here it breaks off, if this is not all */
  size_t offered;                  /* what the last send could not take: TLS wants to be asked for the same again */
  bool ended;
};

/* Byte number `at` of a direction. */
static uint8_t byte_of(uint64_t key, uint64_t at) {
  uint64_t x = (key + at / 8) * UINT64_C(0x9e3779b97f4a7c15);
  x ^= x >> 29;
  return (uint8_t)(x * UINT64_C(0xbf58476d1ce4e5b9) >> (8 * (at % 8)));
}

/* Wires */

static ssize_t outcome(ssize_t n) {
  if (n >= 0) return n;
  return errno == EAGAIN || errno == EINTR ? WIRE_AGAIN : WIRE_BROKEN;
}

static ssize_t tls_outcome(SSL *ssl, int n) {
  int why = n > 0 ? SSL_ERROR_NONE : SSL_get_error(ssl, n);
  if (n > 0) return n;
  if (why == SSL_ERROR_ZERO_RETURN) return 0;
  return why == SSL_ERROR_WANT_READ || why == SSL_ERROR_WANT_WRITE ? WIRE_AGAIN : WIRE_BROKEN;
}

static ssize_t wire_recv(struct wire *w, void *out, size_t n) {
  return w->ssl == NULL ? outcome(recv(w->fd, out, n, 0)) : tls_outcome(w->ssl, SSL_read(w->ssl, out, (int)n));
}

static ssize_t wire_send(struct wire *w, const void *from, size_t n) {
  return w->ssl == NULL ? outcome(send(w->fd, from, n, MSG_NOSIGNAL))
                        : tls_outcome(w->ssl, SSL_write(w->ssl, from, (int)n));
}

/* False: not yet. */
static bool wire_end(struct wire *w) {
  if (w->ssl == NULL) return shutdown(w->fd, SHUT_WR) == 0 || errno != EAGAIN;
  int n = SSL_shutdown(w->ssl);
  return n >= 0 || tls_outcome(w->ssl, n) != WIRE_AGAIN;
}

/* Halves */

static void half_check(struct half *h, const uint8_t *got, size_t n) {
  for (size_t i = 0; i < n; i++) {
    if (h->done == h->total) world_fail("stream %016llx: more came than was sent", (unsigned long long)h->key);
    if (got[i] != byte_of(h->key, h->done))
      world_fail("stream %016llx: byte %llu is wrong", (unsigned long long)h->key, (unsigned long long)h->done);
    h->done++;
  }
}

/* What came of a receive: false when nothing more is to be had now. */
static bool half_take(struct half *in, const uint8_t *got, ssize_t n) {
  if (n > 0) half_check(in, got, (size_t)n);
  if (n == 0 && in->done < in->total)
    world_fail("stream %016llx: a clean end after %llu of %llu bytes", (unsigned long long)in->key,
               (unsigned long long)in->done, (unsigned long long)in->total);
  if (n == 0) in->ended = true;
  return n > 0;
}

static ssize_t half_give(struct half *out, struct wire *w) {
  uint8_t bytes[CHUNK_MAX_BYTES];
  size_t n = out->offered;
  if (n == 0) n = size_min(1 + (size_t)world_below(sizeof bytes), (size_t)(out->sent_max - out->done));
  if (n == 0 && out->done < out->total) {
    world_trace("breaks off", out->key, out->done);
    network_break_off(w->fd);
    return WIRE_BROKEN;
  }
  if (n == 0) {
    out->ended = wire_end(w);
    return out->ended ? 0 : WIRE_AGAIN;
  }
  for (size_t i = 0; i < n; i++) bytes[i] = byte_of(out->key, out->done + i);
  ssize_t sent = wire_send(w, bytes, n);
  if (sent > 0) out->done += (uint64_t)sent;
  out->offered = sent == WIRE_AGAIN ? n : 0;
  return sent;
}

static void pause_sometimes(void) {
  if (!world_chance(PAUSE_ONE_IN)) return;
  uint64_t until_ns = world_now_ns() + world_below(PAUSE_MAX_MS) * WORLD_NS_PER_MS;
  while (task_sleep(until_ns)) continue;
}

/* False: nothing has happened for so long that people would have given up. */
static bool wait_for(const struct wire *w, bool in, bool out) {
  struct pollfd p = {.fd = w->fd, .events = (short)((in ? POLLIN : 0) | (out ? POLLOUT : 0))};
  return poll(&p, 1, TALK_PATIENCE_MS) != 0;
}

static enum talk_end talk(struct wire *w, struct half *in, struct half *out) {
  uint8_t bytes[CHUNK_MAX_BYTES];
  uint64_t until_ns = world_now_ns() + VISIT_MAX_MS * WORLD_NS_PER_MS;
  while (!in->ended || !out->ended) {
    if (world_now_ns() > until_ns) return TALK_BROKEN;
    pause_sometimes();
    ssize_t got = in->ended ? WIRE_AGAIN : wire_recv(w, bytes, 1 + (size_t)world_below(sizeof bytes));
    (void)half_take(in, bytes, got);
    ssize_t given = out->ended ? WIRE_AGAIN : half_give(out, w);
    if (got == WIRE_BROKEN || given == WIRE_BROKEN) return TALK_BROKEN;
    if (got == WIRE_AGAIN && given == WIRE_AGAIN && (!in->ended || !out->ended) &&
        !wait_for(w, !in->ended, !out->ended))
      return TALK_BROKEN;
  }
  world_trace("talk whole", in->key, in->total);
  return TALK_WHOLE;
}

/* All of it, or false. */
static bool move_all(struct wire *w, void *bytes, size_t n, bool in) {
  for (size_t at = 0; at < n;) {
    ssize_t part = in ? wire_recv(w, (char *)bytes + at, n - at) : wire_send(w, (char *)bytes + at, n - at);
    if (part == WIRE_AGAIN ? !wait_for(w, in, !in) : part <= 0) return false;
    if (part > 0) at += (size_t)part;
  }
  return true;
}

static uint64_t sent_of(uint64_t total, uint64_t breaks_off_one_in) {
  return breaks_off_one_in > 0 && total > 0 && world_chance(breaks_off_one_in) ? world_below(total) : total;
}

enum talk_end talk_as_visitor(struct wire *w, uint64_t bytes_max, uint64_t breaks_off_one_in) {
  struct opening o = {.key = world_random(), .up = world_below(bytes_max), .down = world_below(bytes_max)};
  o.up_sent = sent_of(o.up, breaks_off_one_in);
  o.down_sent = sent_of(o.down, breaks_off_one_in);
  struct half up = {.key = o.key, .total = o.up, .sent_max = o.up_sent}, down = {.key = ~o.key, .total = o.down};
  return move_all(w, &o, sizeof o, false) ? talk(w, &down, &up) : TALK_BROKEN;
}

enum talk_end talk_as_app(struct wire *w) {
  struct opening o;
  if (!move_all(w, &o, sizeof o, true)) return TALK_BROKEN;
  watch_opened(o.key);
  struct half up = {.key = o.key, .total = o.up}, down = {.key = ~o.key, .total = o.down, .sent_max = o.down_sent};
  return talk(w, &up, &down);
}

/* TLS, whose bytes go through a BIO of ours, as OpenSSL's own would call the real functions */

static int bio_read(BIO *b, char *out, int n) {
  ssize_t got = recv((int)(intptr_t)BIO_get_data(b), out, (size_t)n, 0);
  BIO_clear_retry_flags(b);
  if (got < 0 && errno == EAGAIN) BIO_set_retry_read(b);
  return (int)got;
}

static int bio_write(BIO *b, const char *from, int n) {
  ssize_t put = send((int)(intptr_t)BIO_get_data(b), from, (size_t)n, MSG_NOSIGNAL);
  BIO_clear_retry_flags(b);
  if (put < 0 && errno == EAGAIN) BIO_set_retry_write(b);
  return (int)put;
}

static long bio_control(BIO *b, int what, long n, void *p) {
  (void)b, (void)n, (void)p;
  return what == BIO_CTRL_FLUSH;
}

static BIO *bio_new(int fd) {
  static BIO_METHOD *method;
  if (method == NULL) {
    method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "simulated socket");
    ASSERT(method != NULL && BIO_meth_set_read(method, bio_read) == 1 && BIO_meth_set_write(method, bio_write) == 1 &&
           BIO_meth_set_ctrl(method, bio_control) == 1);
  }
  BIO *b = BIO_new(method);
  ASSERT(b != NULL);
  BIO_set_data(b, (void *)(intptr_t)fd);
  BIO_set_init(b, 1);
  return b;
}

SSL *talk_tls(SSL_CTX *ctx, int fd, char *name) {
  SSL *ssl = SSL_new(ctx);
  ASSERT(ssl != NULL && SSL_set_tlsext_host_name(ssl, name) == 1);
  BIO *b = bio_new(fd);
  SSL_set_bio(ssl, b, b);
  const struct wire w = {.fd = fd, .ssl = ssl};
  int n;
  while ((n = SSL_connect(ssl)) != 1) {
    int why = SSL_get_error(ssl, n);
    bool reads = why == SSL_ERROR_WANT_READ, writes = why == SSL_ERROR_WANT_WRITE;
    if ((!reads && !writes) || !wait_for(&w, reads, writes)) {
      SSL_free(ssl);
      return NULL;
    }
  }
  return ssl;
}
