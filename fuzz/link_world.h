/* One end of a control link (link/engine.h) and another end that has the right keys and keeps to no rule: it cuts
   its frames over records and its records over reads as it likes, changes keys, damages what is on the way, and
   reads slowly or not at all; between its steps our side sends, closes and is stopped, also from its handlers. For a
   fuzzer per role, which gives the table.

   What is held: states go forward only; a handler is called for nothing that is not due, never beyond the turn's
   share and never after a stop; what the other end reads is exactly what was sent, as far as it came, whatever came
   meanwhile; and only a full queue makes an engine fail, from which nothing leaves then. */
#ifndef FUZZ_LINK_WORLD_H
#define FUZZ_LINK_WORLD_H

#include <stdlib.h>
#include <string.h>

#include "link/engine.h"

enum step {
  PEER_FRAME, PEER_SEAL, PEER_RECORD, PEER_UPDATE, PEER_DAMAGE, DELIVER, WORK,
  SAY, PING, DRAIN, CLOSE, STOP, MOOD, TIME, AGREE, MOVE, STEPS
};
enum mood { GOOD, REFUSES, STOPS, SAYS, MOODS };   /* of the next handler that is called */
enum { SAID_MAX = 1 << 20, WAY_MAX = 1 << 18 };

struct world {
  struct engine ours;
  struct sealed *reader;           /* the other end's reading half */
  struct record_keys writer;       /* and its writing half */
  struct buf plain, way, back;     /* its frames before they are records; records on the way to us; on the way back */
  struct buf said;                 /* what we have sent and it has not read */
  uint64_t now_ms;
  size_t handled, share;
  enum mood mood;
  bool rests, closed, violated;
};

static uint64_t world_now_ms(struct engine *e) { return CONTAINER_OF(e, struct world, ours)->now_ms; }

static void world_say(struct world *w, const struct writer *frame) {
  bool counts = !frame->bad && !w->closed && !engine_failed(&w->ours) && w->ours.state != LINK_DOWN;
  size_t before = engine_waiting(&w->ours), each = SEALED_OWED_MAX + RECORD_OVERHEAD_BYTES;
  if (w->said.len + frame->len > SAID_MAX) return;
  engine_send(&w->ours, frame);
  if (counts && engine_failed(&w->ours))
    ASSERT(before + frame->len + each * (1 + frame->len / sealed_fragment_max(w->reader)) > LINK_OUT_MAX_BYTES);
  if (counts) ASSERT(buf_append(&w->said, frame->base, frame->len) == 0);
  ASSERT(engine_waiting(&w->ours) <= LINK_OUT_MAX_BYTES);
}

static void say_frame(struct world *w, uint8_t type, const uint8_t *body, size_t n) {
  static uint8_t bytes[FRAME_HEADER_BYTES + UINT16_MAX];
  struct writer frame = writer_of(bytes, sizeof bytes);
  write_u8(&frame, type);
  write_u8(&frame, 0);
  write_u16(&frame, (uint16_t)n);
  write_bytes(&frame, body, n);
  world_say(w, &frame);
}

/* The engine answers PING by itself, behind whatever was sent before. */
static int world_heard(struct engine *e, const struct frame *f) {
  struct world *w = CONTAINER_OF(e, struct world, ours);
  uint8_t bytes[16];
  struct writer pong = writer_of(bytes, sizeof bytes);
  uint64_t cookie;
  ASSERT(e->state != LINK_DOWN && ++w->handled <= w->share && e->heard_ms == w->now_ms);
  if (f->type != FRAME_PING || e->state != LINK_UP || w->closed || engine_failed(e)) return 0;
  if (frame_ping_decode(f->body, &cookie) != 0) return 0;
  frame_ping_encode(&pong, FRAME_PONG, cookie);
  ASSERT(buf_append(&w->said, bytes, pong.len) == 0);
  return 0;
}

/* For each role's handlers: what the mood does behind a frame that was well-formed. */
static int world_handled(struct engine *e, int rc) {
  struct world *w = CONTAINER_OF(e, struct world, ours);
  enum mood mood = w->mood;
  w->mood = GOOD;
  if (mood == STOPS) engine_stop(e);
  if (mood == SAYS) say_frame(w, FRAME_GOODBYE, NULL, 0);
  return mood == REFUSES ? ERR_SYNTAX : rc;
}

static int world_opens(struct engine *e, int rc) {
  rc = world_handled(e, rc);
  if (rc == 0 && e->state == LINK_HELLO) engine_open(e);
  return rc;
}

