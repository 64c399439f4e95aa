/* `adit relay`: turns options and a configuration file into struct relay_options. Nothing here may allocate through
   OpenSSL before tls_wipe_on_free_install has run, so that comes first. */
#include "relay/relay.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/dial_address.h"
#include "base/folders.h"
#include "base/home.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/text.h"
#include "cli/command.h"
#include "cli/domain.h"
#include "relay/shared.h"
#include "tls/tls_kdf.h"
#include "tls/tls_server.h"

enum { TCP_PORT_FROM_DEFAULT = 20000, TCP_PORT_TO_DEFAULT = 29999, DRAIN_DEFAULT_MS = 10000, DRAIN_MAX_S = 24 * 3600 };

struct relay_arguments {
  struct relay_options options;
  const char *config, *pump, *link, *keys, *log_level, *log_format;
  uint64_t workers;
  struct option_list operators;
  uint64_t embedded_fd;
  bool embedded;
};

static int set_domain(void *target, const char *value, struct err *e) {
  int code = domain_check(value, e);
  if (code != 0) return code;
  ((struct relay_arguments *)target)->options.domain = value;
  return 0;
}

/* An address to listen on: port 0, which addr_parse refuses, lets the kernel choose. */
static int parse_listen(const char *value, struct addr *out) {
  char text[64];
  size_t n = strlen(value);
  if (n < 2 || strcmp(value + n - 2, ":0") != 0) return addr_parse(value, out, NULL);
  if (n >= sizeof text) return ERR_SYNTAX;
  memcpy(text, value, n + 1);
  text[n - 1] = '1';
  int code = addr_parse(text, out, NULL);
  if (code == 0) addr_set_port(out, 0);
  return code;
}

static int add_listen(struct addr at[RELAY_LISTENS_MAX], size_t *n, const char *value, int port, struct err *e) {
  if (*n == RELAY_LISTENS_MAX)
    return err_set(e, ERR_USAGE, "given more than %d times (leave some out)", RELAY_LISTENS_MAX);
  if (parse_listen(value, &at[*n]) != 0)
    return err_set(e, ERR_USAGE, "%.60s: not an address and a port in numbers (such as 0.0.0.0:%d or [::]:%d)", value,
                   port, port);
  (*n)++;
  return 0;
}

static int add_agent_listen(struct relay_options *o, const char *value, struct err *e) {
  struct dial_address at = {.path = ""};
  if (o->agent_listens_n == RELAY_LISTENS_MAX)
    return err_set(e, ERR_USAGE, "given more than %d times (leave some out)", RELAY_LISTENS_MAX);
  int code = dial_address_parse_unix("relay", value, at.path, e);
  if (code == 0) o->agent_listens[o->agent_listens_n++] = addr_unix(at.path);
  return code;
}

static int set_listen(void *target, const char *value, struct err *e) {
  struct relay_options *o = &((struct relay_arguments *)target)->options;
  if (dial_address_text_is_unix(value)) return add_agent_listen(o, value, e);
  return add_listen(o->listens, &o->listens_n, value, 443, e);
}

static int set_redirect_http(void *target, const char *value, struct err *e) {
  struct relay_options *o = &((struct relay_arguments *)target)->options;
  return add_listen(o->redirects, &o->redirects_n, value, 80, e);
}

static int set_public(void *target, const char *value, struct err *e) {
  struct host_port *public = &((struct relay_arguments *)target)->options.public;
  struct host_port parsed;
  if (host_port_parse(value, UINT16_MAX, &parsed, NULL) != 0)
    return err_set(e, ERR_USAGE, "%.60s: not HOST:PORT (such as tunnels.example.com:443)", value);
  if (parsed.port == UINT16_MAX && host_port_parse(value, 0, &parsed, NULL) != 0) parsed.port = 0; /* HOST alone */
  *public = parsed;
  return 0;
}

