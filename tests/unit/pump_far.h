/* The far end of a sealed stream, beyond the wire, played by the test with a record layer of its own. */
#ifndef TESTS_PUMP_FAR_H
#define TESTS_PUMP_FAR_H

#include "pump_rig.h"
#include "tls/sealed.h"

enum { BIG = 6 << 20, FAR_BUFFER_BYTES = 1 << 17 };

/* The visitor's end. */
struct far {
  struct sealed *sealed;
  uint8_t in[FAR_BUFFER_BYTES], out[FAR_BUFFER_BYTES];
  size_t in_n, out_at, out_n;
  size_t sent, got;                /* of the pattern */
  unsigned records, updates;
  size_t longest;                  /* plaintext in one record */
  uint8_t text[256];
  size_t text_n;
  bool keep_text, eof, fin, reset, alerted;
};

struct fixture {
  struct rig *rig;
  struct far far;
};

static const uint8_t secret_up[TLS_SECRET_MAX_BYTES] = {1, 2, 3}, secret_down[TLS_SECRET_MAX_BYTES] = {4, 5, 6};

static inline struct sealed *make_sealed(bool far, size_t fragment_max) {
  struct sealed_params params = {.suite = tls_suite_find(0x1301), .fragment_max = fragment_max};
  params.read_secret = far ? secret_down : secret_up;
  params.write_secret = far ? secret_up : secret_down;
  struct sealed *s = sealed_new(&params);
  assert_non_null(s);
  return s;
}

static inline void start_sealed(struct fixture *f, size_t fragment_max) {
  struct pump_params params = {.sealed = make_sealed(false, fragment_max)};
  rig_start(f->rig, &params);
}

static inline int set_up(void **state) {
  struct fixture *f = calloc(1, sizeof *f);
  f->rig = rig_new(PUMP_SPLICE);
  f->far.sealed = make_sealed(true, 0);
  *state = f;
  return 0;
}

static inline int tear_down(void **state) {
  struct fixture *f = *state;
  rig_free(f->rig);
  sealed_free(f->far.sealed);
  free(f);
  return 0;
}

static inline void far_flush(struct fixture *f) {
  struct far *a = &f->far;
  while (a->out_at < a->out_n) {
    ssize_t n = send(f->rig->agent, a->out + a->out_at, a->out_n - a->out_at, MSG_NOSIGNAL);
    if (n <= 0) return;
    a->out_at += (size_t)n;
  }
  a->out_at = a->out_n = 0;
}

static inline bool far_put_owed(struct fixture *f) {
  struct far *a = &f->far;
  if (sizeof a->out - a->out_n < SEALED_OWED_MAX) return false;
  if (sealed_owes(a->sealed)) a->out_n += sealed_write_owed(a->sealed, a->out + a->out_n);
  return true;
}

static inline void far_put(struct fixture *f, const void *p, size_t n) {
  struct far *a = &f->far;
  assert_true(far_put_owed(f));
  assert_true(a->out_n + n + RECORD_OVERHEAD_BYTES <= sizeof a->out);
  memcpy(a->out + a->out_n + RECORD_HEADER_BYTES, p, n);
  assert_int_equal(sealed_write(a->sealed, a->out + a->out_n, n), 0);
  a->out_n += n + RECORD_OVERHEAD_BYTES;
}

static inline void far_send_text(struct fixture *f, const char *text) {
  far_put(f, text, strlen(text));
  far_flush(f);
}

/* KeyUpdate with update_requested: what `openssl s_client` sends for K. The pump's answer must follow. */
static inline void far_ask_for_update(struct fixture *f, struct record_keys *keys) {
  static const uint8_t message[] = {24, 0, 0, 1, 1};
  struct far *a = &f->far;
  memcpy(a->out + a->out_n + RECORD_HEADER_BYTES, message, sizeof message);
  assert_int_equal(record_seal(keys, RECORD_HANDSHAKE, a->out + a->out_n, sizeof message), 0);
  assert_int_equal(record_keys_update(keys), 0);
  a->out_n += sizeof message + RECORD_OVERHEAD_BYTES;
}

static inline void far_send_pattern(struct fixture *f, size_t to) {
  struct far *a = &f->far;
  far_flush(f);
  while (a->sent < to && a->out_n == 0) {
    uint8_t part[RECORD_PLAIN_MAX];
    while (a->sent < to && sizeof a->out - a->out_n > RECORD_PLAIN_MAX + 2 * SEALED_OWED_MAX) {
      size_t n = size_min(to - a->sent, 1 + (a->sent * 7919) % RECORD_PLAIN_MAX);
      for (size_t i = 0; i < n; i++) part[i] = rig_byte(a->sent + i);
      far_put(f, part, n);
      a->sent += n;
    }
    far_flush(f);
  }
}

static inline void far_take(struct far *a, const uint8_t *plain, size_t n) {
  a->records++;
  a->longest = size_max(a->longest, n);
  for (size_t i = 0; i < n; i++) {
    if (a->keep_text) {
      assert_true(a->text_n < sizeof a->text);
      a->text[a->text_n++] = plain[i];
    } else {
      assert_int_equal(plain[i], rig_byte(a->got));
      a->got++;
    }
  }
}

static inline void far_read(struct fixture *f, size_t max) {
  struct far *a = &f->far;
  while (max > 0 && !a->fin && !a->reset) {
    size_t ask = size_min(max, sizeof a->in - a->in_n);
    ssize_t got = recv(f->rig->agent, a->in + a->in_n, ask, 0);
    if (got < 0 && errno == EAGAIN) return;
    a->reset = got < 0;
    a->fin = got == 0;
    if (got > 0) a->in_n += (size_t)got, max -= (size_t)got;
    size_t at = 0;
    for (bool more = true; more && !a->eof && !a->alerted;) {
      size_t consumed, n;
      uint8_t *plain;
      enum sealed_result r = sealed_read(a->sealed, a->in + at, a->in_n - at, &consumed, &plain, &n);
      at += consumed;
      assert_int_not_equal(r, SEALED_FAILED);
      if (r == SEALED_DATA) far_take(a, plain, n);
      if (r == SEALED_NOTHING) a->updates++;
      a->eof = r == SEALED_EOF;
      a->alerted = r == SEALED_PEER_ALERT;
      more = r != SEALED_MORE;
    }
    memmove(a->in, a->in + at, a->in_n - at);
    a->in_n -= at;
  }
}

static inline void far_close(struct fixture *f) {
  sealed_close(f->far.sealed);
  assert_true(far_put_owed(f));
  far_flush(f);
}

static inline void far_expect_text(struct fixture *f, const char *text) {
  f->far.keep_text = true;
  RIG_UNTIL(f->rig, (far_read(f, SIZE_MAX), f->far.text_n == strlen(text)));
  assert_memory_equal(f->far.text, text, strlen(text));
  f->far.text_n = 0;
  f->far.keep_text = false;
}

#endif
