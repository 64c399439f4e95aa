/* What `adit forward` says: to a person at a terminal, to a log, or to a program that reads JSON lines. Every line is
   flushed. */
#ifndef CLI_TELL_H
#define CLI_TELL_H

#include <stdio.h>

#include "adit.h"
#include "base/words.h"
#include "cli/live.h"

enum tell_mode { TELL_TERMINAL, TELL_PLAIN, TELL_JSON };

struct tell {
  enum tell_mode mode;
  FILE *to;
  uint64_t start_us;               /* when the process started */
  bool embedded_told;
  bool live_drawn;
  struct live live;
  char last_problem[512];          /* so that several tunnels that end for one reason say it once */
};

/* Which app it is about. */
struct tell_app {
  const char *text, *name;         /* its address, NULL: all of them; and what it is called, NULL: nothing */
  uint16_t port;                   /* 0: a Unix socket */
};
enum { TELL_APP_CHARS = 384 };
void tell_app_format(const struct tell_app *app, char *out, size_t cap);   /* "web at localhost:8000" */

/* What the address of one tunnel is, as it is told. */
struct tell_open {
  struct tell_app app;
  const char *url, *host, *tcp_host, *relay, *relay_socket, *ca_file;
  uint16_t port, tcp_port;
  bool embedded;                   /* the relay is one for this machine only */
  bool again;                      /* it was open before, at another address */
};

/* From here on all is told there: on standard error where a command has the output. */
void tell_begin(struct tell *t, enum tell_mode mode, enum words_place place);
void tell_open(struct tell *t, const struct tell_open *open, uint64_t now_us);
/* kind: "reconnecting", "restored", "warning", "superseded", "closed". problem: people are told on stderr as well. */
void tell_event(struct tell *t, const char *kind, const struct tell_app *app, const char *reason, const char *text,
                bool problem);
/* Draws the live line anew (terminal only), or takes it away. */
void tell_live(struct tell *t, unsigned columns);
void tell_live_clear(struct tell *t);

/* The JSON line of an open tunnel, and text as one word of a shell: pure, for tests. */
void tell_open_json(FILE *to, const struct tell_open *open, double open_ms);
void tell_shell_word(FILE *to, const char *text);

#endif