static int set_tcp_ports(void *target, const char *value, struct err *e) {
  struct relay_options *o = &((struct relay_arguments *)target)->options;
  char from_text[8];
  const char *hyphen = strchr(value, '-');
  uint16_t from = 0, to = 0;
  if (hyphen == NULL || (size_t)(hyphen - value) >= sizeof from_text)
    return err_set(e, ERR_USAGE, "%.60s: not FROM-TO (such as %d-%d)", value, TCP_PORT_FROM_DEFAULT,
                   TCP_PORT_TO_DEFAULT);
  memcpy(from_text, value, (size_t)(hyphen - value));
  from_text[hyphen - value] = 0;
  if (text_to_port(from_text, &from) != 0 || text_to_port(hyphen + 1, &to) != 0)
    return err_set(e, ERR_USAGE, "%.60s: not two ports (such as %d-%d)", value, TCP_PORT_FROM_DEFAULT,
                   TCP_PORT_TO_DEFAULT);
  if (from < RAW_PORT_MIN)
    return err_set(e, ERR_USAGE, "%.60s: ports below %d are never given out (begin at %d or above)", value,
                   RAW_PORT_MIN, RAW_PORT_MIN);
  if (from > to) return err_set(e, ERR_USAGE, "%.60s: the first port is above the last (write %u-%u)", value, to, from);
  o->tcp_port_from = from;
  o->tcp_port_to = to;
  return 0;
}

/* "1.2.3.4" or "::1", without a port. */
static int parse_ip(const char *value, struct addr *out) {
  char text[64];
  if (strlen(value) > 45) return ERR_SYNTAX;
  (void)snprintf(text, sizeof text, strchr(value, ':') != NULL && *value != '[' ? "[%s]:1" : "%s:1", value);
  if (addr_parse(text, out, NULL) != 0) return ERR_SYNTAX;
  addr_set_port(out, 0);
  return 0;
}

static int set_tcp_listen(void *target, const char *value, struct err *e) {
  if (parse_ip(value, &((struct relay_arguments *)target)->options.tcp_listen) == 0) return 0;
  return err_set(e, ERR_USAGE, "%.60s: not an address in numbers, without a port (such as 203.0.113.7)", value);
}

static int set_handshake_memory(void *target, const char *value, struct err *e) {
  uint64_t bytes;
  if (strchr(value, '/') != NULL || text_to_rate(value, &bytes) != 0)
    return err_set(e, ERR_USAGE, "%.60s: not a size (such as 64MB or 1GB)", value);
  if (bytes < HANDSHAKE_MEMORY_PER_WORKER_MIN_BYTES || bytes > SIZE_MAX)
    return err_set(e, ERR_USAGE, "%.60s: too little for even one event loop (at least 200kB for each; 64MB is usual)",
                   value);
  ((struct relay_arguments *)target)->options.handshake_memory_bytes = bytes;
  return 0;
}

static int set_admin(void *target, const char *value, struct err *e) {
  struct addr *admin = &((struct relay_arguments *)target)->options.admin;
  char text[32];
  uint16_t port;
  if (text_to_port(value, &port) == 0) {
    (void)snprintf(text, sizeof text, "127.0.0.1:%u", port);
    value = text;
  }
  if (parse_listen(value, admin) == 0) return 0;
  return err_set(e, ERR_USAGE, "%.60s: not an address and a port in numbers (such as 127.0.0.1:%d)", value,
                 ADMIN_PORT_DEFAULT);
}

static int set_accept_proxy(void *target, const char *value, struct err *e) {
  struct relay_options *o = &((struct relay_arguments *)target)->options;
  if (o->accept_proxy_n == RELAY_ACCEPT_PROXY_MAX)
    return err_set(e, ERR_USAGE, "given more than %d times (leave some out)", RELAY_ACCEPT_PROXY_MAX);
  if (cidr_parse(value, &o->accept_proxy[o->accept_proxy_n], NULL) != 0)
    return err_set(e, ERR_USAGE, "%.60s: not an address block (such as 10.0.0.0/8 or 2001:db8::/32)", value);
  o->accept_proxy_n++;
  return 0;
}

static int set_embedded(void *target, const char *value, struct err *e) {
  struct relay_arguments *a = target;
  if (text_to_u64(value, 1 << 20, &a->embedded_fd) != 0) return err_set(e, ERR_USAGE, "%.60s: not a descriptor", value);
  a->embedded = true;
  return 0;
}

