/* See the header. */
#include "relay/parcel.h"

#include "relay/control.h"
#include "relay/raw.h"
#include "relay/stray.h"
#include "relay/stream.h"
#include "relay/visitor.h"
#include "relay/warm.h"

_Static_assert((int)CONTROL_EXPORT_MAX_BYTES <= (int)PARCEL_MAX_BYTES - PARCEL_NUMBER_BYTES &&
                   (int)STREAM_EXPORT_MAX_BYTES <= (int)PARCEL_MAX_BYTES - PARCEL_NUMBER_BYTES,
               "whatever is exported fits");

static struct parcel *parcel_of(const struct worker *w, enum carrier_kind kind) {
  uint8_t number[PARCEL_NUMBER_BYTES];
  struct writer writer = writer_of(number, sizeof number);
  struct parcel *p = parcel_new(kind);
  if (p == NULL) return NULL;
  write_u32(&writer, (uint32_t)(w - w->relay->workers));
  if (buf_append(&p->state, number, sizeof number) == 0) return p;
  parcel_free(p);
  return NULL;
}

/* Packing */

static int pack_warm(struct link *l, struct list *to) {
  struct parcel *p = parcel_of(l->worker, CARRIER_WARM);
  return p == NULL ? ERR_NOMEM : parcel_end(p, warm_export(l, &p->state, &p->fds[0]), 1, to);
}

static int pack_link(struct link *l, struct list *to) {
  struct parcel *p = parcel_of(l->worker, CARRIER_LINK);
  return p == NULL ? ERR_NOMEM : parcel_end(p, control_export(l, &p->state, &p->fds[0]), 1, to);
}

static int pack_raw(struct worker *w, struct list *to) {
  struct parcel *p = parcel_of(w, CARRIER_RAW);
  if (p == NULL) return ERR_NOMEM;
  size_t n = 0;
  int rc = raw_export(w, &p->state, p->fds, &n);
  return parcel_end(p, rc, n, to);
}

static int pack_visitor(struct worker *w, struct list *to) {
  struct parcel *p = parcel_of(w, CARRIER_VISITOR);
  return p == NULL ? ERR_NOMEM : parcel_end(p, visitor_export(w, &p->state, &p->fds[0]), 1, to);
}

static int pack_stray(struct worker *w, struct list *to) {
  struct parcel *p = parcel_of(w, CARRIER_STRAY);
  return p == NULL ? ERR_NOMEM : parcel_end(p, stray_export(w, &p->state, &p->fds[0]), 1, to);
}

static int pack_stream(struct worker *w, struct stream *s, struct list *to) {
  struct parcel *p = parcel_of(w, CARRIER_STREAM);
  return p == NULL ? ERR_NOMEM : parcel_end(p, stream_export(s, &p->state, &p->fds[0], &p->fds[1]), 2, to);
}

void parcels_pack_control(struct worker *w, struct list *to) {
  LIST_FOREACH(&w->links, it) {
    struct link *l = CONTAINER_OF(it, struct link, node);
    if (l->engine.state != LINK_UP) continue;
    while (pack_warm(l, to) == 0) continue;
    (void)!pack_link(l, to);       /* else it is tried again */
  }
  while (pack_raw(w, to) == 0) continue;
  while (pack_visitor(w, to) == 0) continue;
  while (pack_stray(w, to) == 0) continue;
}

void parcels_pack_streams(struct worker *w, struct list *to) {
  struct stream *s;
  for (int i = 0; i < PARCELS_PER_BATCH_MAX && (s = stream_any(w)) != NULL; i++) {
    if (pack_stream(w, s, to) != 0) return;
  }
}

bool parcels_are_left(struct worker *w) {
  return !list_empty(&w->streams) || !list_empty(&w->links) || !list_empty(&w->doors) || !list_empty(&w->visitors) ||
         !list_empty(&w->wrapped) || !list_empty(&w->strays);
}

/* Unpacking */

struct worker *parcel_worker(struct relay *r, enum carrier_kind kind, const uint8_t *body, size_t n) {
  struct reader b = reader_of(body, n);
  uint32_t number = read_u32(&b);
  if (b.bad) return NULL;
  return kind == CARRIER_RAW ? raw_import_at(r, b.at, b.left) : &r->workers[number % r->workers_n];
}

int parcel_unpack(struct worker *w, enum carrier_kind kind, const uint8_t *body, size_t n, const int *fds,
                  size_t fds_n) {
  if (n < PARCEL_NUMBER_BYTES) return ERR_SYNTAX;
  const uint8_t *state = body + PARCEL_NUMBER_BYTES;
  size_t bytes = n - PARCEL_NUMBER_BYTES;
  switch (kind) {
    case CARRIER_LINK: return control_import(w, state, bytes, fds[0]);
    case CARRIER_WARM: return warm_import(w, state, bytes, fds[0]);
    case CARRIER_RAW: return raw_import(w, state, bytes, fds, fds_n);
    case CARRIER_VISITOR: return visitor_import(w, state, bytes, fds[0]);
    case CARRIER_STRAY: return stray_import(w, state, bytes, fds[0]);
    case CARRIER_STREAM: return stream_import(w, state, bytes, fds[0], fds[1]);
    default: return ERR_SYNTAX;
  }
}
