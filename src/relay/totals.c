/* See the header. The operator's tokens are written before those that were narrowed from them: whoever reads them needs
   the parent's record to make the child's. */
#include "relay/totals.h"

#include <string.h>

#include "relay/registry.h"
#include "relay/report.h"
#include "relay/worker.h"

enum {
  EXPORT_MAGIC = 0x61647431,       /* "adt1" */
  EXPORT_VERSION = 1,
  USAGE_BYTES = 1 + 2 * TOKEN_ID_BYTES + 1 + CHAIN_NAME_CAP + 3 * 8,
  BATCH_BYTES = REGISTRY_STEPS_MAX * USAGE_BYTES
};
_Static_assert((int)CHAIN_NAME_CAP <= UINT8_MAX, "a name's length is a byte");

static void write_usage(struct writer *w, const struct usage *u) {
  write_u8(w, 1);
  write_bytes(w, u->id, sizeof u->id);
  write_bytes(w, u->root_id, sizeof u->root_id);
  write_text8(w, u->name);
  write_u64(w, u->streams_total);
  write_u64(w, u->from_visitors.bytes);
  write_u64(w, u->to_visitors.bytes);
}

static int append(struct buf *state, const struct writer *w) {
  ASSERT(!w->bad);
  return buf_append(state, w->base, w->len);
}

static int export_usages(struct registry *g, struct roster_walk *walk, struct buf *state) {
  struct usage some[REGISTRY_STEPS_MAX];
  uint8_t bytes[BATCH_BYTES];
  size_t n;
  int rc = 0;
  while (rc == 0 && (n = registry_walk_usages(g, walk, some)) > 0) {
    struct writer w = writer_of(bytes, sizeof bytes);
    for (size_t i = 0; i < n; i++) write_usage(&w, &some[i]);
    rc = append(state, &w);
  }
  return rc;
}

static int export_metrics(const struct relay *r, struct buf *state) {
  uint8_t bytes[METRICS_WRITE_BYTES + 8];
  struct writer w = writer_of(bytes, sizeof bytes);
  struct metrics sum = report_sum(r);
  write_u32(&w, EXPORT_MAGIC);
  write_u8(&w, EXPORT_VERSION);
  metrics_write(&sum, &w);
  return append(state, &w);
}

static void read_usage(struct reader *r, struct usage *u) {
  *u = (struct usage){.streams_now = 0};
  read_copy(r, u->id, sizeof u->id);
  read_copy(r, u->root_id, sizeof u->root_id);
  read_text8(r, u->name, sizeof u->name);
  u->streams_total = read_u64(r);
  u->from_visitors.bytes = read_u64(r);
  u->to_visitors.bytes = read_u64(r);
}

/* NULL: only looks whether it is well-formed. */
static int each_usage(struct registry *g, struct reader *r, int (*act)(struct registry *, const struct usage *)) {
  int rc = 0;
  while (rc == 0 && read_flag(r)) {
    struct usage u;
    read_usage(r, &u);
    if (r->bad) break;
    if (act != NULL) rc = act(g, &u);
  }
  return rc == 0 && !reader_done(r) ? ERR_SYNTAX : rc;
}

/* Of any bytes: the counters, and where those of tokens begin. */
static int read_totals(struct reader r, struct metrics *m, struct reader *usages) {
  bool known = read_u32(&r) == EXPORT_MAGIC;
  known = read_u8(&r) == EXPORT_VERSION && known;
  if (!known) return ERR_SYNTAX;
  *m = (struct metrics){0};
  metrics_read_add(m, &r);
  *usages = r;
  return r.bad ? ERR_SYNTAX : each_usage(NULL, &r, NULL);
}

void totals_forget(struct relay *relay, const uint8_t *state, size_t n) {
  struct metrics m;
  struct reader usages;
  int rc = read_totals(reader_of(state, n), &m, &usages);
  ASSERT(rc == 0);
  metrics_take(&relay->workers[0].metrics, &m);
  (void)!each_usage(relay->registry, &usages, registry_take_usage);
}

int totals_export(struct relay *r, struct buf *state) {
  static const uint8_t end;
  struct registry_walk walk;
  size_t before = state->len;
  int rc = export_metrics(r, state);
  registry_walk_begin(r->registry, &walk);
  if (rc == 0) rc = export_usages(r->registry, &walk.tokens, state);
  if (rc == 0) rc = export_usages(r->registry, &walk.narrowed, state);
  registry_walk_end(r->registry, &walk);
  if (rc == 0) rc = buf_append(state, &end, 1);
  if (rc != 0) buf_cut(state, before);
  return rc;
}

int totals_import(struct relay *relay, const uint8_t *state, size_t n) {
  struct metrics m;
  struct reader usages;
  int rc = read_totals(reader_of(state, n), &m, &usages);
  if (rc != 0) return rc;
  metrics_add(&relay->workers[0].metrics, &m);
  return each_usage(relay->registry, &usages, registry_add_usage);
}