#define AT(member) .offset = offsetof(struct relay_arguments, member)
static const struct option_row relay_rows[] = {
  {.name = "config", .value = "FILE", .kind = OPTION_TEXT, AT(config), .not_in_file = true,
   .help = "Read settings from FILE: lines of `name = value` with the names of these options. An option given here "
           "wins over the file."},
  {.name = "domain", .value = "NAME", .kind = OPTION_CALL, .set = set_domain,
   .help = "The relay's own name. Tunnels are named LABEL.NAME, so NAME and *.NAME must lead to this machine. "
           "Required."},
  {.name = "listen", .value = "ADDR:PORT|unix:PATH", .kind = OPTION_CALL, .set = set_listen, .many = true,
   .help = "Where visitors and agents connect (default: [::]:443 and 0.0.0.0:443). At a Unix socket, which comes "
           "besides, agents only: those of this machine that can enter its folder, as from containers without a "
           "network."},
  {.name = "redirect-http", .value = "ADDR:PORT", .kind = OPTION_CALL, .set = set_redirect_http, .many = true,
   .help = "Answer plain HTTP there, as at 0.0.0.0:80 and [::]:80, with a redirect to https at the same host and path "
           "(308), for names of this relay only (default: off)."},
  {.name = "public", .value = "HOST:PORT", .kind = OPTION_CALL, .set = set_public,
   .help = "The address in URLs and tokens, where it differs from the one listened on."},
  {.name = "cert", .value = "FILE", .kind = OPTION_TEXT, AT(options.cert_file),
   .help = "PEM certificate chain for NAME and *.NAME, read again when it changes and on SIGHUP. Tokens pin a "
           "self-signed one by its key: renew it with the same key, or make new tokens. Without --cert the relay makes "
           "an authority of its own, which tokens pin."},
  {.name = "key", .value = "FILE", .kind = OPTION_TEXT, AT(options.key_file),
   .help = "PEM private key of the certificate."},
  {.name = "state", .value = "DIR", .kind = OPTION_TEXT, AT(options.state_dir),
   .help = "Folder of keys, issued tokens and port leases (default: /var/lib/adit)."},
  {.name = "user", .value = "NAME", .kind = OPTION_TEXT, AT(options.user),
   .help = "Started by root, go on as NAME: everything is then read with that user's rights, so that what is found at "
           "the start can be read again at a renewal (default: the owner of the state folder if that is not root, else "
           "adit where there is such a user)."},
  {.name = "reset-state", .kind = OPTION_FLAG, AT(options.reset_state), .not_in_file = true,
   .help = "Begin anew with what the state folder has lost, for one start: what is missing or empty is made anew, and "
           "what is there stays. Without state.db, the list of tokens, revocations and port leases are gone, and "
           "tokens that were revoked are good again; without operator.key or authority.key, no token is; without "
           "ticket.key, kept addresses are not."},
  {.name = "operator", .value = "PUBKEYFILE", .kind = OPTION_LIST, AT(operators),
   .help = "Also accept tokens signed by this operator's key (operator.pub of another relay's state folder)."},
  {.name = "tcp-ports", .value = "FROM-TO", .kind = OPTION_CALL, .set = set_tcp_ports,
   .help = "Ports given to raw TCP tunnels (default: 20000-29999)."},
  {.name = "tcp-listen", .value = "ADDR", .kind = OPTION_CALL, .set = set_tcp_listen,
   .help = "Address on which raw ports are opened (default: all)."},
  {.name = "admin", .value = "ADDR:PORT", .kind = OPTION_CALL, .set = set_admin,
   .help = "Serve /healthz, /metrics and /status over plain HTTP; a bare PORT means loopback (default: off). It "
           "asks for no password: never expose it."},
  {.name = "accept-proxy", .value = "CIDR", .kind = OPTION_CALL, .set = set_accept_proxy, .many = true,
   .help = "Require PROXY protocol headers from these peers, load balancers in front of the relay, and from nobody "
           "else."},
  {.name = "workers", .value = "N", .kind = OPTION_NUMBER, AT(workers), .min = 1, .max = RELAY_WORKERS_MAX,
   .help = "Event loops (default: one per core)."},
  {.name = "handshake-memory", .value = "SIZE", .kind = OPTION_CALL, .set = set_handshake_memory,
   .help = "Memory for visitors in handshake and connections that have not said whom they want: 64MB, 1GB (default: 32 "
           "MiB per event loop, for some 650 handshakes at once; never less than 192 KiB for each). Beyond it those "
           "are dropped who have most of it."},
  {.name = "pump", .value = "splice|copy", .kind = OPTION_CHOICE, AT(pump), .choices = "splice|copy",
   .help = "How bytes are moved: inside the kernel, or through a buffer (default: splice)."},
  {.name = "link", .value = "sealed|plain", .kind = OPTION_CHOICE, AT(link), .choices = "sealed|plain",
   .help = "Whether agents that ask for it may have raw ports' bytes unsealed between relay and agent (default: "
           "sealed, no)."},
  {.name = "drain", .value = "DURATION", .kind = OPTION_DURATION, AT(options.drain_ms), .min = 0,
   .max = (uint64_t)DRAIN_MAX_S * 1000,
   .help = "How long live streams may go on after SIGTERM (default: 10s)."},
  {.name = "h2-shared-name", .kind = OPTION_FLAG, AT(options.h2_shared_name),
   .help = "Allow agents to offer HTTP/2 under the wildcard certificate although browsers may then send requests for "
           "one tunnel to another."},
  {.name = "log-level", .value = "LEVEL", .kind = OPTION_CHOICE, AT(log_level), .choices = "debug|info|warn|error|off",
   .help = "debug, info, warn, error or off (default: info). Visitors are logged at debug only."},
  {.name = "log-format", .value = "text|json", .kind = OPTION_CHOICE, AT(log_format), .choices = "text|json",
   .help = "Form of the log lines on stderr (default: text)."},
  {.name = "keys", .value = "apart|here", .kind = OPTION_CHOICE, AT(keys), .choices = "apart|here", .hidden = true,
   .not_in_file = true, .help = "for bench/keys.py, which measures what a key process costs"},
  {.name = "embedded", .value = "FD", .kind = OPTION_CALL, .set = set_embedded, .hidden = true, .not_in_file = true,
   .help = "started by an agent"},
};

