/* `adit forward`: opens tunnels through the public library and tells what happens to them. The hard thing: one loop
   serves the library's events, signals, the live line and the command behind "--", and whatever ends first, everything
   ends in order. */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "adit.h"
#include "base/clock.h"
#include "base/dial_address.h"
#include "base/descriptors.h"
#include "base/environment.h"
#include "base/cursor.h"
#include "base/heap.h"
#include "base/home.h"
#include "base/limits.h"
#include "base/secret.h"
#include "base/signals.h"
#include "base/words.h"
#include "cli/command.h"
#include "cli/config_file.h"
#include "cli/renewal.h"
#include "cli/runner.h"
#include "cli/tell.h"
#include "cli/token_file.h"

extern char **environ;

enum { WAIT_MAX_S = 365 * 24 * 3600 };

struct forward_arguments {
  bool unencrypted, h2, proxy_protocol, json;
  const char *alpn, *ca, *keep, *link, *data, *take_over;
  char *proxy;                     /* a copy: it may hold a password */
  struct option_list allow, deny, names, relays, token_files;
  uint64_t app_wait_ms, wait_ms;   /* wait_ms: 0: not at all; UINT64_MAX: without end */
  char *tokens[OPTION_LIST_MAX];   /* copies: those in argv are wiped */
  size_t tokens_n;
};

static int take_token(void *target, const char *value, struct err *e) {
  struct forward_arguments *a = target;
  if (a->tokens_n == OPTION_LIST_MAX)
    return err_set(e, ERR_USAGE, "given more than %d times (leave some out)", OPTION_LIST_MAX);
  a->tokens[a->tokens_n] = strdup(value);
  if (a->tokens[a->tokens_n] == NULL) return err_set(e, ERR_NOMEM, "out of memory");
  a->tokens_n++;
  return 0;
}

static int take_proxy(void *target, const char *value, struct err *e) {
  struct forward_arguments *a = target;
  a->proxy = strdup(value);
  return a->proxy != NULL ? 0 : err_set(e, ERR_NOMEM, "out of memory");
}

#define AT(member) .offset = offsetof(struct forward_arguments, member)
static const struct option_row forward_rows[] = {
  {.name = "unencrypted", .kind = OPTION_FLAG, AT(unencrypted),
   .help = "Open a raw TCP port on the relay, too, for protocols without TLS such as ssh."},
  {.name = "alpn", .value = "LIST", .kind = OPTION_TEXT, AT(alpn),
   .help = "Comma-separated protocols offered to visitors (default: http/1.1)."},
  {.name = "h2", .kind = OPTION_FLAG, AT(h2), .help = "Offer HTTP/2 to visitors; the app gets it in clear (h2c)."},
  {.name = "relay", .value = "HOST:PORT|unix:PATH", .kind = OPTION_LIST, AT(relays),
   .help = "Dial this relay instead of those in the token; of several the nearest is used. Behind a Unix socket is the "
           "first relay in the token; no proxy is used for it, and data goes inside TLS."},
  {.name = "token", .value = "TOKEN", .kind = OPTION_CALL, .set = take_token, .many = true, .secret = true,
   .help = "The token to open tunnels with (default: ADIT_TOKEN, then what adit login stored). Wiped from the "
           "argument list at once, but --token-file leaves no trace in a shell's history either."},
  {.name = "token-file", .value = "FILE", .kind = OPTION_LIST, AT(token_files), .help = "Read a token from FILE."},
  {.name = "ca", .value = "FILE", .kind = OPTION_TEXT, AT(ca),
   .help = "PEM authorities to trust, instead of the system's, for relays with a public certificate."},
  {.name = "proxy", .value = "URL|none", .kind = OPTION_CALL, .set = take_proxy, .secret = true,
   .help = "Reach relays through this HTTP proxy, http://USER:PASSWORD@HOST:PORT or https://... (default: what the "
           "configuration, HTTPS_PROXY or ALL_PROXY says, but for a relay on this machine). Hosts in NO_PROXY are "
           "dialled straight. Wiped from the argument list at once."},
  {.name = "proxy-protocol", .kind = OPTION_FLAG, AT(proxy_protocol),
   .help = "Give the app a PROXY v2 header with the visitor's address."},
  {.name = "allow", .value = "CIDR", .kind = OPTION_LIST, AT(allow),
   .help = "Let in only visitors from this address block."},
  {.name = "deny", .value = "CIDR", .kind = OPTION_LIST, AT(deny),
   .help = "Let in no visitors from this address block, also if they are allowed."},
  {.name = "app-wait", .value = "DURATION", .kind = OPTION_DURATION, AT(app_wait_ms), .min = 0, .max = APP_WAIT_MAX_MS,
   .help = "How long a visitor waits for an app that has not been there yet (default: 10s; at most 10m); then it is "
           "reset."},
  {.name = "name", .value = "NAME", .kind = OPTION_LIST, AT(names),
   .help = "What to call the app in messages and events; of several apps one for each, in their order."},
  {.name = "keep", .value = "FILE", .kind = OPTION_TEXT, AT(keep),
   .help = "Keep the address in FILE, so that a restart gets it back. Of several apps each has a file of its own, "
           "FILE.PORT, or FILE.NAME of a Unix socket of that name. Of an address that the relay takes no more the "
           "ticket stays, as FILE.old."},
  {.name = "link", .value = "sealed|plain", .kind = OPTION_CHOICE, AT(link), .choices = "sealed|plain",
   .help = "With plain, and a relay that allows it, bytes of the raw port are not sealed between relay and agent "
           "(default: sealed)."},
  {.name = "data", .value = "auto|plain|tls", .kind = OPTION_CHOICE, AT(data), .choices = "auto|plain|tls",
   .help = "How visitors' data goes to the relay: plain, which costs least, or inside TLS of its own, for networks "
           "that let nothing else through (default: auto, which is plain unless that does not get through, or goes "
           "through a proxy or a Unix socket)."},
  {.name = "wait", .value = "DURATION", .kind = OPTION_DURATION, .optional = true, AT(wait_ms), .min = 1,
   .max = (uint64_t)WAIT_MAX_S * 1000,
   .help = "Go on trying while no relay can be reached, as at boot, before there is a network (for so long: 30s, 5m; "
           "default: one attempt). What waiting cannot mend, such as a token that is refused, is still the end."},
  {.name = "json", .kind = OPTION_FLAG, AT(json),
   .help = "Print events as JSON objects, one a line, and nothing else, to stdout; with a command behind --, to "
           "stderr, which is the command's as well."},
  {.name = "take-over", .value = "FDS", .kind = OPTION_TEXT, AT(take_over), .hidden = true,
   .help = "Only asks whether this program could go on as another one (cli/renewal.h)."},
};

