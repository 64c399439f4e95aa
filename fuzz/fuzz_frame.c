/* The control link's frames, as a stream. What decodes must encode again, and decode to the same once more. */
#include <stdint.h>
#include <string.h>

#include "wire/frame.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint8_t first[FRAME_HEADER_BYTES + FRAME_BODY_MAX_BYTES], second[sizeof first];

union message {
  struct frame_hello hello;
  struct frame_welcome welcome;
  struct frame_bind bind;
  struct frame_bound bound;
  struct frame_unbound unbound;
  struct frame_goodbye goodbye;
  struct frame_ticket ticket;
  struct frame_notice notice;
  struct frame_revoke revoke;
  struct frame_revoked revoked;
  uint32_t id;
  uint16_t count;
  uint64_t cookie;
};

static int decode(uint8_t type, struct reader body, union message *m) {
  switch (type) {
    case FRAME_HELLO: return frame_hello_decode(body, &m->hello);
    case FRAME_WELCOME: return frame_welcome_decode(body, &m->welcome);
    case FRAME_BIND: return frame_bind_decode(body, &m->bind);
    case FRAME_BOUND: return frame_bound_decode(body, &m->bound);
    case FRAME_UNBIND: return frame_unbind_decode(body, &m->id);
    case FRAME_UNBOUND: return frame_unbound_decode(body, &m->unbound);
    case FRAME_WANT: return frame_want_decode(body, &m->count);
    case FRAME_PING:
    case FRAME_PONG: return frame_ping_decode(body, &m->cookie);
    case FRAME_GOODBYE: return frame_goodbye_decode(body, &m->goodbye);
    case FRAME_TICKET: return frame_ticket_decode(body, &m->ticket);
    case FRAME_NOTICE: return frame_notice_decode(body, &m->notice);
    case FRAME_SHORT: return frame_short_decode(body, &m->count);
    case FRAME_ARRIVED: return frame_arrived_decode(body, &m->cookie);
    case FRAME_REVOKE: return frame_revoke_decode(body, &m->revoke);
    case FRAME_REVOKED: return frame_revoked_decode(body, &m->revoked);
    default: return ERR_UNSUPPORTED;
  }
}

static void encode(uint8_t type, const union message *m, struct writer *w) {
  switch (type) {
    case FRAME_HELLO: frame_hello_encode(w, &m->hello); break;
    case FRAME_WELCOME: frame_welcome_encode(w, &m->welcome); break;
    case FRAME_BIND: frame_bind_encode(w, &m->bind); break;
    case FRAME_BOUND: frame_bound_encode(w, &m->bound); break;
    case FRAME_UNBIND: frame_unbind_encode(w, m->id); break;
    case FRAME_UNBOUND: frame_unbound_encode(w, &m->unbound); break;
    case FRAME_WANT: frame_want_encode(w, m->count); break;
    case FRAME_PING:
    case FRAME_PONG: frame_ping_encode(w, (enum frame_type)type, m->cookie); break;
    case FRAME_GOODBYE: frame_goodbye_encode(w, &m->goodbye); break;
    case FRAME_TICKET: frame_ticket_encode(w, &m->ticket); break;
    case FRAME_NOTICE: frame_notice_encode(w, &m->notice); break;
    case FRAME_SHORT: frame_short_encode(w, m->count); break;
    case FRAME_ARRIVED: frame_arrived_encode(w, m->cookie); break;
    case FRAME_REVOKE: frame_revoke_encode(w, &m->revoke); break;
    case FRAME_REVOKED: frame_revoked_encode(w, &m->revoked); break;
    default: break;
  }
}

static void check_frame(const struct frame *f) {
  union message m, again;
  struct frame g;
  if (decode(f->type, f->body, &m) != 0) return;
  if (f->type == FRAME_BIND) {
    (void)alpn_contains(m.bind.alpn, m.bind.alpn_n, "h2");
    if (alpn_check(m.bind.alpn, m.bind.alpn_n) != 0) (void)alpn_contains(m.bind.alpn, m.bind.alpn_n, "http/1.1");
  }
  struct writer w = writer_of(first, sizeof first), v = writer_of(second, sizeof second);
  encode(f->type, &m, &w);
  ASSERT(!w.bad && frame_next(first, w.len, FRAME_BODY_MAX_BYTES, &g) == 1 && g.total == w.len && g.type == f->type);
  ASSERT(g.body.left <= f->body.left); /* trailing bytes of a later version are left out */
  ASSERT(decode(g.type, g.body, &again) == 0);
  encode(f->type, &again, &v);
  ASSERT(!v.bad && v.len == w.len && memcmp(first, second, w.len) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  struct frame f;
  while (frame_next(data, size, FRAME_BODY_MAX_BYTES, &f) == 1) {
    check_frame(&f);
    data += f.total;
    size -= f.total;
  }
  return 0;
}
