/* The relay's numbers as text: Prometheus' exposition format and JSON. Some texts in them were chosen by agents: all of
   them pass through json_put_text, whose output is valid JSON and valid UTF-8 whatever the input. */
#include "relay/metrics.h"
#include "base/json_text.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "relay/rights.h"

static void add_one(uint64_t *sum, const uint64_t *one) {
  (void)__atomic_fetch_add(sum, __atomic_load_n(one, __ATOMIC_RELAXED), __ATOMIC_RELAXED);
}

void metrics_add(struct metrics *sum, const struct metrics *one) {
#define X(name, type, help) add_one(&sum->name, &one->name);
  METRIC_ROWS(X)
#undef X
  for (size_t i = 0; i < CLOSE_REASONS; i++) add_one(&sum->streams_closed[i], &one->streams_closed[i]);
  for (int i = NOTICE_NONE + 1; i < NOTICES; i++) add_one(&sum->visitors_refused[i], &one->visitors_refused[i]);
}

static void take_one(uint64_t *from, uint64_t n) { (void)__atomic_fetch_sub(from, n, __ATOMIC_RELAXED); }

void metrics_take(struct metrics *from, const struct metrics *counted) {
#define X(name, type, help) if (strcmp(#type, "counter") == 0) take_one(&from->name, counted->name);
  METRIC_ROWS(X)
#undef X
  for (size_t i = 0; i < CLOSE_REASONS; i++) take_one(&from->streams_closed[i], counted->streams_closed[i]);
  for (int i = NOTICE_NONE + 1; i < NOTICES; i++) take_one(&from->visitors_refused[i], counted->visitors_refused[i]);
}

/* "streams_closed clean" and the like: none of the other names has a space. */
enum { METRIC_NAME_CAP = 64, METRICS_MAX = 256 };
static const char closed[] = "streams_closed ", refused[] = "visitors_refused ";

static void write_metric(struct writer *w, const char *prefix, const char *name, const uint64_t *value) {
  char text[METRIC_NAME_CAP];
  (void)snprintf(text, sizeof text, "%s%s", prefix, name);
  write_text8(w, text);
  write_u64(w, __atomic_load_n(value, __ATOMIC_RELAXED));
}

void metrics_write(const struct metrics *m, struct writer *w) {
#define X(name, type, help) if (strcmp(#type, "counter") == 0) write_metric(w, "", #name, &m->name);
  METRIC_ROWS(X)
#undef X
  for (int i = 0; i < CLOSE_REASONS; i++)
    write_metric(w, closed, close_reason_name((enum close_reason)i), &m->streams_closed[i]);
  for (int i = NOTICE_NONE + 1; i < NOTICES; i++)
    write_metric(w, refused, notice_name((uint16_t)i), &m->visitors_refused[i]);
  write_text8(w, "");
}

static bool is_named(const char *text, const char *prefix, const char *name) {
  size_t n = strlen(prefix);
  return strncmp(text, prefix, n) == 0 && strcmp(text + n, name) == 0;
}

static uint64_t *metric_named(struct metrics *m, const char *text) {
#define X(name, type, help) if (strcmp(#type, "counter") == 0 && strcmp(text, #name) == 0) return &m->name;
  METRIC_ROWS(X)
#undef X
  for (int i = 0; i < CLOSE_REASONS; i++)
    if (is_named(text, closed, close_reason_name((enum close_reason)i))) return &m->streams_closed[i];
  for (int i = NOTICE_NONE + 1; i < NOTICES; i++)
    if (is_named(text, refused, notice_name((uint16_t)i))) return &m->visitors_refused[i];
  return NULL;
}

void metrics_read_add(struct metrics *m, struct reader *r) {
  for (int n = 0; n < METRICS_MAX && !r->bad; n++) {
    char name[METRIC_NAME_CAP];
    read_text8(r, name, sizeof name);
    if (name[0] == '\0') return;
    uint64_t value = read_u64(r), *to = metric_named(m, name);
    if (to != NULL && !r->bad) (void)__atomic_fetch_add(to, value, __ATOMIC_RELAXED);
  }
  r->bad = true;                   /* there is no end */
}