struct forwarded {
  struct dial_address address;
  char text[DIAL_ADDRESS_TEXT_CHARS];   /* of it */
  const char *name;                /* NULL: none */
  struct adit_tunnel *tunnel;
  bool open, ended;
  char *keep;                      /* its ticket's file, where it has one of its own */
};

struct forward {
  struct forward_arguments a;
  struct forwarded apps[OPTIONS_WORDS_MAX];
  size_t apps_n, open_n, ended_n;
  struct adit_config *config;
  struct adit_client *client;
  struct tell tell;
  bool embedded;                   /* the relay is our own, for this machine */
  char **command;                  /* argv behind "--"; NULL: none */
  pid_t child;                     /* 0: not running */
  sigset_t mask_before;
  int signal_fd;
  struct heap_watch heap;
  struct renewal renewal;
  struct heritage heritage;        /* of the program that this one goes on for */
  bool renews;                     /* it is asked for */
  bool failed;                     /* some tunnel never opened, or all have ended */
  bool done;
  int status;
};

static unsigned terminal_columns(void) {
  struct winsize size;
  return ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
}

/* --- what to start from --- */

static int config_failed(const struct forward *f, int code, struct err *e) {
  return err_set(e, code == ADIT_EINVAL ? ERR_USAGE : ERR_NOT_NOW, "%s", adit_config_error(f->config));
}

static int own_path(char *out, size_t cap, struct err *e) {
  ssize_t n = readlink("/proc/self/exe", out, cap - 1);
  if (n < 0) return err_set_errno(e, "/proc/self/exe");
  out[n] = 0;
  return 0;
}

/* A token in a file that others read is theirs, too. */
static void warn_of_readable_configuration(void) {
  char path[4096];
  struct stat st;
  struct err e = {0};
  if (home_config_file(path, sizeof path, &e) != 0 || stat(path, &st) != 0 || (st.st_mode & 077) == 0) return;
  (void)fprintf(words_err(), "adit: %s: others may read your token (chmod 600 %s)\n", path, path);
}

/* Whether a relay of our own may be started: what forbids it is not to be missed for how it is written. */
static int take_embedded(bool *allowed, struct err *e) {
  const char *value = getenv("ADIT_EMBEDDED");
  *allowed = value == NULL || strcmp(value, "1") == 0;
  if (environment_check("ADIT_EMBEDDED", value, e) != 0) return e->code = ERR_NOT_NOW;
  if (*allowed || strcmp(value, "0") == 0) return 0;
  return err_set(e, ERR_NOT_NOW, "ADIT_EMBEDDED: \"%.20s\" is neither 0 nor 1 (0 forbids a relay on this machine)",
                 value);
}

