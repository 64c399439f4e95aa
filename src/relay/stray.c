/* See the header. The preface's MAC is not checked here: the link's key has left with the link, and the process that
   takes the connection in has it. */
#include "relay/stray.h"

#include <stdlib.h>

#include "relay/warm.h"

enum {
  EXPORT_MAGIC = 0x61647931,       /* "ady1" */
  EXPORT_VERSION = 1,
  EXPORT_FIXED_BYTES = 5 + PREFACE_BYTES
};

struct stray {
  struct list node;
  struct data_connection data;
  struct preface preface;
};

bool stray_keep(struct worker *w, const struct data_connection *data, const struct preface *p) {
  if (!relay_hands_over(w->relay) || w->strays_n >= STRAYS_MAX) return false;
  struct stray *s = calloc(1, sizeof *s);
  if (s == NULL) return false;
  s->data = *data;
  s->preface = *p;
  list_push_tail(&w->strays, &s->node);
  w->strays_n++;
  return true;
}

/* Its connection is the caller's. */
static struct stray *stray_take(struct worker *w) {
  struct stray *s = CONTAINER_OF(w->strays.next, struct stray, node);
  list_remove(&s->node);
  w->strays_n--;
  return s;
}

void strays_come_home(struct worker *w) {
  while (!list_empty(&w->strays)) {
    struct stray *s = stray_take(w);
    warm_arrived(w, s->data.wire, &s->preface);
    free(s);
  }
}

void strays_close(struct worker *w) {
  while (!list_empty(&w->strays)) {
    struct stray *s = stray_take(w);
    data_connection_close(&s->data);
    free(s);
  }
}

int stray_export(struct worker *w, struct buf *state, int *fd) {
  if (list_empty(&w->strays)) return ERR_CLOSED;
  const struct stray *first = CONTAINER_OF(w->strays.next, struct stray, node);
  size_t n = EXPORT_FIXED_BYTES + wrap_export_bytes(first->data.wire.outer);
  if (n > state->max - state->len) return ERR_LIMIT;
  uint8_t *at = buf_reserve(state, n);
  if (at == NULL) return ERR_NOMEM;
  struct writer to = writer_of(at, n);
  struct stray *s = stray_take(w);
  write_u32(&to, EXPORT_MAGIC);
  write_u8(&to, EXPORT_VERSION);
  write_bytes(&to, s->preface.link_id, sizeof s->preface.link_id);
  write_u64(&to, s->preface.number);
  write_bytes(&to, s->preface.mac, sizeof s->preface.mac);
  wrap_export(s->data.wire.outer, &to);
  ASSERT(!to.bad);
  buf_added(state, to.len);
  *fd = s->data.wire.fd;
  free(s);
  return 0;
}

int stray_import(struct worker *w, const uint8_t *state, size_t n, int fd) {
  struct reader r = reader_of(state, n);
  struct preface p;
  struct wire wire = {.fd = fd};
  bool known = read_u32(&r) == EXPORT_MAGIC;
  known = read_u8(&r) == EXPORT_VERSION && known;
  read_copy(&r, p.link_id, sizeof p.link_id);
  p.number = read_u64(&r);
  read_copy(&r, p.mac, sizeof p.mac);
  if (!known || r.bad) return ERR_SYNTAX;
  int rc = wrap_import(&r, &wire.outer);
  if (rc != 0) return rc;
  if (!reader_done(&r)) {
    wrap_free(wire.outer);
    return ERR_SYNTAX;
  }
  warm_arrived(w, wire, &p);
  return 0;
}
