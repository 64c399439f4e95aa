/* See tell.h. In every mode exactly what was promised goes to stdout, and nothing else. */
#include "cli/tell.h"

#include <inttypes.h>
#include <string.h>

#include "base/json_text.h"
#include "base/limits.h"
#include "cli/json.h"

static const char embedded_note[] = "no relay configured: an embedded relay gives an address that works on this "
                                    "machine only "
                                    "(adit login makes it public)";

void tell_shell_word(FILE *to, const char *text) {
  static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./:@%+,=";
  if (*text != 0 && strspn(text, plain) == strlen(text)) {
    (void)fputs(text, to);
    return;
  }
  (void)fputc('\'', to);
  for (; *text != 0; text++) {
    if (*text == '\'')
      (void)fputs("'\\''", to);
    else
      (void)fputc(*text, to);
  }
  (void)fputc('\'', to);
}

static void put_socket(FILE *to, const char *host, uint16_t port) {
  if (host == NULL || port == 0) {
    (void)fputs("null", to);
    return;
  }
  (void)fputc('[', to);
  json_put_text(to, host);
  (void)fprintf(to, ",%u]", port);
}

void tell_app_format(const struct tell_app *app, char *out, size_t cap) {
  (void)snprintf(out, cap, "%s%s%s", app->name != NULL ? app->name : "", app->name != NULL ? " at " : "", app->text);
}

/* A Unix socket has no port; what concerns all apps has neither. */
static void put_port(FILE *to, const struct tell_app *app) {
  if (app->port != 0) (void)fprintf(to, "\"port\":%u", app->port);
  else (void)fputs("\"port\":null", to);
}

static void put_app(FILE *to, const struct tell_app *app) {
  (void)fputs(",\"app\":", to);
  json_put_text(to, app->text);
  (void)fputs(",\"name\":", to);
  json_put_text(to, app->name);
}

void tell_open_json(FILE *to, const struct tell_open *open, double open_ms) {
  (void)fputs("{\"event\":\"open\",", to);
  put_port(to, &open->app);
  (void)fputs(",\"url\":", to);
  json_put_text(to, open->url);
  (void)fputs(",\"tls_socket\":", to);
  put_socket(to, open->host, open->port);
  (void)fputs(",\"tcp_socket\":", to);
  put_socket(to, open->tcp_host, open->tcp_port);
  (void)fputs(",\"relay\":", to);
  json_put_text(to, open->relay);
  (void)fputs(",\"relay_socket\":", to);
  json_put_text(to, open->relay_socket);
  (void)fprintf(to, ",\"embedded\":%s,\"open_ms\":%.1f", open->embedded ? "true" : "false", open_ms);
  put_app(to, &open->app);
  (void)fputs("}\n", to);
}

static void put_curl(FILE *to, const struct tell_open *open) {
  (void)fputs("curl --cacert ", to);
  tell_shell_word(to, open->ca_file);
  (void)fputc(' ', to);
  tell_shell_word(to, open->url);
}

/* Who finds names under .localhost (RFC 6761 6.3 leaves it to the resolver), and what to do for the others. */
static void put_localhost_note(FILE *to, const struct tell_open *open) {
  (void)fprintf(to, "browsers and curl find names under .localhost; ssh, Python and wget mostly do not "
                    "(connect them to 127.0.0.1:%u with %s as TLS server name, or add \"127.0.0.1 %s\" to /etc/hosts)",
                open->port, open->host, open->host);
}

static void tell_embedded_log(const struct tell_open *open, bool first) {
  if (first) (void)fprintf(words_err(), "adit: %s\n", embedded_note);
  if (open->ca_file == NULL) return;
  (void)fputs("adit: try: ", words_err());
  put_curl(words_err(), open);
  (void)fputs("\nadit: ", words_err());
  put_localhost_note(words_err(), open);
  (void)fputc('\n', words_err());
}

