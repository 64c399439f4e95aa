/* Encoder and decoder side by side. */
#include "relay/key_wire.h"

#include <string.h>

#include "base/cursor.h"

int key_frame_whole(const struct buf *b, size_t body_max, size_t *n) {
  const uint8_t *p = buf_data(b);
  *n = 0;
  if (b->len < KEY_FRAME_HEADER_BYTES) return 0;
  size_t body = (size_t)p[0] << 16 | (size_t)p[1] << 8 | p[2];
  if (body == 0 || body > body_max) return ERR_SYNTAX;
  if (b->len - KEY_FRAME_HEADER_BYTES >= body) *n = KEY_FRAME_HEADER_BYTES + body;
  return 0;
}

static void write_ticket(struct writer *w, const struct ticket *t) {
  write_text8(w, t->relay);
  write_bytes(w, t->owner, sizeof t->owner);
  write_text8(w, t->label);
  write_u16(w, t->tcp_port);
  write_u32(w, t->incarnation);
  write_u64(w, (uint64_t)t->expires_s);
}

static void read_ticket(struct reader *r, struct ticket *t) {
  read_text8(r, t->relay, sizeof t->relay);
  read_copy(r, t->owner, sizeof t->owner);
  read_text8(r, t->label, sizeof t->label);
  t->tcp_port = read_u16(r);
  t->incarnation = read_u32(r);
  t->expires_s = (int64_t)read_u64(r);
}

int key_request_write(const struct key_request *r, uint8_t out[KEY_FRAME_HEADER_BYTES + KEY_REQUEST_MAX_BYTES],
                      size_t *n) {
  struct writer w = writer_of(out, KEY_FRAME_HEADER_BYTES + KEY_REQUEST_MAX_BYTES);
  size_t frame = write_open_vec(&w, KEY_FRAME_HEADER_BYTES);
  write_u8(&w, (uint8_t)r->kind);
  if (r->kind == KEY_ISSUE) write_text8(&w, r->host);
  if (r->kind == KEY_SIGN || r->kind == KEY_DROP) write_u64(&w, r->handle);
  if (r->kind == KEY_SIGN) {
    write_u8(&w, (uint8_t)r->scheme.hash);
    write_u8(&w, (uint8_t)r->scheme.padding);
  }
  if (r->kind == KEY_SIGN || r->kind == KEY_TICKET_READ) write_vec16(&w, r->text, r->text_n);
  if (r->kind == KEY_TICKET_MAKE) write_ticket(&w, &r->ticket);
  write_close_vec(&w, frame, KEY_FRAME_HEADER_BYTES);
  *n = w.len;
  return w.bad ? ERR_LIMIT : 0;
}

static void read_text(struct reader *r, struct key_request *out, size_t max) {
  struct reader text = read_vec16(r);
  out->text = text.at;
  out->text_n = text.left;
  if (out->text_n > max) r->bad = true;
}

static void read_signing(struct reader *r, struct key_request *out) {
  out->handle = read_u64(r);
  uint8_t hash = read_u8(r), padding = read_u8(r);
  if (hash >= SIGN_HASHES || padding >= SIGN_PADDINGS) r->bad = true;
  out->scheme = (struct sign_scheme){.hash = (enum sign_hash)hash, .padding = (enum sign_padding)padding};
  read_text(r, out, SIGN_TEXT_MAX_BYTES);
}

int key_request_read(const uint8_t *p, size_t n, struct key_request *r) {
  struct reader in = reader_of(p, n);
  memset(r, 0, sizeof *r);
  uint8_t kind = read_u8(&in);
  if (kind < KEY_LOAD || kind > KEY_TICKET_READ) return ERR_SYNTAX;
  r->kind = (enum key_request_kind)kind;
  if (kind == KEY_ISSUE) read_text8(&in, r->host, sizeof r->host);
  if (kind == KEY_SIGN) read_signing(&in, r);
  if (kind == KEY_DROP) r->handle = read_u64(&in);
  if (kind == KEY_TICKET_READ) read_text(&in, r, TICKET_MAX_BYTES);
  if (kind == KEY_TICKET_MAKE) read_ticket(&in, &r->ticket);
  return reader_done(&in) ? 0 : ERR_SYNTAX;
}

int key_answer_write(const struct key_answer *a, struct buf *out) {
  uint8_t head[KEY_FRAME_HEADER_BYTES + 1024];
  struct writer w = writer_of(head, sizeof head);
  uint8_t *length = write_skip(&w, KEY_FRAME_HEADER_BYTES);
  write_u32(&w, (uint32_t)-a->code);
  write_vec16(&w, a->error, strlen(a->error));
  write_u64(&w, a->handle);
  write_u8(&w, a->pin.kind);
  write_bytes(&w, a->pin.spki_sha256, sizeof a->pin.spki_sha256);
  write_ticket(&w, &a->ticket);
  size_t rest = w.len - KEY_FRAME_HEADER_BYTES + a->n;
  if (w.bad || length == NULL || rest > KEY_ANSWER_MAX_BYTES) return ERR_LIMIT;
  struct writer before = writer_of(length, KEY_FRAME_HEADER_BYTES);
  write_u8(&before, (uint8_t)(rest >> 16));
  write_u16(&before, (uint16_t)rest);
  int rc = buf_append(out, head, w.len);
  return rc == 0 && a->n > 0 ? buf_append(out, a->bytes, a->n) : rc;
}

int key_answer_read(const uint8_t *p, size_t n, struct key_answer *a) {
  struct reader in = reader_of(p, n);
  memset(a, 0, sizeof *a);
  uint32_t code = read_u32(&in);
  struct reader error = read_vec16(&in);
  a->handle = read_u64(&in);
  a->pin.kind = read_u8(&in);
  read_copy(&in, a->pin.spki_sha256, sizeof a->pin.spki_sha256);
  read_ticket(&in, &a->ticket);
  if (in.bad || code > (uint32_t)-ERR_UNSUPPORTED || error.left >= sizeof a->error) return ERR_SYNTAX;
  a->code = -(int)code;
  if (error.left > 0) memcpy(a->error, error.at, error.left);
  a->n = in.left;
  a->bytes = in.at;
  return 0;
}