/* It reads: exactly what was said, and an end only where we made one. */
static void peer_reads(struct world *w) {
  for (;;) {
    size_t consumed, n;
    uint8_t *plain;
    switch (sealed_read(w->reader, buf_data(&w->back), w->back.len, &consumed, &plain, &n)) {
      case SEALED_MORE: return;
      case SEALED_DATA:
        ASSERT(n <= w->said.len && memcmp(plain, buf_data(&w->said), n) == 0);
        buf_consume(&w->said, n);
        break;
      case SEALED_NOTHING: break;
      case SEALED_EOF: ASSERT(w->closed && (w->said.len == 0 || engine_failed(&w->ours))); return;
      case SEALED_PEER_ALERT: ASSERT(w->violated); return;
      case SEALED_FAILED: ASSERT(false);
    }
    buf_consume(&w->back, consumed);
  }
}

static void drain(struct world *w, size_t most) {
  size_t left;
  const uint8_t *p;
  while (most > 0 && (p = engine_output(&w->ours, &left)) != NULL) {
    size_t n = size_min(left, most);
    ASSERT(!engine_failed(&w->ours) && n > 0);
    ASSERT(buf_append(&w->back, p, n) == 0);
    engine_sent(&w->ours, n);
    most -= n;
    peer_reads(w);
  }
}

static void work(struct world *w, size_t share) {
  enum link_state before = w->ours.state;
  w->handled = 0;
  w->share = share;
  enum engine_result result = engine_work(&w->ours, share);
  ASSERT(w->ours.state >= before);
  ASSERT((result == ENGINE_STOPPED) == (w->ours.state == LINK_DOWN));
  w->rests = result == ENGINE_RESTS;
  if (result <= ENGINE_RESTS) return;
  w->violated = w->violated || result == ENGINE_VIOLATED;
  drain(w, SIZE_MAX);
  engine_stop(&w->ours);
  w->now_ms++;
  (void)engine_work(&w->ours, SIZE_MAX);       /* harmless */
}

static void deliver(struct world *w, size_t n, size_t share) {
  size_t room;
  n = size_min(n, w->way.len);
  while (n > 0 && !w->rests && w->ours.state != LINK_DOWN) {
    uint8_t *to = engine_room(&w->ours, &room);
    if (to == NULL) return;
    room = size_min(room, n);
    ASSERT(room > 0);
    memcpy(to, buf_data(&w->way), room);
    engine_received(&w->ours, room);
    buf_consume(&w->way, room);
    n -= room;
    work(w, share);
  }
}

static void peer_record(struct world *w, enum record_type type, const uint8_t *p, size_t n) {
  uint8_t *record = n <= RECORD_PLAIN_MAX ? buf_reserve(&w->way, n + RECORD_OVERHEAD_BYTES) : NULL;
  if (record == NULL) return;
  if (n > 0) memcpy(record + RECORD_HEADER_BYTES, p, n);
  ASSERT(record_seal(&w->writer, type, record, n) == 0);
  buf_added(&w->way, n + RECORD_OVERHEAD_BYTES);
}

static void peer_frame(struct world *w, struct reader *r) {
  uint8_t header[FRAME_HEADER_BYTES] = {read_u8(r)};
  struct reader body = read_vec16(r);
  header[2] = (uint8_t)(body.left >> 8);
  header[3] = (uint8_t)body.left;
  if (r->bad || w->plain.len + body.left > RECORD_PLAIN_MAX) return;
  ASSERT(buf_append(&w->plain, header, sizeof header) == 0 && buf_append(&w->plain, body.at, body.left) == 0);
}

static void peer_seal(struct world *w, size_t n) {
  n = size_min(n, size_min(w->plain.len, RECORD_PLAIN_MAX));
  if (w->way.len + n + RECORD_OVERHEAD_BYTES > WAY_MAX) return;
  peer_record(w, RECORD_APPLICATION_DATA, buf_data(&w->plain), n);
  buf_consume(&w->plain, n);
}

static void peer_update(struct world *w, uint8_t wants) {
  uint8_t update[] = {24, 0, 0, 1, wants & 1};
  if (w->way.len + sizeof update + RECORD_OVERHEAD_BYTES > WAY_MAX) return;
  peer_record(w, RECORD_HANDSHAKE, update, sizeof update);
  ASSERT(record_keys_update(&w->writer) == 0);
}