/* Tokens and relays: flags first, then environment and the user's file; with neither, a relay of our own. */
static int make_config(struct forward *f, struct err *e) {
  struct forward_arguments *a = &f->a;
  int code = 0, found = 0;
  const char *token = getenv("ADIT_TOKEN");
  bool stored = a->tokens_n == 0 && a->token_files.n == 0 && token == NULL, embedded;
  if (take_embedded(&embedded, e) != 0) return e->code;
  f->config = adit_config_new();
  if (f->config == NULL) return err_set(e, ERR_NOMEM, "out of memory");
  for (size_t i = 0; i < a->tokens_n; i++) {
    if (code == 0) code = adit_config_add_token(f->config, a->tokens[i]);
    wipe(a->tokens[i], strlen(a->tokens[i]));
    free(a->tokens[i]);
  }
  a->tokens_n = 0;
  if (code != 0) return config_failed(f, code, e);
  for (size_t i = 0; i < a->token_files.n; i++)
    if (token_file_add(f->config, a->token_files.at[i], e) != 0) return e->code;
  for (size_t i = 0; i < a->relays.n; i++)
    if ((code = adit_config_add_relay(f->config, a->relays.at[i])) != 0) {
      (void)config_failed(f, code, e);
      return err_prefix(e, "--relay");
    }
  if (a->ca != NULL && access(a->ca, R_OK) != 0)
    return err_set(e, ERR_IO, "--ca %.200s: %s (check the path, and who may read it)", a->ca, strerror(errno));
  if (a->ca != NULL && (code = adit_config_set_ca_file(f->config, a->ca)) != 0) return config_failed(f, code, e);
  code = a->proxy != NULL ? adit_config_set_proxy(f->config, a->proxy) : 0;
  if (a->proxy != NULL) wipe(a->proxy, strlen(a->proxy));
  free(a->proxy);
  if (code == 0) code = adit_config_set_data(f->config, a->data);
  if (code != 0) return config_failed(f, code, e);
  if ((code = adit_config_load(f->config, &found)) != 0) return config_failed(f, code, e);
  if (found && stored) warn_of_readable_configuration();
  if (found) return 0;
  if (a->relays.n > 0 || getenv("ADIT_RELAY") != NULL)
    return err_set(e, ERR_NOT_NOW, "token: a relay is given but no token (set ADIT_TOKEN, give --token-file, or store "
                                   "one with adit login)");
  if (!embedded)
    return err_set(e, ERR_NOT_NOW, "token: there is none, and ADIT_EMBEDDED=0 forbids a relay on this machine (set "
                                   "ADIT_TOKEN, give --token-file, or store one with adit login)");
  char path[4096];
  if (own_path(path, sizeof path, e) != 0) return e->code;
  if ((code = adit_config_set_embedded(f->config, path)) != 0) return config_failed(f, code, e);
  f->embedded = true;
  return 0;
}

static bool names_h2(const char *alpn) {
  for (const char *at = alpn; at != NULL; at = strchr(at, ',')) {
    if (*at == ',') at++;
    if (strcspn(at, ",") == 2 && strncmp(at, "h2", 2) == 0) return true;
  }
  return false;
}

/* Their addresses, each of them once. */
static int take_words(struct forward *f, const struct options_parsed *parsed, struct err *e) {
  for (size_t i = 0; i < parsed->words_n; i++) {
    struct forwarded *app = &f->apps[f->apps_n];
    if (parsed->words[i][0] == 0)
      return err_set(e, ERR_USAGE, "PORT: empty (say which port to forward: adit forward 8000)");
    if (dial_address_parse_app(parsed->words[i], &app->address, e) != 0) return e->code;
    for (size_t k = 0; k < f->apps_n; k++)
      if (dial_address_same(&app->address, &f->apps[k].address))
        return err_set(e, ERR_USAGE, "%.100s: it is forwarded already by another argument (leave one out)",
                       parsed->words[i]);
    dial_address_format(&app->address, app->text, sizeof app->text);
    f->apps_n++;
  }
  for (size_t i = 0; i < f->apps_n && f->a.names.n > 0; i++) {
    if (f->a.names.n != f->apps_n)
      return err_set(e, ERR_USAGE, "--name: %zu for %zu apps (give one for each, in their order)", f->a.names.n,
                     f->apps_n);
    f->apps[i].name = f->a.names.at[i];
  }
  return 0;
}

