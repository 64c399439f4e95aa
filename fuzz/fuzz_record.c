/* The record layer and the connection over it. A peer that knows the keys sends records of any type and content, and
   bytes that are no records at all; between them we write, close, pay what we owe, and move to another process. */
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "base/cursor.h"
#include "tls/sealed.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { STEP_RAW = 0xff, STEP_WRITE = 0xfe, STEP_CLOSE = 0xfd, STEP_FAIL = 0xfc, STEP_PEER_UPDATES = 0xfb,
      STEP_MOVE = 0xfa, CONTENT_MAX = 4096 };

struct world {
  struct sealed *ours;
  struct record_keys peer;         /* seals what the peer sends */
  uint8_t buf[CONTENT_MAX + RECORD_OVERHEAD_MAX];
};

static void read_all(struct world *w, size_t len) {
  for (size_t at = 0; at < len;) {
    size_t consumed, n;
    uint8_t *plain;
    enum sealed_result r = sealed_read(w->ours, w->buf + at, len - at, &consumed, &plain, &n);
    ASSERT(consumed <= len - at);
    if (r == SEALED_DATA)
      ASSERT(n > 0 && n <= sealed_fragment_max(w->ours) && plain >= w->buf + at && plain + n <= w->buf + at + consumed);
    if (r != SEALED_DATA && r != SEALED_NOTHING) {
      ASSERT(r != SEALED_FAILED || sealed_owes(w->ours) || sealed_write_ended(w->ours));
      return;
    }
    ASSERT(consumed > 0);
    at += consumed;
  }
}

static void write_one(struct world *w) {
  uint8_t out[SEALED_OWED_MAX], record[64] = {0};
  if (sealed_owes(w->ours)) {
    ASSERT(sealed_write(w->ours, record, 10) != 0);
    size_t n = sealed_write_owed(w->ours, out);
    ASSERT(n > 0 && n <= sizeof out && !sealed_owes(w->ours));
  }
  int rc = sealed_write(w->ours, record, 10);
  ASSERT(rc == 0 || sealed_write_ended(w->ours));
}

static void move(struct world *w) {
  uint8_t state[SEALED_EXPORT_MAX_BYTES];
  struct writer to = writer_of(state, sizeof state);
  sealed_export(w->ours, &to);
  w->ours = NULL;
  struct reader from = reader_of(state, to.len);
  ASSERT(!to.bad && sealed_import(&from, &w->ours) == 0 && reader_done(&from));
}

static void step(struct world *w, struct reader *r) {
  uint8_t what = read_u8(r);
  if (what == STEP_WRITE) {
    write_one(w);
  } else if (what == STEP_CLOSE) {
    sealed_close(w->ours);
  } else if (what == STEP_FAIL) {
    sealed_fail(w->ours, ALERT_INTERNAL_ERROR);
  } else if (what == STEP_MOVE) {
    move(w);
  } else if (what == STEP_PEER_UPDATES) {
    ASSERT(w->peer.suite->version != TLS_VERSION_13 || record_keys_update(&w->peer) == 0);
  } else {
    struct reader content = read_vec16(r);
    size_t n = size_min(content.left, CONTENT_MAX);
    size_t offset = what == STEP_RAW ? 0 : w->peer.suite->lead;
    if (n > 0) memcpy(w->buf + offset, content.at, n);
    if (what != STEP_RAW) {
      ASSERT(record_seal(&w->peer, (enum record_type)what, w->buf, n) == 0);
      n += w->peer.suite->overhead;
    }
    read_all(w, n);
  }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  static const uint8_t secret[TLS_SECRET_MAX_BYTES] = "a secret that both sides of the fuzzer know...";
  struct reader r = reader_of(data, size);
  uint8_t first = read_u8(&r);
  static const uint16_t suites[] = {0x1301, 0x1302, 0x1303, 0xc02b, 0xcca9};
  const struct tls_suite *suite = tls_suite_find(suites[first % ARRAY_LEN(suites)]);
  const struct sealed_params p = {
      .suite = suite, .read_secret = secret, .write_secret = secret, .fragment_max = first / ARRAY_LEN(suites) * 64,
      .from_server = size % 2 == 0};
  struct world w;
  memset(&w, 0, sizeof w);
  w.ours = sealed_new(&p);
  if (w.ours == NULL) return 0;
  if (record_keys_init(&w.peer, suite, secret, 0, true) == 0) {
    while (r.left > 0 && !r.bad) step(&w, &r);
    record_keys_free(&w.peer);
  }
  sealed_free(w.ours);
  return 0;
}
