/* The engine of control links. The hard thing is that a handler may stop it amid a record full of frames: so after
   each handler the state is looked at before anything else, and until engine_free the memory is where it was. */
#include "link/engine.h"

#include <string.h>

#include "base/secret.h"

enum {
  EXPORT_VERSION = 1,
  EXPORT_FIXED_BYTES = 96 + SEALED_EXPORT_MAX_BYTES,
  IN_MAX_BYTES = RECORD_HEADER_BYTES + RECORD_CIPHER_MAX,
  FRAMES_MAX_BYTES = FRAME_HEADER_BYTES + FRAME_BODY_MAX_BYTES + RECORD_PLAIN_MAX
};

_Static_assert((int)ENGINE_EXPORT_MAX_BYTES >= (int)EXPORT_FIXED_BYTES + (int)IN_MAX_BYTES + (int)FRAMES_MAX_BYTES +
                                                   (int)LINK_OUT_MAX_BYTES + (int)LINK_KEYS_EXPORT_MAX_BYTES, "");

struct engine_secrets {            /* from the handshake to HELLO or WELCOME: not for the link's life */
  uint8_t exporter[TLS_EXPORTER_BYTES], private_key[X25519_BYTES], shared[X25519_BYTES];
};

static bool is_on(const struct engine *e) { return e->state == LINK_HELLO || e->state == LINK_UP; }

static void engine_init(struct engine *e, const struct engine_role *role) {
  *e = (struct engine){.state = LINK_HELLO, .role = role};
  buf_init(&e->in, IN_MAX_BYTES);
  buf_init(&e->frames, FRAMES_MAX_BYTES);
  buf_init(&e->out, LINK_OUT_MAX_BYTES);
  e->heard_ms = e->spoke_ms = role->now_ms(e);
}

static int engine_key(struct engine *e, const struct tls_takeover *t) {
  bool relay = e->role->is_relay;
  e->secrets = secret_alloc(sizeof *e->secrets);
  if (e->secrets == NULL) return ERR_NOMEM;
  memcpy(e->secrets->exporter, t->exporter, sizeof e->secrets->exporter);
  e->sealed = sealed_new(&(struct sealed_params){.suite = tls_suite_find(t->suite),
                                                 .read_secret = relay ? t->client_secret : t->server_secret,
                                                 .write_secret = relay ? t->server_secret : t->client_secret,
                                                 .read_sequence = relay ? t->client_sequence : t->server_sequence,
                                                 .write_sequence = relay ? t->server_sequence : t->client_sequence,
                                                 .fragment_max = t->fragment_max});
  return e->sealed != NULL ? 0 : ERR_NOMEM;
}

int engine_start(struct engine *e, const struct engine_role *role, const struct tls_takeover *t) {
  engine_init(e, role);
  return engine_key(e, t);
}

int engine_take_over(struct engine *e, const struct engine_role *role, struct tls_conn *tls) {
  struct tls_takeover t;
  size_t n;
  engine_init(e, role);
  const uint8_t *finished = tls_conn_output(tls, &n);
  if (buf_append(&e->out, finished, n) != 0) return ERR_NOMEM;
  tls_conn_output_sent(tls, n);
  int rc = tls_conn_take_over(tls, &t);
  if (rc == 0) rc = engine_key(e, &t);
  wipe(&t, sizeof t);
  return rc;
}

static void engine_forget_secrets(struct engine *e) {
  secret_free(e->secrets, sizeof *e->secrets);
  e->secrets = NULL;
}

void engine_stop(struct engine *e) {
  e->state = LINK_DOWN;
  engine_forget_secrets(e);
  sealed_free(e->sealed);
  e->sealed = NULL;
  link_keys_free(e->keys);
  e->keys = NULL;
}

void engine_free(struct engine *e) {
  ASSERT(!e->working);
  engine_stop(e);
  buf_free(&e->in);
  buf_free(&e->frames);
  buf_free(&e->out);
}

/* ---- who the other end is ---- */

const uint8_t *engine_exporter(const struct engine *e) { return e->secrets->exporter; }

int engine_make_share(struct engine *e, uint8_t share[X25519_BYTES]) {
  return x25519_keypair(e->secrets->private_key, share);
}

int engine_agree(struct engine *e, const uint8_t their_share[X25519_BYTES]) {
  struct engine_secrets *s = e->secrets;
  int rc = x25519_shared(s->private_key, their_share, s->shared);
  if (rc == 0) rc = link_id_derive(s->exporter, e->id);
  if (rc == 0 && (e->keys = link_keys_new(s->exporter, s->shared)) == NULL) rc = ERR_NOMEM;
  engine_forget_secrets(e);
  return rc;
}

void engine_open(struct engine *e) {
  ASSERT(e->state == LINK_HELLO);
  e->state = LINK_UP;
}

/* ---- hearing: frames ---- */