static int take_arguments(struct forward *f, const struct options_parsed *parsed, struct err *e) {
  if (parsed->words_n == 0)
    return err_set(e, ERR_USAGE, "PORT: missing (say which port to forward: adit forward 8000)");
  if (parsed->rest != NULL && (parsed->rest[0] == NULL || parsed->rest[0][0] == 0))
    return err_set(e, ERR_USAGE, "COMMAND: missing behind -- (leave out --, or say what to run)");
  if (f->a.link != NULL && strcmp(f->a.link, "plain") == 0 && !f->a.unencrypted)
    return err_set(e, ERR_USAGE, "--link plain: only raw ports can be plain (add --unencrypted)");
  if (f->a.alpn != NULL && names_h2(f->a.alpn) && !f->a.h2)
    return err_set(e, ERR_USAGE, "--alpn %.60s: h2 is offered by an option of its own (add --h2)", f->a.alpn);
  f->command = parsed->rest;
  return take_words(f, parsed, e);
}

static void set_up_tell(struct forward *f, uint64_t start_us) {
  const char *term = getenv("TERM");
  bool terminal = isatty(STDOUT_FILENO) == 1 && term != NULL && *term != 0 && strcmp(term, "dumb") != 0;
  f->tell.start_us = start_us;
  enum tell_mode mode = f->a.json ? TELL_JSON : terminal && f->command == NULL ? TELL_TERMINAL : TELL_PLAIN;
  tell_begin(&f->tell, mode, f->command != NULL ? WORDS_ERR : WORDS_OUT);
}

/* Blocked before the library starts its thread, so that they come to us only. SIGWINCH also has the live line drawn
   anew for the new width. */
static int take_signals(struct forward *f, struct err *e) {
  static const int numbers[] = {SIGCHLD, SIGINT, SIGTERM, SIGHUP, SIGWINCH, SIGUSR2,
                                /* and for a command: */ SIGQUIT, SIGUSR1};
  size_t n = ARRAY_LEN(numbers) - (f->command != NULL ? 0 : 2);
  signals_change(SIGCHLD, SIG_DFL);        /* ignored, the kernel would keep the command's status from us */
  f->signal_fd = signals_take(numbers, n, &f->mask_before, e);
  return f->signal_fd < 0 ? f->signal_fd : 0;
}

static int client_failed(const struct forward *f, struct err *e) {
  return err_set(e, adit_errno_last() == ADIT_EINVAL ? ERR_USAGE : ERR_NOT_NOW, "%s", adit_error(f->client));
}

/* Of several apps each has a file of its own, named after the last part of its address. */
static int name_keep_file(const struct forward *f, struct forwarded *app, struct err *e) {
  const char *text = app->text, *slash = strrchr(text, '/'), *colon = strrchr(text, ':');
  const char *part = dial_address_is_unix(&app->address) && slash != NULL ? slash + 1 : colon + 1;
  if (asprintf(&app->keep, "%s.%s", f->a.keep, part) >= 0) return 0;
  app->keep = NULL;
  return err_set(e, ERR_NOMEM, "out of memory");
}

static int open_tunnels(struct forward *f, struct err *e) {
  struct adit_options options = ADIT_OPTIONS_INIT;
  options.unencrypted = f->a.unencrypted;
  options.plain = f->a.link != NULL && strcmp(f->a.link, "plain") == 0;
  options.h2 = f->a.h2;
  options.proxy_protocol = f->a.proxy_protocol;
  options.alpn = f->a.alpn;
  options.allow = f->a.allow.at;
  options.allow_n = f->a.allow.n;
  options.deny = f->a.deny.at;
  options.deny_n = f->a.deny.n;
  options.app_wait_ms = f->a.app_wait_ms > 0 ? (int64_t)f->a.app_wait_ms : -1;
  options.retry_ms = f->a.wait_ms <= INT64_MAX ? (int64_t)f->a.wait_ms : -1;
  for (size_t i = 0; i < f->apps_n; i++) {
    struct forwarded *app = &f->apps[i];
    options.keep_file = f->a.keep;
    if (f->a.keep != NULL && f->apps_n > 1) {
      if (name_keep_file(f, app, e) != 0) return e->code;
      options.keep_file = app->keep;
    }
    options.name = app->name;
    app->tunnel = adit_forward(f->client, app->text, &options);
    if (app->tunnel == NULL) return client_failed(f, e);
    (void)snprintf(app->text, sizeof app->text, "%s", adit_tunnel_app(app->tunnel));   /* its path is absolute */
  }
  return 0;
}

/* --- the command behind "--" --- */