/* Whether a relay lives for whoever started us without our doing more. */
static bool join_shared(struct relay_options *o) {
  static struct shared shared;
  enum shared_role role = shared_join(o->state_dir, o->holder_fd, &shared);
  if (role == SHARED_FIRST) {
    o->shared = &shared;
    addr_set_port(&o->listens[0], shared_port(&shared));
  }
  return role == SHARED_HANDED;
}

/* What a relay for this user's programs on this machine is: loopback, a name that leads nowhere else, silent. */
static int use_embedded(struct relay_arguments *a, struct err *e) {
  static char dir[4096];
  struct relay_options *o = &a->options;
  o->holder_fd = (int)a->embedded_fd;
  (void)unsetenv("NOTIFY_SOCKET");  /* whoever started it tells systemd of itself */
  int code = home_embedded_dir(dir, sizeof dir, e);
  if (code == 0 && (errno = folders_make(dir)) != 0) code = err_set_errno(e, "%s", dir);
  if (code != 0) return code;
  o->domain = "adit.localhost";
  o->state_dir = dir;
  o->listens_n = 1;
  code = parse_ip("127.0.0.1", &o->tcp_listen);
  o->listens[0] = o->tcp_listen;   /* port 0: the kernel chooses */
  o->workers = 1;
  o->plain_allowed = true;         /* nothing leaves the machine */
  o->quiet = true;
  return code;
}

static int use_defaults(struct relay_arguments *a, struct err *e) {
  struct relay_options *o = &a->options;
  if (o->domain == NULL)
    return err_set(e, ERR_USAGE, "--domain: missing (give the relay's own name: --domain r1.example.com)");
  if ((o->cert_file == NULL) != (o->key_file == NULL))
    return err_set(e, ERR_USAGE, "--%s: given without --%s (give both, or none for an authority of the relay's own)",
                   o->cert_file != NULL ? "cert" : "key", o->cert_file != NULL ? "key" : "cert");
  if (o->state_dir == NULL) o->state_dir = STATE_DIR_DEFAULT;
  if (o->listens_n == 0) {
    int code = addr_parse("[::]:443", &o->listens[0], e);
    if (code == 0) code = addr_parse("0.0.0.0:443", &o->listens[1], e);
    if (code != 0) return code;
    o->listens_n = 2;
  }
  o->operators_n = a->operators.n;
  memcpy(o->operator_files, a->operators.at, a->operators.n * sizeof a->operators.at[0]);
  o->workers = (unsigned)a->workers;
  return 0;
}