static int answer_ping(struct engine *e, const struct frame *f) {
  uint8_t bytes[16];
  struct writer w = writer_of(bytes, sizeof bytes);
  uint64_t cookie;
  if (frame_ping_decode(f->body, &cookie) != 0) return ERR_SYNTAX;
  frame_ping_encode(&w, FRAME_PONG, cookie);
  engine_send(e, &w);
  return 0;
}

static int handle(struct engine *e, const struct frame *f) {
  struct engine_rule rule = f->type < FRAME_TYPES ? e->role->rules[f->type] : (struct engine_rule){0};
  unsigned now = e->state == LINK_UP ? WHILE_UP : WHILE_HELLO;
  if (e->role->heard != NULL) {
    int rc = e->role->heard(e, f);
    if (rc != 0 || !is_on(e)) return rc;
  }
  if (rule.fn != NULL) return (rule.when & now) != 0 ? rule.fn(e, f) : ERR_SYNTAX;
  if (now == WHILE_HELLO) return ERR_SYNTAX;
  return f->type == FRAME_PING ? answer_ping(e, f) : 0;
}

/* Those that are there, as far as the share goes. */
static enum engine_result work_on_frames(struct engine *e, size_t *share) {
  while (*share > 0) {
    struct frame f;
    size_t max = e->state == LINK_HELLO ? e->role->hello_max_bytes : FRAME_BODY_MAX_BYTES;
    if (e->frames.len == 0) return ENGINE_IDLE;
    int rc = frame_next(buf_data(&e->frames), e->frames.len, max, &f);
    if (rc < 0) return ENGINE_MALFORMED;
    if (rc == 0) return ENGINE_IDLE;
    (*share)--;
    e->heard_ms = e->role->now_ms(e);      /* bytes that are no whole frame are no sign of life */
    rc = handle(e, &f);
    if (!is_on(e)) return ENGINE_STOPPED;
    if (rc != 0) return ENGINE_MALFORMED;
    buf_consume(&e->frames, f.total);
  }
  return ENGINE_RESTS;
}

/* ---- hearing: records ---- */

uint8_t *engine_room(struct engine *e, size_t *n) {
  *n = IN_MAX_BYTES - e->in.len;
  return buf_reserve(&e->in, *n);
}

void engine_received(struct engine *e, size_t n) { buf_added(&e->in, n); }

/* One record. ENGINE_IDLE: there is none; ENGINE_RESTS: there was, and there may be more. */
static enum engine_result take_record(struct engine *e) {
  size_t consumed = 0, n = 0;
  uint8_t *plain = NULL;
  if (e->in.len == 0) return ENGINE_IDLE;
  switch (sealed_read(e->sealed, buf_data(&e->in), e->in.len, &consumed, &plain, &n)) {
    case SEALED_MORE: return ENGINE_IDLE;
    case SEALED_EOF: return ENGINE_ENDED;
    case SEALED_PEER_ALERT: return ENGINE_ALERTED;
    case SEALED_FAILED: return ENGINE_VIOLATED;
    case SEALED_NOTHING:
      if (!idle_records_flood(&e->idle_records, e->role->now_ms(e))) break;
      sealed_fail(e->sealed, ALERT_UNEXPECTED_MESSAGE);
      return ENGINE_VIOLATED;
    case SEALED_DATA:
      e->idle_records.data++;
      if (buf_append(&e->frames, plain, n) != 0) return ENGINE_NO_MEMORY;
      break;
  }
  buf_consume(&e->in, consumed);
  return ENGINE_RESTS;
}

enum engine_result engine_work(struct engine *e, size_t share) {
  if (!is_on(e)) return ENGINE_STOPPED;
  ASSERT(!e->working);
  e->working = true;
  enum engine_result result;
  do {
    result = work_on_frames(e, &share);
    if (result == ENGINE_IDLE) {
      result = take_record(e);
      if (result == ENGINE_IDLE) break;
    }
  } while (result == ENGINE_RESTS && share > 0);
  e->working = false;
  return result;
}

/* ---- saying ---- */

/* Before each record, because KeyUpdate's answer must come before more data. */
static int seal_owed(struct engine *e) {
  uint8_t owed[SEALED_OWED_MAX];
  size_t n;
  while ((n = sealed_write_owed(e->sealed, owed)) > 0)
    if (buf_append(&e->out, owed, n) != 0) return ERR_LIMIT;
  return 0;
}

static int seal_record(struct engine *e, const uint8_t *p, size_t n) {
  int rc = seal_owed(e);
  uint8_t *record = rc == 0 ? buf_reserve(&e->out, n + RECORD_OVERHEAD_BYTES) : NULL;
  if (record == NULL) return ERR_LIMIT;
  memcpy(record + RECORD_HEADER_BYTES, p, n);
  rc = sealed_write(e->sealed, record, n);
  if (rc == 0) buf_added(&e->out, n + RECORD_OVERHEAD_BYTES);
  return rc;
}