static char *stream_finish(FILE *f, char **text) {
  bool failed = ferror(f) != 0;
  if (fclose(f) != 0 || failed) {
    free(*text);
    return NULL;
  }
  return *text;
}

static void gauge(FILE *f, const char *name, const char *help, uint64_t value) {
  fprintf(f, "# HELP adit_%s %s\n# TYPE adit_%s gauge\nadit_%s %" PRIu64 "\n", name, help, name, name, value);
}

/* A label's value in the exposition format: backslash, quote and newline are escaped. */
static void label_value(FILE *f, const char *text) {
  for (; *text != '\0'; text++) {
    if (*text == '\\' || *text == '"') fputc('\\', f);
    if (*text == '\n') fputs("\\n", f);
    else fputc(*text, f);
  }
}

char *metrics_text(const struct status *s) {
  char *text = NULL;
  size_t n = 0;
  FILE *f = open_memstream(&text, &n);
  if (f == NULL) return NULL;
#define X(name, type, help) \
  fprintf(f, "# HELP adit_%s %s\n# TYPE adit_%s %s\nadit_%s %" PRIu64 "\n", #name, help, #name, #type, #name, \
          s->sum.name);
  METRIC_ROWS(X)
#undef X
  fputs("# HELP adit_visitors_refused_total Visitors refused by the limits of their tunnel's token, its share, or for "
        "load\n"
        "# TYPE adit_visitors_refused_total counter\n",
        f);
  for (uint16_t i = NOTICE_NONE + 1; i < NOTICES; i++)
    fprintf(f, "adit_visitors_refused_total{reason=\"%s\"} %" PRIu64 "\n", notice_name(i), s->sum.visitors_refused[i]);
  fputs("# HELP adit_streams_closed_total Streams that have ended, by reason (of TLS visitors the agent alone sees a "
        "missing close_notify or a malformed record, and what it does then is wire_reset here)\n"
        "# TYPE adit_streams_closed_total counter\n", f);
  for (int i = 0; i < CLOSE_REASONS; i++)
    fprintf(f, "adit_streams_closed_total{reason=\"%s\"} %" PRIu64 "\n", close_reason_name((enum close_reason)i),
            s->sum.streams_closed[i]);
  gauge(f, "descriptors_now", "File descriptors in use", s->descriptors_now);
  gauge(f, "descriptors_max", "Limit of file descriptors", s->descriptors_max);
  gauge(f, "uptime_seconds", "Seconds since the relay started", s->uptime_s);
  gauge(f, "certificate_begins_timestamp_seconds",
        "When the relay's certificate begins to be valid, seconds since 1970",
        s->certificate_begins_s > 0 ? (uint64_t)s->certificate_begins_s : 0);
  gauge(f, "certificate_expires_timestamp_seconds", "When the relay's certificate expires, seconds since 1970",
        (uint64_t)s->certificate_expires_s);
  gauge(f, "certificate_valid", "1 while the relay's clock is within its certificate's time",
        s->certificate_valid ? 1 : 0);
  gauge(f, "draining", "1 while the relay accepts nothing new and lets streams finish", s->draining ? 1 : 0);
  fputs("# HELP adit_build_info Version of the running program\n"
        "# TYPE adit_build_info gauge\nadit_build_info{version=\"", f);
  label_value(f, s->version);
  fputs("\"} 1\n", f);
  return stream_finish(f, &text);
}

static void json_tunnel(FILE *f, const struct status_tunnel *t) {
  fputs("{\"host\":", f);
  json_put_text(f, t->host);
  fputs(",\"owner\":", f);
  json_put_text(f, t->owner);
  fputs(",\"token\":", f);
  json_put_text(f, t->token);
  fputs(",\"agent\":", f);
  json_put_text(f, t->agent);
  fputs(",\"agent_address\":", f);
  json_put_text(f, t->agent_address);
  if (t->tcp_port != 0) fprintf(f, ",\"tcp_port\":%u", (unsigned)t->tcp_port);
  else fputs(",\"tcp_port\":null", f);
  fprintf(f, ",\"streams_now\":%" PRIu64 ",\"streams_total\":%" PRIu64 ",\"age_s\":%" PRIu64 "}", t->streams_now,
          t->streams_total, t->age_s);
}