/* In the embedded relay's case everything is on this machine: its raw ports are reached by address, not by a name. */
static const char *tcp_host_of(const struct forward *f, const struct adit_tunnel *tunnel) {
  const char *host = adit_tunnel_tcp_host(tunnel);
  return host != NULL && f->embedded ? "127.0.0.1" : host;
}

static void stop(struct forward *f, int status) {
  f->done = true;
  f->status = status;
}

static void start_command(struct forward *f) {
  struct runner_address addresses[OPTIONS_WORDS_MAX];
  for (size_t i = 0; i < f->apps_n; i++) {
    const struct adit_tunnel *t = f->apps[i].tunnel;
    addresses[i] = (struct runner_address){
      .url = adit_tunnel_url(t), .host = adit_tunnel_host(t), .tcp_host = tcp_host_of(f, t),
      .port = adit_tunnel_port(t), .tcp_port = adit_tunnel_tcp_port(t), .app_port = adit_tunnel_app_port(t)};
  }
  struct err e = {0};
  int status = EXIT_STATUS_FAILED;
  char **environment = runner_environment(environ, addresses, f->apps_n);
  words_settle();                  /* the command may write to the same place */
  if (environment == NULL) (void)err_set(&e, ERR_NOMEM, "out of memory");
  if (environment == NULL || runner_start(f->command, environment, &f->mask_before, &f->child, &status, &e) != 0) {
    f->child = 0;
    (void)command_fail(&e);
    stop(f, status);
  }
  runner_environment_free(environment);
}

/* What the terminal sent (ctrl-C) has reached the command already: it is in the same process group. */
static void forward_signal(struct forward *f, const struct signalfd_siginfo *s) {
  if (s->ssi_code != SI_KERNEL && f->child > 0) (void)kill(f->child, (int)s->ssi_signo);
}

/* One signal may stand for several children. Besides the command there are those that others left to us, as process 1
   of a container; and the library's, whose end it sees by itself. */
static void on_children(struct forward *f) {
  pid_t pid;
  int status;
  while ((pid = runner_reap(&status)) > 0) {
    if (pid != f->child) continue;
    f->child = 0;
    stop(f, status);
  }
}

static void on_signal(struct forward *f, const struct signalfd_siginfo *s) {
  int number = (int)s->ssi_signo;
  if (number == SIGCHLD) {
    on_children(f);
  } else if (number == SIGUSR2) {
    f->renews = true;
  } else if (f->child > 0) {
    forward_signal(f, s);
  } else if (number == SIGINT || number == SIGTERM || number == SIGHUP) {
    stop(f, f->command != NULL ? 128 + number : EXIT_STATUS_OK);
  }
}

/* --- events of the library --- */

static struct forwarded *app_of(struct forward *f, const struct adit_tunnel *tunnel) {
  for (size_t i = 0; tunnel != NULL && i < f->apps_n; i++)
    if (f->apps[i].tunnel == tunnel) return &f->apps[i];
  return NULL;
}

static struct tell_app told(const struct forwarded *app) {
  return (struct tell_app){.text = app->text, .name = app->name, .port = app->address.tcp.port};
}

/* A tunnel opens, or has got another address since. */
static void on_open(struct forward *f, struct forwarded *app) {
  const struct adit_tunnel *t = app->tunnel;
  struct tell_open open = {.app = told(app),
                           .url = adit_tunnel_url(t),
                           .host = adit_tunnel_host(t),
                           .tcp_host = tcp_host_of(f, t),
                           .relay = adit_client_relay(f->client),
                           .relay_socket = adit_client_relay_socket(f->client),
                           .ca_file = adit_client_ca_file(f->client),
                           .port = adit_tunnel_port(t),
                           .tcp_port = adit_tunnel_tcp_port(t),
                           .embedded = f->embedded,
                           .again = app->open};
  app->open = true;
  f->open_n += !open.again;
  f->tell.live.link = LIVE_UP;
  tell_open(&f->tell, &open, clock_us());
  if (open.again || f->open_n != f->apps_n) return;
  if (f->command != NULL && f->child == 0) start_command(f);
  (void)descriptors_raise_limit(); /* only now: the command keeps the limit that we were given. Without it fewer
                                      visitors fit */
}

/* What the relay says of one tunnel need not name it: "what" of "what: why (what to do)" is then the app. */
static void tell_end(struct forward *f, const struct forwarded *app, const char *kind, const struct adit_event *event) {
  char text[sizeof event->text + TELL_APP_CHARS + 2], name[TELL_APP_CHARS];
  const struct tell_app what = told(app);
  size_t why = strcspn(event->text, "(");
  bool has_what = memmem(event->text, why, ": ", 2) != NULL;
  tell_app_format(&what, name, sizeof name);
  (void)snprintf(text, sizeof text, "%s%s%s", has_what ? "" : name, has_what ? "" : ": ", event->text);
  tell_event(&f->tell, kind, &what, event->reason, text, true);
}