static void agree(struct world *w, struct reader *r) {
  uint8_t ours[X25519_BYTES], theirs[X25519_BYTES] = {9};
  theirs[1] = read_u8(r);
  if (w->ours.secrets == NULL || engine_make_share(&w->ours, ours) != 0) return;
  ASSERT((engine_agree(&w->ours, theirs) == 0) == (w->ours.keys != NULL) && w->ours.secrets == NULL);
}

/* To another process: nothing is to be noticed of that. */
static void move(struct world *w) {
  const struct engine_role *role = w->ours.role;
  struct buf state;
  buf_init(&state, ENGINE_EXPORT_MAX_BYTES);
  bool moves = w->ours.secrets == NULL && engine_export(&w->ours, &state) == 0;
  if (moves) {
    struct reader r = reader_of(buf_data(&state), state.len);
    engine_free(&w->ours);
    int rc = engine_import(&w->ours, role, &r);
    ASSERT(rc == 0 && reader_done(&r));
  }
  buf_free(&state);
}

static void step(struct world *w, struct reader *r) {
  switch ((enum step)(read_u8(r) % STEPS)) {
    case PEER_FRAME: peer_frame(w, r); break;
    case PEER_SEAL: peer_seal(w, read_u16(r)); break;
    case PEER_RECORD: {
      enum record_type type = (enum record_type)read_u8(r);
      struct reader content = read_vec16(r);
      peer_record(w, type, content.at, content.left);
      break;
    }
    case PEER_UPDATE: peer_update(w, read_u8(r)); break;
    case PEER_DAMAGE: {
      size_t at = read_u16(r);
      uint8_t bits = read_u8(r);
      if (at < w->way.len) buf_data(&w->way)[at] ^= bits;
      break;
    }
    case DELIVER: {
      size_t n = read_u16(r);
      deliver(w, n, 1 + read_u8(r) % 20u);
      break;
    }
    case WORK: work(w, 1 + read_u8(r) % 20u); break;
    case SAY: {
      uint8_t type = read_u8(r);
      struct reader body = read_vec16(r);
      say_frame(w, type, body.at, body.left);
      break;
    }
    case PING: {
      uint8_t bytes[16];
      struct writer ping = writer_of(bytes, sizeof bytes);
      frame_ping_encode(&ping, FRAME_PING, read_u8(r));
      world_say(w, &ping);
      break;
    }
    case DRAIN: drain(w, read_u16(r)); break;
    case CLOSE:
      engine_close(&w->ours);
      w->closed = true;
      break;
    case STOP: engine_stop(&w->ours); break;
    case MOOD: w->mood = (enum mood)(read_u8(r) % MOODS); break;
    case TIME: w->now_ms += read_u16(r); break;
    case AGREE: agree(w, r); break;
    case MOVE: move(w); break;
    case STEPS: break;
  }
}

/* The whole life of a link of that role, as the input has it. */
static void world_run(const struct engine_role *role, const uint8_t *data, size_t size) {
  static const uint16_t suites[] = {0x1301, 0x1302, 0x1303};
  struct reader r = reader_of(data, size);
  uint8_t first = read_u8(&r);
  struct tls_takeover t = {.suite = suites[first % ARRAY_LEN(suites)],
                           .client_secret = {1},
                           .server_secret = {2},
                           .exporter = {3},
                           .fragment_max = first / 3 % 4 * 64u};
  const struct tls_suite *suite = tls_suite_find(t.suite);
  struct world w = {.now_ms = 1};
  buf_init(&w.plain, RECORD_PLAIN_MAX + 2 * UINT16_MAX);
  buf_init(&w.way, 2 * WAY_MAX);
  buf_init(&w.back, 2 * LINK_OUT_MAX_BYTES);
  buf_init(&w.said, 2 * SAID_MAX);
  w.reader = sealed_new(&(struct sealed_params){.suite = suite,
                                                .read_secret = role->is_relay ? t.server_secret : t.client_secret,
                                                .write_secret = t.client_secret,    /* which it does not use */
                                                .fragment_max = t.fragment_max});
  bool writes = record_keys_init(&w.writer, suite, role->is_relay ? t.client_secret : t.server_secret, 0, true) == 0;
  if (engine_start(&w.ours, role, &t) == 0 && w.reader != NULL && writes)
    while (r.left > 0 && !r.bad) step(&w, &r);
  engine_stop(&w.ours);
  engine_free(&w.ours);
  if (writes) record_keys_free(&w.writer);
  sealed_free(w.reader);
  buf_free(&w.plain);
  buf_free(&w.way);
  buf_free(&w.back);
  buf_free(&w.said);
}

#endif