static void json_rights(FILE *f, const struct rights *r) {
  const char *const parts[][2] = {{"user", r->user}, {"no_new_privileges", r->no_new_privileges},
                                  {"capabilities", r->capabilities}, {"dumpable", r->dumpable},
                                  {"seccomp", r->seccomp}, {"landlock", r->landlock}, {"key_process", r->key_process}};
  for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
    fprintf(f, "%s\"%s\":", i == 0 ? ",\"rights\":{" : ",", parts[i][0]);
    json_put_text(f, parts[i][1]);
  }
  fputc('}', f);
}

char *status_json_begin(const struct status *s) {
  char *text = NULL;
  size_t n = 0;
  FILE *f = open_memstream(&text, &n);
  if (f == NULL) return NULL;
  fputs("{\"version\":", f);
  json_put_text(f, s->version);
  fputs(",\"domain\":", f);
  json_put_text(f, s->domain);
  fprintf(f, ",\"uptime_s\":%" PRIu64 ",\"draining\":%s,\"certificate_expires_at_s\":%" PRId64, s->uptime_s,
          s->draining ? "true" : "false", s->certificate_expires_s);
  fprintf(f, ",\"certificate_begins_at_s\":%" PRId64 ",\"certificate_valid\":%s", s->certificate_begins_s,
          s->certificate_valid ? "true" : "false");
  json_rights(f, s->rights);
  fprintf(f, ",\"descriptors_now\":%" PRIu64 ",\"descriptors_max\":%" PRIu64 ",\"metrics\":{", s->descriptors_now,
          s->descriptors_max);
#define X(name, type, help) fprintf(f, "\"%s\":%" PRIu64 ",", #name, s->sum.name);
  METRIC_ROWS(X)
#undef X
  fputs("\"visitors_refused_total\":{", f);
  for (uint16_t i = NOTICE_NONE + 1; i < NOTICES; i++)
    fprintf(f, "%s\"%s\":%" PRIu64, i == NOTICE_NONE + 1 ? "" : ",", notice_name(i), s->sum.visitors_refused[i]);
  fputs("},\"streams_closed_total\":{", f);
  for (int i = 0; i < CLOSE_REASONS; i++)
    fprintf(f, "%s\"%s\":%" PRIu64, i == 0 ? "" : ",", close_reason_name((enum close_reason)i),
            s->sum.streams_closed[i]);
  fputs("}},\"tunnels\":[", f);
  return stream_finish(f, &text);
}

char *status_json_tunnels(const struct status_tunnel *t, size_t n, bool first) {
  char *text = NULL;
  size_t text_n = 0;
  FILE *f = open_memstream(&text, &text_n);
  if (f == NULL) return NULL;
  for (size_t i = 0; i < n; i++) {
    if (i != 0 || !first) fputc(',', f);
    json_tunnel(f, &t[i]);
  }
  return stream_finish(f, &text);
}

static void json_token(FILE *f, const struct status_token *t) {
  fputs("{\"name\":", f);
  json_put_text(f, t->name);
  fprintf(f, ",\"id\":\"%s\"", t->id);
  if (t->root[0] != '\0') fprintf(f, ",\"root\":\"%s\"", t->root);
  fprintf(f, ",\"streams_now\":%" PRIu64 ",\"streams_total\":%" PRIu64 ",\"bytes_from_visitors\":%" PRIu64
             ",\"bytes_to_visitors\":%" PRIu64 "}",
          t->streams_now, t->streams_total, t->bytes_from_visitors, t->bytes_to_visitors);
}

char *status_json_tokens(const struct status_token *t, size_t n, bool first) {
  char *text = NULL;
  size_t text_n = 0;
  FILE *f = open_memstream(&text, &text_n);
  if (f == NULL) return NULL;
  for (size_t i = 0; i < n; i++) {
    if (i != 0 || !first) fputc(',', f);
    json_token(f, &t[i]);
  }
  return stream_finish(f, &text);
}