/* A tunnel's end, or that of all. People want all the ports that they asked for: one that never opened fails the whole.
   While a command runs it decides when to end. */
static void on_end(struct forward *f, struct forwarded *app, const struct adit_event *event, const char *kind) {
  for (size_t i = 0; i < f->apps_n; i++) {
    struct forwarded *one = &f->apps[i];
    if (one->ended || (app != NULL && one != app)) continue;
    one->ended = true;
    f->ended_n++;
    if (!one->open) f->failed = true;
    tell_end(f, one, kind, event);
  }
  if (f->ended_n == f->apps_n) f->failed = true;
  if (f->failed && f->child == 0) stop(f, EXIT_STATUS_FAILED);
}

/* The library goes on trying for ever, which is right for a tunnel that was open. One that has never been is better
   ended: the user is there to read why, or a supervisor to start it again. Unless he said to wait: then the library
   tells of that, if not yet in this event, and when it is enough. */
static bool is_false_start(const struct forward *f, const struct adit_event *event) {
  if (f->open_n > 0 || event->tunnel != NULL || event->reason == NULL) return false;
  return strcmp(event->reason, "relay_unreachable") == 0 || strcmp(event->reason, "relay_certificate") == 0;
}

static void on_warning(struct forward *f, const struct tell_app *what, const struct adit_event *event) {
  if (!is_false_start(f, event)) tell_event(&f->tell, "warning", what, event->reason, event->text, true);
  else if (f->a.wait_ms == 0 || event->error == ADIT_EAUTH) on_end(f, NULL, event, "closed");
}

static void on_event(struct forward *f, const struct adit_event *event) {
  struct forwarded *app = app_of(f, event->tunnel);
  const struct tell_app what = app != NULL ? told(app) : (struct tell_app){0};
  switch (event->kind) {
    case ADIT_EVENT_OPEN:
      if (app != NULL) on_open(f, app);
      break;
    case ADIT_EVENT_RECONNECTING:
      f->tell.live.link = LIVE_RECONNECTING;
      tell_event(&f->tell, "reconnecting", &what, event->reason, event->text, true);
      break;
    case ADIT_EVENT_RESTORED:
      f->tell.live.link = LIVE_UP;
      tell_event(&f->tell, "restored", &what, event->reason, event->text, true);
      break;
    case ADIT_EVENT_WARNING:
      on_warning(f, &what, event);
      break;
    case ADIT_EVENT_SUPERSEDED: on_end(f, app, event, "superseded"); break;
    case ADIT_EVENT_CLOSED: on_end(f, app, event, "closed"); break;
  }
}

static int read_events(struct forward *f, struct err *e) {
  struct adit_event event;
  while (!f->done) {
    int n = adit_next_event(f->client, &event, 0);
    if (n == 0) return 0;
    if (n < 0) return client_failed(f, e);
    on_event(f, &event);
  }
  return 0;
}

/* --- going on as the next program --- */

static uint64_t mask_bits(const sigset_t *mask) {
  uint64_t bits = 0;
  for (int number = 1; number <= 64; number++)
    if (sigismember(mask, number) == 1) bits |= (uint64_t)1 << (number - 1);
  return bits;
}

static void mask_of_bits(uint64_t bits, sigset_t *mask) {
  (void)sigemptyset(mask);
  for (int number = 1; number <= 64; number++)
    if ((bits >> (number - 1) & 1) != 0) (void)sigaddset(mask, number);
}

static void write_host(void *user, struct writer *w) {
  const struct forward *f = user;
  write_text8(w, ADIT_VERSION);
  write_u64(w, mask_bits(&f->mask_before));
  write_u64(w, signals_were_ignored());
  write_u64(w, f->tell.start_us);
  write_u32(w, (uint32_t)f->child);
  write_u8(w, f->embedded);
  write_u8(w, f->failed);
  write_u8(w, f->tell.embedded_told);
  write_u8(w, (uint8_t)f->tell.live.link);
  write_u16(w, (uint16_t)f->apps_n);
  for (size_t i = 0; i < f->apps_n; i++) {
    write_u8(w, f->apps[i].open);
    write_u8(w, f->apps[i].ended);
  }
}

/* What was said in the midst of it belongs to this program. */
static bool drain_events(void *user) {
  struct forward *f = user;
  struct err e = {0};
  if (read_events(f, &e) != 0) stop(f, command_fail(&e));
  tell_live_clear(&f->tell);
  return !f->done;
}