void engine_send(struct engine *e, const struct writer *frames) {
  if (!is_on(e) || e->failed) return;
  e->failed = frames->bad;
  e->spoke_ms = e->role->now_ms(e);
  for (size_t at = 0; at < frames->len && !e->failed;) {
    size_t n = size_min(frames->len - at, sealed_fragment_max(e->sealed));
    e->failed = seal_record(e, frames->base + at, n) != 0;
    at += n;
  }
}

void engine_ping(struct engine *e, uint64_t cookie) {
  uint8_t bytes[16];
  struct writer w = writer_of(bytes, sizeof bytes);
  frame_ping_encode(&w, FRAME_PING, cookie);
  engine_send(e, &w);
}

void engine_close(struct engine *e) {
  if (is_on(e)) sealed_close(e->sealed);
}

bool engine_failed(const struct engine *e) { return e->failed; }

size_t engine_waiting(const struct engine *e) { return e->out.len; }

const uint8_t *engine_output(struct engine *e, size_t *n) {
  *n = 0;
  if (!is_on(e) || e->failed) return NULL;
  e->failed = seal_owed(e) != 0;
  if (!e->failed) *n = e->out.len;
  return *n > 0 ? buf_data(&e->out) : NULL;
}

void engine_sent(struct engine *e, size_t n) { buf_consume(&e->out, n); }

/* ---- moving to another process: times go as what has passed, since another process may have another clock ---- */

int engine_hear_again(struct engine *e, const struct writer *frame) {
  size_t len = e->frames.len;
  if (frame->bad || len + frame->len > FRAMES_MAX_BYTES) return ERR_LIMIT;
  uint8_t *end = buf_reserve(&e->frames, frame->len);
  if (end == NULL) return ERR_NOMEM;
  memmove(end - len + frame->len, end - len, len);
  memcpy(end - len, frame->base, frame->len);
  buf_added(&e->frames, frame->len);
  return 0;
}

static void export_all(struct engine *e, struct writer *w) {
  uint64_t now_ms = e->role->now_ms(e);
  write_u8(w, EXPORT_VERSION);
  sealed_export(e->sealed, w);
  e->sealed = NULL;
  write_u64(w, now_ms - e->idle_records.since_ms);
  write_u32(w, e->idle_records.idle);
  write_u32(w, e->idle_records.data);
  write_u64(w, now_ms - e->heard_ms);
  write_u64(w, now_ms - e->spoke_ms);
  write_vec24(w, buf_data(&e->in), e->in.len);
  write_vec24(w, buf_data(&e->frames), e->frames.len);
  write_vec24(w, buf_data(&e->out), e->out.len);
  write_bytes(w, e->id, sizeof e->id);
  write_u8(w, e->keys != NULL);
  if (e->keys != NULL) link_keys_export(e->keys, now_ms, w);
}

int engine_export(struct engine *e, struct buf *state) {
  if (e->state != LINK_UP || e->working) return ERR_NOT_NOW;
  if (e->failed) return ERR_CLOSED;
  size_t n = EXPORT_FIXED_BYTES + e->in.len + e->frames.len + e->out.len;
  if (e->keys != NULL) n += link_keys_export_bytes(e->keys);
  if (n > state->max - state->len) return ERR_LIMIT;
  uint8_t *at = buf_reserve(state, n);
  if (at == NULL) return ERR_NOMEM;
  struct writer w = writer_of(at, n);
  export_all(e, &w);
  ASSERT(!w.bad);
  buf_added(state, w.len);
  engine_stop(e);
  return 0;
}

static uint64_t time_ago(struct engine *e, uint64_t age_ms) {
  uint64_t now_ms = e->role->now_ms(e);
  return age_ms < now_ms ? now_ms - age_ms : 0;
}

static int import_queue(struct buf *b, struct reader *r) {
  struct reader v = read_vec24(r);
  int rc = r->bad ? ERR_SYNTAX : buf_append(b, v.at, v.left);
  return rc == ERR_LIMIT ? ERR_SYNTAX : rc;
}

int engine_import(struct engine *e, const struct engine_role *role, struct reader *r) {
  engine_init(e, role);
  e->state = LINK_UP;
  int rc = read_u8(r) == EXPORT_VERSION ? sealed_import(r, &e->sealed) : ERR_SYNTAX;
  if (rc != 0) return rc;
  e->idle_records.since_ms = time_ago(e, read_u64(r));
  e->idle_records.idle = read_u32(r);
  e->idle_records.data = read_u32(r);
  e->heard_ms = time_ago(e, read_u64(r));
  e->spoke_ms = time_ago(e, read_u64(r));
  rc = import_queue(&e->in, r);
  if (rc == 0) rc = import_queue(&e->frames, r);
  if (rc == 0) rc = import_queue(&e->out, r);
  read_copy(r, e->id, sizeof e->id);
  if (rc == 0 && read_flag(r)) rc = link_keys_import(r, role->now_ms(e), &e->keys);
  return rc == 0 && r->bad ? ERR_SYNTAX : rc;
}