static int complete(struct relay_arguments *a, struct options_parsed *parsed, struct err *e) {
  if (parsed->words_n > 0 || parsed->rest != NULL)
    return err_set(e, ERR_USAGE, "%.60s: adit relay takes only options (see adit relay --help)",
                   parsed->words_n > 0 ? parsed->words[0] : "--");
  int code = a->config != NULL ? options_read_file(&command_relay, a, a->config, parsed, e) : 0;
  if (code == 0) code = a->embedded ? use_embedded(a, e) : use_defaults(a, e);
  if (code != 0) return code;
  a->options.pump = a->pump != NULL && strcmp(a->pump, "copy") == 0 ? PUMP_COPY : PUMP_SPLICE;
  a->options.keys_here = a->keys != NULL && strcmp(a->keys, "here") == 0;
  if (a->link != NULL) a->options.plain_allowed = strcmp(a->link, "plain") == 0;
  return 0;
}

static void setup_log(const struct relay_arguments *a) {
  enum log_level level = a->options.quiet ? LOG_WARN : LOG_INFO;
  if (a->log_level != NULL && log_level_parse(a->log_level, &level) != 0) level = LOG_INFO;
  log_setup(level, a->log_format != NULL && strcmp(a->log_format, "json") == 0);
}

/* An embedded relay has no user of its own: the program that started it tells its user, if it is still there. */
static int fail(const struct relay_options *options, const struct err *e) {
  if (options->holder_fd < 0) return command_fail(e);
  (void)!dprintf(options->holder_fd, "ERROR %s\n", e->text);
  return EXIT_STATUS_FAILED;
}

static int run(struct relay_options *options) {
  struct err e = {0};
  bool wipes = tls_wipe_on_free_install() == 0;
  if (wipes) tls_kdf_install();
  if (!wipes)
    (void)err_set(&e, ERR_NOT_NOW, "memory: OpenSSL was used before its memory could be made to wipe itself (is "
                                   "something preloaded?)");
  else if ((options->holder_fd >= 0 && join_shared(options)) || relay_run(options, &e) == 0)
    return EXIT_STATUS_OK;
  (void)fail(options, &e);
  return EXIT_STATUS_FAILED;       /* a bad certificate or a busy address is no wrong usage */
}

static int relay_main(const struct command *self, int argc, char **argv, uint64_t start_us) {
  (void)start_us;
  static struct relay_arguments a; /* outlives this call: the relay keeps pointers into it */
  a = (struct relay_arguments){
    .options = {.tcp_port_from = TCP_PORT_FROM_DEFAULT, .tcp_port_to = TCP_PORT_TO_DEFAULT,
                .drain_ms = DRAIN_DEFAULT_MS, .holder_fd = -1}};
  struct options_parsed parsed;
  struct err e = {0};
  int status;
  if (!command_begin(self, &a, argc, argv, &parsed, &status)) return status;
  if (complete(&a, &parsed, &e) != 0) {
    status = fail(&a.options, &e);
  } else {
    setup_log(&a);
    status = run(&a.options);
  }
  options_free(&parsed);
  return status;
}

const struct command command_relay = {
  .name = "relay",
  .words = "",
  .brief = "run a relay",
  .purpose = "run a relay in the foreground: it gives agents' ports public names.\n"
             "Its state (keys, issued tokens, port leases) lives in a folder of its own.",
  .examples = "adit relay --domain r1.example.com\n"
              "adit relay --domain r1.example.com --cert fullchain.pem --key privkey.pem\n"
              "adit relay --domain r1.test --listen 127.0.0.1:8443 --state ./state --admin 127.0.0.1:9090\n"
              "adit relay --config /etc/adit/relay.conf",
  .options = relay_rows,
  .options_n = ARRAY_LEN(relay_rows),
  .run = relay_main,
};