static void renew(struct forward *f) {
  struct err e;
  f->renews = false;
  const struct renewal_host host = {
    .drains = drain_events, .writes = write_host, .user = f, .mask = &f->mask_before};
  if (renewal_go(&f->renewal, f->client, &host, &e) == 0) return;
  (void)err_prefix(&e, "upgrade");
  f->tell.last_problem[0] = '\0';  /* each time anew */
  tell_event(&f->tell, "warning", &(struct tell_app){0}, "upgrade_failed", e.text, true);
}

/* The other side of write_host. */
static int read_host(struct forward *f, char *version, size_t cap, struct err *e) {
  struct reader *r = &f->heritage.host;
  read_text8(r, version, cap);
  mask_of_bits(read_u64(r), &f->mask_before);
  signals_go_on(read_u64(r));
  f->tell.start_us = read_u64(r);
  f->child = (pid_t)read_u32(r);
  f->embedded = read_flag(r);
  f->failed = read_flag(r);
  f->tell.embedded_told = read_flag(r);
  f->tell.live.link = (enum live_link)read_u8(r);
  if (read_u16(r) != f->apps_n) r->bad = true;
  for (size_t i = 0; i < f->apps_n; i++) {
    f->apps[i].open = read_flag(r);
    f->apps[i].ended = read_flag(r);
    f->open_n += f->apps[i].open;
    f->ended_n += f->apps[i].ended;
  }
  if (reader_done(r) && f->child >= 0 && f->tell.live.link <= LIVE_RECONNECTING) return 0;
  return err_set(e, ERR_SYNTAX, "what the program before this one has left cannot be read");
}

/* As the program before this one was. An embedded relay that is started from now on is of this program. */
static int inherit_config(struct forward *f, struct err *e) {
  char path[4096];
  f->config = adit_config_new();
  if (f->config == NULL) return err_set(e, ERR_NOMEM, "out of memory");
  int code = heritage_config(&f->heritage, f->config, e);
  if (code != 0 || !f->embedded) return code;
  if (own_path(path, sizeof path, e) != 0) return e->code;
  return (code = adit_config_set_embedded(f->config, path)) == 0 ? 0 : config_failed(f, code, e);
}

/* The agent itself, once its tunnels are there. */
static int inherit_agent(struct forward *f, const char *version, struct err *e) {
  char text[512];
  int code = heritage_agent(&f->heritage, f->client, e);
  if (code != 0 || f->heritage.asker >= 0) return code;
  (void)snprintf(text, sizeof text, "upgraded: adit " ADIT_VERSION " goes on for %s", version);
  tell_event(&f->tell, "upgraded", &(struct tell_app){0}, "upgraded", text, true);
  return 0;
}

/* --- the loop --- */

static void draw(struct forward *f) {
  struct adit_tunnel_stats sum = {0};
  for (size_t i = 0; i < f->apps_n; i++) {
    struct adit_tunnel_stats one = {0};
    adit_tunnel_stats(f->apps[i].tunnel, &one);
    sum.visitors_now += one.visitors_now;
    sum.visitors_total += one.visitors_total;
    sum.bytes_to_app += one.bytes_to_app;
    sum.bytes_from_app += one.bytes_from_app;
  }
  live_update(&f->tell.live, clock_us() / 1000, sum.visitors_now, sum.visitors_total, sum.bytes_to_app,
              sum.bytes_from_app);
  tell_live(&f->tell, terminal_columns());
}

static void read_signals(struct forward *f) {
  struct signalfd_siginfo s;
  while (!f->done && read(f->signal_fd, &s, sizeof s) == (ssize_t)sizeof s) on_signal(f, &s);
}

/* How long to wait for something to happen: until the live line is due, the start is late, or the heap is looked at. */
static int wait_ms(const struct forward *f) {
  if (f->tell.mode == TELL_TERMINAL) return 1000;
  if (f->open_n > 0 || f->a.wait_ms > 0) return HEAP_TRIM_EVERY_MS;
  uint64_t waited_ms = (clock_us() - f->tell.start_us) / 1000;
  return waited_ms >= FORWARD_START_MS ? 0 : (int)(FORWARD_START_MS - waited_ms);
}

static void check_start(struct forward *f) {
  if (f->open_n > 0 || f->a.wait_ms > 0 || clock_us() - f->tell.start_us < (uint64_t)FORWARD_START_MS * 1000) return;
  struct adit_event late = {.kind = ADIT_EVENT_CLOSED, .error = ADIT_ETIMEDOUT, .reason = "timeout"};
  (void)snprintf(late.text, sizeof late.text,
                 "relay: nothing is open after %d s (is the relay overloaded, or something between in the way?)",
                 FORWARD_START_MS / 1000);
  on_end(f, NULL, &late, "closed");
}

