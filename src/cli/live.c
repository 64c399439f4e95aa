/* See live.h. */
#include "cli/live.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/text.h"

static uint64_t rate(uint64_t before, uint64_t after, uint64_t ms) {
  if (after <= before || ms == 0) return 0;
  uint64_t bytes = after - before;
  return bytes > UINT64_MAX / 1000 ? bytes / ms * 1000 : bytes * 1000 / ms;
}

void live_update(struct live *l, uint64_t now_ms, uint64_t visitors_now, uint64_t visitors_total, uint64_t to_app_bytes,
                 uint64_t from_app_bytes) {
  l->visitors_now = visitors_now;
  l->visitors_total = visitors_total;
  if (l->at_ms != 0 && now_ms < l->at_ms + LIVE_RATE_MS) return;
  if (l->at_ms != 0) {
    l->to_app_per_s = rate(l->to_app_bytes, to_app_bytes, now_ms - l->at_ms);
    l->from_app_per_s = rate(l->from_app_bytes, from_app_bytes, now_ms - l->at_ms);
  }
  l->to_app_bytes = to_app_bytes;
  l->from_app_bytes = from_app_bytes;
  l->at_ms = now_ms;
}

static const char *link_text(enum live_link link) {
  switch (link) {
    case LIVE_CONNECTING: return "connecting";
    case LIVE_UP: return "link up";
    case LIVE_RECONNECTING: return "link lost, reconnecting";
  }
  return "";
}

/* Appends a part with a separator, if the line then still has fewer than `columns` characters. */
static void add_part(char *out, size_t cap, unsigned columns, const char *part) {
  size_t used = strlen(out), need = strlen(part) + (used > 0 ? 3 : 0);
  size_t room = size_min(cap, columns);
  if (used + need >= room) return;
  (void)snprintf(out + used, cap - used, "%s%s", used > 0 ? " | " : "", part);
}

static void traffic_text(const char *direction, uint64_t bytes, uint64_t per_s, char *out, size_t cap) {
  char sum[32], speed[32];
  text_of_bytes(bytes, sum, sizeof sum);
  text_of_bytes(per_s, speed, sizeof speed);
  (void)snprintf(out, cap, "%s %s, %s/s", direction, sum, speed);
}

void live_format(const struct live *l, unsigned columns, char *out, size_t cap) {
  char part[128];
  if (cap == 0) return;
  out[0] = 0;
  add_part(out, cap, columns, link_text(l->link));
  (void)snprintf(part, sizeof part, "%" PRIu64 " visitor%s, %" PRIu64 " in all", l->visitors_now,
                 l->visitors_now == 1 ? "" : "s", l->visitors_total);
  add_part(out, cap, columns, part);
  traffic_text("to app", l->to_app_bytes, l->to_app_per_s, part, sizeof part);
  add_part(out, cap, columns, part);
  traffic_text("from app", l->from_app_bytes, l->from_app_per_s, part, sizeof part);
  add_part(out, cap, columns, part);
}