static void tell_open_text(struct tell *t, const struct tell_open *open, double open_ms, bool first) {
  char app[TELL_APP_CHARS];
  tell_app_format(&open->app, app, sizeof app);
  if (open->embedded && first) (void)fprintf(t->to, "%s\n", embedded_note);
  (void)fprintf(t->to, "%s -> %s ", open->url, app);
  if (open->again)
    (void)fputs("(a new address)\n", t->to);
  else
    (void)fprintf(t->to, "(%.1f ms)\n", open_ms);
  if (open->tcp_host != NULL) (void)fprintf(t->to, "tcp %s:%u -> %s\n", open->tcp_host, open->tcp_port, app);
  if (!open->embedded || open->ca_file == NULL) return;
  (void)fputs("  ", t->to);
  put_curl(t->to, open);
  if (first) {
    (void)fputs("\n  ", t->to);
    put_localhost_note(t->to, open);
  }
  (void)fputc('\n', t->to);
}

void tell_open(struct tell *t, const struct tell_open *open, uint64_t now_us) {
  double open_ms = (double)(now_us - t->start_us) / 1000.0;
  bool first = !t->embedded_told;
  t->embedded_told = true;
  tell_live_clear(t);
  if (t->mode == TELL_JSON) {
    tell_open_json(t->to, open, open_ms);
    (void)fflush(t->to);
    if (open->embedded) tell_embedded_log(open, first);
  } else {
    tell_open_text(t, open, open_ms, first);
    (void)fflush(t->to);
  }
}

/* What stands where events are missing. */
static size_t put_loss_json(uint64_t lines, char out[WORDS_NOTE_CAP]) {
  return (size_t)snprintf(
      out, WORDS_NOTE_CAP,
      "{\"event\":\"warning\",\"port\":null,\"reason\":\"lines_lost\",\"text\":\"lines left out here, "
      "which could not be written or nobody read: %" PRIu64 "\"}\n",
      lines);
}

void tell_begin(struct tell *t, enum tell_mode mode, enum words_place place) {
  words_flow();
  t->to = place == WORDS_OUT ? words_out() : words_err();
  t->mode = mode;
  if (mode == TELL_JSON) words_tell_loss(place, put_loss_json);
}

static void put_event_json(FILE *to, const char *kind, const struct tell_app *app, const char *reason,
                           const char *text) {
  (void)fputs("{\"event\":", to);
  json_put_text(to, kind);
  (void)fputc(',', to);
  put_port(to, app);
  (void)fputs(",\"reason\":", to);
  json_put_text(to, reason);
  (void)fputs(",\"text\":", to);
  json_put_text(to, text);
  put_app(to, app);
  (void)fputs("}\n", to);
  (void)fflush(to);
}

void tell_event(struct tell *t, const char *kind, const struct tell_app *app, const char *reason, const char *text,
                bool problem) {
  tell_live_clear(t);
  if (t->mode == TELL_JSON) put_event_json(t->to, kind, app, reason, text);
  if (!problem || text == NULL || strcmp(text, t->last_problem) == 0) return;
  (void)snprintf(t->last_problem, sizeof t->last_problem, "%s", text);
  (void)fprintf(words_err(), "adit: %s\n", text);
}

/* The cursor rests where the line begins, and all below it is ours. A terminal that becomes narrower either cuts the
   line or wraps it onto rows below; either way the cursor stays with the line's first character, so that one erasure
   from there on takes it all away, without our knowing how many rows it has. */
static const char live_erase[] = "\r\033[J";

void tell_live(struct tell *t, unsigned columns) {
  char line[256];
  if (t->mode != TELL_TERMINAL || words_waiting(WORDS_OUT) > LIVE_WAITING_MAX_BYTES) return;
  live_format(&t->live, columns, line, sizeof line);
  /* No wrapping meanwhile: the terminal may have become narrower since its width was asked. */
  (void)fprintf(t->to, "%s\033[?7l%s\033[?7h\r", live_erase, line);
  (void)fflush(t->to);
  t->live_drawn = true;
}

void tell_live_clear(struct tell *t) {
  if (!t->live_drawn) return;
  (void)fputs(live_erase, t->to);
  (void)fflush(t->to);
  t->live_drawn = false;
}