/* Until something ends it: f->status. */
static int serve(struct forward *f, struct err *e) {
  struct pollfd fds[] = {{.fd = adit_event_fd(f->client), .events = POLLIN}, {.fd = f->signal_fd, .events = POLLIN}};
  on_children(f);                  /* who ended before we took the signal */
  while (!f->done) {
    int code = read_events(f, e);
    if (code != 0) return code;
    read_signals(f);
    if (!f->done && f->renews) renew(f);
    if (!f->done) check_start(f);
    if (f->done) break;
    if (f->tell.mode == TELL_TERMINAL) draw(f);
    (void)heap_trim(&f->heap);     /* what a crowd of visitors took; the library leaves a host's heap alone */
    if (poll(fds, ARRAY_LEN(fds), wait_ms(f)) < 0 && errno != EINTR) return err_set_errno(e, "poll");
  }
  return 0;
}

/* Closes the client, which takes FORWARD_DRAIN_MS and RESET_DELIVERY_MS at most, and up to TICKET_CLOSE_MS where a disk
   hangs. Signals stay blocked: a second one
   (timeout(1) sends one to us and one to our group) must not turn a clean end into a death. */
static void finish(struct forward *f) {
  tell_live_clear(&f->tell);
  if (f->client != NULL) adit_client_close(f->client, FORWARD_DRAIN_MS);
  for (size_t i = 0; i < f->apps_n; i++) {
    free(f->apps[i].keep);
    if (!f->apps[i].open || f->apps[i].ended || f->failed) continue;
    const struct tell_app what = told(&f->apps[i]);
    tell_event(&f->tell, "closed", &what, "local", "closed by this side", false);
  }
  adit_config_free(f->config);
  if (f->signal_fd >= 0) close(f->signal_fd);
}

/* From its arguments, or as the program before this one was: 0 once it forwards. */
static int begin(struct forward *f, const struct options_parsed *parsed, uint64_t start_us, struct err *e) {
  char version[64] = "";
  int code = take_arguments(f, parsed, e);
  if (code == 0) code = heritage_open(&f->heritage, f->a.take_over, e);
  if (code == 0) set_up_tell(f, start_us);
  bool inherits = code == 0 && f->heritage.agent != NULL;
  if (code == 0) code = inherits ? read_host(f, version, sizeof version, e) : make_config(f, e);
  if (code == 0 && inherits) code = inherit_config(f, e);
  descriptors_keep_in_view();
  sigset_t mask = f->mask_before;
  if (code == 0) code = take_signals(f, e);
  if (inherits) f->mask_before = mask;
  if (code == 0) {
    f->client = adit_client_new(f->config);
    if (f->client == NULL) code = config_failed(f, adit_errno_last(), e);
  }
  if (code == 0) code = open_tunnels(f, e);
  if (code == 0 && inherits) code = inherit_agent(f, version, e);
  return code;
}

static int forward_main(const struct command *self, int argc, char **argv, uint64_t start_us) {
  static struct forward f;         /* large for a stack */
  memset(&f, 0, sizeof f);
  f.signal_fd = f.heritage.asker = -1;
  f.a.app_wait_ms = APP_WAIT_DEFAULT_MS;
  renewal_begin(&f.renewal, argc, argv);
  struct options_parsed parsed;
  struct err e = {0};
  int status;
  if (!command_begin(self, &f.a, argc, argv, &parsed, &status)) return status;
  int code = begin(&f, &parsed, start_us, &e);
  heritage_answer(&f.heritage, code, &e);
  if (code == 0) code = serve(&f, &e);
  finish(&f);
  return code == 0 ? f.status : command_fail(&e);
}

const struct command command_forward = {
  .name = "forward",
  .words = "PORT|HOST:PORT|unix:PATH ... [-- COMMAND ARGS...]",
  .brief = "give local ports public addresses",
  .purpose = "give local TCP ports and Unix sockets public addresses, for as long as it runs.\n"
             "Without a token it starts a relay of its own for this machine, to try things out.",
  .examples = "adit forward 8000\n"
              "adit forward 8000 5173 --json\n"
              "adit forward 22 --unencrypted\n"
              "adit forward db:8000 unix:/run/app.sock\n"
              "adit forward 8000 --keep ~/.adit-ticket\n"
              "adit forward 8000 --wait\n"
              "adit forward 8000 -- sh -c 'echo I am at $ADIT_URL; exec ./server'",
  .options = forward_rows,
  .options_n = ARRAY_LEN(forward_rows),
  .run = forward_main,
};
