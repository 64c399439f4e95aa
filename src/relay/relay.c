/* The relay's life: open the state, bind, run the workers, wait for a signal, drain, stop. The main thread does nothing
   else but wait for signals on a loop of its own. */
#include "relay/relay.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/descriptors.h"
#include "base/folders.h"
#include "base/heap.h"
#include "base/log.h"
#include "base/secret.h"
#include "base/shortage.h"
#include "base/signals.h"
#include "base/text.h"
#include "base/words.h"
#include "loop/net.h"
#include "relay/admin.h"
#include "relay/agent_doors.h"
#include "relay/confine.h"
#include "relay/heir.h"
#include "relay/holders.h"
#include "relay/host.h"
#include "relay/issue.h"
#include "relay/keeper.h"
#include "relay/key_process.h"
#include "relay/name_check.h"
#include "relay/notify.h"
#include "relay/registry.h"
#include "relay/report.h"
#include "relay/starter.h"
#include "relay/upgrade.h"
#include "relay/upgrade_door.h"
#include "relay/warning.h"
#include "relay/worker.h"

/* The longest way of a message and its answers is that of a raw port which is being bound while all ends: to the keeper
   and back, to the port's worker and back, and the port's release. */
enum {
  DRAIN_POLL_MS = 10,
  OPERATOR_FILE_MAX_BYTES = 4096,
  SETTLE_ROUNDS = 8,
  LOOP_DESCRIPTORS = 3,            /* of each worker, besides its listeners */
  OTHER_DESCRIPTORS = 16           /* the keeper's, the admin port's, files */
};

/* The main thread's part. */
struct life {
  struct relay *relay;
  struct loop *loop;
  struct loop_io signals, keys;
  bool lost_keys;                  /* the key process has ended */
  struct admin *admin;             /* NULL: none, or a successor's */
  struct holders *holders;         /* NULL: it is not embedded */
  struct starter starter;
  struct upgrade *upgrade;         /* NULL: it is embedded */
  struct loop_timer drain, trim, last_gone;
  struct heap_watch heap;
  uint64_t drain_until_ms, goodbye_by_ms;
  bool leaving, said_goodbye;
  bool upgraded;                   /* another has taken over */
  int signal_fd, admin_fd;         /* the latter until the admin port is started; or -1 */
};

/* Preparation */

/* SO_REUSEPORT would let a second relay of the same user share our port silently, so each address is first taken
   without it: that finds a busy one, and turns port 0 into a number. The socket is held until the workers' own are
   bound, so that nobody comes between. */
static int hold_listen(struct addr *a, int *held, struct err *e) {
  uint16_t port = 0;
  int fd = net_listen_tcp(a, 1, false, e);
  if (fd < 0) return fd;
  if (net_listen_port(fd, &port) != 0 || net_listen_share(fd) != 0) {
    (void)err_set_errno(e, "relay: cannot settle its address");
    net_close(fd);
    return ERR_IO;
  }
  addr_set_port(a, port);
  *held = fd;
  return 0;
}

static void release_listens(struct relay *r) {
  for (size_t i = 0; i < r->held_n; i++) net_close(r->held[i]);
  r->held_n = 0;
}

static int settle_listens(struct relay *r, enum handover_role role, struct addr *at, size_t *n, struct err *e) {
  size_t kept = 0;
  for (size_t i = 0; i < *n; i++) {
    char text[64];
    struct addr a = at[i];
    if (heir_listens(r->heir, role, &a)) {
      at[kept++] = a;
      continue;
    }
    int rc = hold_listen(&a, &r->held[r->held_n], e);
    if (rc == ERR_UNSUPPORTED && a.u.any.sa_family == AF_INET6 && *n > 1) {
      addr_format(&a, text, sizeof text);
      log_event(LOG_WARN, "no_ipv6", "listen", text, "what_to_do", "this host has no IPv6: serving IPv4 only", NULL);
      continue;
    }
    if (rc != 0) return rc;
    at[kept++] = a;
    r->held_n++;
  }
  *n = kept;
  return 0;
}

static int settle_addresses(struct relay *r, struct err *e) {
  struct relay_options *o = r->options;
  int rc = settle_listens(r, ROLE_PUBLIC, o->listens, &o->listens_n, e);
  if (rc == ERR_CONFLICT && relay_is_embedded(r)) {      /* a predecessor's port, which somebody has taken since */
    addr_set_port(&o->listens[0], 0);
    rc = settle_listens(r, ROLE_PUBLIC, o->listens, &o->listens_n, e);
  }
  if (rc == 0 && o->listens_n == 0)
    rc = err_set(e, ERR_USAGE, "relay: no address to listen on (give --listen an address that this host has)");
  if (rc == 0) rc = settle_listens(r, ROLE_REDIRECT, o->redirects, &o->redirects_n, e);
  return rc != 0 ? rc : agent_doors_open(r, e);
}

/* Agents would be told of a wrong one long after the start. */
static int check_tcp_listen(const struct relay_options *o, struct err *e) {
  if (o->tcp_listen.u.any.sa_family == AF_UNSPEC) return 0;
  int fd = net_listen_tcp(&o->tcp_listen, 1, false, e);
  if (fd < 0) return err_prefix(e, "raw ports");
  net_close(fd);
  return 0;
}

static bool addr_is_any(const struct addr *a) {
  return a->u.any.sa_family == AF_INET ? a->u.v4.sin_addr.s_addr == INADDR_ANY
                                       : IN6_IS_ADDR_UNSPECIFIED(&a->u.v6.sin6_addr);
}

/* How the world reaches us: --public, else the address that we listen on, else our name. */
static void settle_public(struct relay *r) {
  struct relay_options *o = r->options;
  const struct addr *first = &o->listens[0];
  r->public_port = o->public.port != 0 ? o->public.port : addr_port(first);
  r->dial.port = r->public_port;
  if (o->public.host[0] != '\0') strcpy(r->dial.host, o->public.host);
  else if (!addr_is_any(first)) addr_format_ip(first, r->dial.host, sizeof r->dial.host);
  else (void)snprintf(r->dial.host, sizeof r->dial.host, "%s", o->domain);
  (void)snprintf(r->public_host, sizeof r->public_host, "%s", relay_is_embedded(r) ? r->dial.host : o->domain);
}

static int operator_read(const char *path, uint8_t key[ED25519_KEY_BYTES], struct err *e) {
  char text[OPERATOR_FILE_MAX_BYTES];
  FILE *f = fopen(path, "re");
  if (f == NULL)
    return err_set_errno_remedy(e, "it must be readable by the relay's user", "operator key %.200s", path);
  size_t n = fread(text, 1, sizeof text, f);
  (void)fclose(f);
  if (operator_key_decode(text, n, key) != 0)
    return err_set(e, ERR_SYNTAX,
                   "operator key %.200s: not an operator's public key (copy operator.pub from the state folder of the "
                   "other relay)",
                   path);
  return 0;
}

static int read_operators(struct relay *r, struct err *e) {
  const struct relay_options *o = r->options;
  r->operators = calloc(o->operators_n + 1, ED25519_KEY_BYTES);
  if (r->operators == NULL) return err_set(e, ERR_NOMEM, "relay: out of memory");
  int rc = state_operator_public(r->state, r->operators[0], e);
  r->operators_n = 1;
  for (size_t i = 0; rc == 0 && i < o->operators_n; i++)
    rc = operator_read(o->operator_files[i], r->operators[r->operators_n++], e);
  return rc;
}

int relay_describe(struct relay *r, struct token_relay *self, struct err *e) {
  *self = (struct token_relay){.dial = r->dial};
  (void)snprintf(self->name, sizeof self->name, "%s", r->options->domain);
  return certs_pin(r->certs, &self->pin, e);
}

/* A state folder may change its relay's name; whoever changed it by mistake is told what that means. */
static void warn_of_other_domain(struct relay *r) {
  char before[HOST_NAME_MAX_CHARS + 1];
  if (state_get(r->state, "domain", before, sizeof before, NULL) != 0 || strcmp(before, r->options->domain) == 0)
    return;
  log_event(LOG_WARN, "domain_changed", "from", before, "to", r->options->domain, "what_to_do",
            "make new tokens: those from before name the old domain and find no relay here", NULL);
}

/* For `adit token create`. Embedded relays share a folder and have no such tokens. */
static int remember_settings(struct relay *r, struct err *e) {
  struct token_relay self;
  if (relay_is_embedded(r)) return 0;
  warn_of_other_domain(r);
  int rc = relay_describe(r, &self, e);
  return rc == 0 ? issue_relay_remember(r->state, &self, e) : rc;
}

/* An embedded relay has promised nothing to anybody but its own user, who never sees its options. */
static int open_state(struct relay *r, struct err *e) {
  const struct relay_options *o = r->options;
  char lost[STATE_LOST_CAP];
  if (!o->reset_state && !relay_is_embedded(r)) return state_open(o->state_dir, &r->state, e);
  int rc = state_open_anew(o->state_dir, lost, &r->state, e);
  if (rc == 0 && lost[0] != '\0')
    log_event(
        LOG_WARN, "state_reset", "made_anew", lost, "what_to_do",
        "revoke again, by its id, what was revoked, and make new tokens if operator.key or authority.key was lost",
        NULL);
  else if (rc == 0 && o->reset_state)
    log_event(LOG_WARN, "state_not_reset", "reason", "nothing is missing", "what_to_do",
              "leave --reset-state out, or a loss would pass unnoticed", NULL);
  return rc;
}

static unsigned workers_wanted(const struct relay *r) {
  long cores = sysconf(_SC_NPROCESSORS_ONLN);
  unsigned n = r->options->workers != 0 ? r->options->workers : cores > 0 ? (unsigned)cores : 1;
  return n < RELAY_WORKERS_MAX ? n : RELAY_WORKERS_MAX;
}

/* What cannot be made is told by who opens it. */
static void make_state_folder(const char *dir) {
  char *part = strdup(dir);
  if (part != NULL) (void)!folders_make(part);
  free(part);
}

/* An embedded relay's keys are its user's, as it is. The key process is confined to folders that are there. */
static int start_keys(struct relay *r, struct err *e) {
  const struct relay_options *o = r->options;
  const struct key_process_options keys = {.state_dir = o->state_dir, .domain = o->domain, .cert_file = o->cert_file,
                                           .key_file = o->key_file, .workers_n = workers_wanted(r)};
  if (relay_is_embedded(r)) return 0;
  int rc = rights_take_user(o->user, o->state_dir, &r->rights, e);
  if (rc == 0) make_state_folder(o->state_dir);
  if (o->keys_here) (void)snprintf(r->rights.key_process, sizeof r->rights.key_process, "no: --keys here");
  if (o->keys_here) return rc;
  return rc == 0 ? key_process_start(&keys, &r->keys, e) : rc;
}

static int relay_open(struct relay *r, struct err *e) {
  struct relay_options *o = r->options;
  int rc = open_state(r, e);
  /* A predecessor leaves the folder when it has left the addresses: so they are free by then. Embedded relays share
     their user's folder without a claim: what they give out is all that one user's and on loopback, where the kernel
     keeps a live one's port from the others, and of a dead one's an owner may be given his own again. */
  if (rc == 0 && r->heir != NULL) rc = state_inherit_claim(r->state, heir_claim(r->heir), e);
  else if (rc == 0 && !relay_is_embedded(r)) rc = state_claim(r->state, e);
  if (rc == 0) rc = settle_addresses(r, e);
  if (rc == 0) rc = check_tcp_listen(o, e);
  if (rc != 0) return rc;
  settle_public(r);
  rc = certs_open(r->state, r->keys, o->domain, o->cert_file, o->key_file, time(NULL), &r->certs, e);
  if (rc == 0) rc = read_operators(r, e);
  if (rc == 0) rc = remember_settings(r, e);
  if (rc == 0 && ((r->sources = sources_new()) == NULL || registry_new(r, &r->registry) != 0))
    rc = err_set(e, ERR_NOMEM, "relay: out of memory");
  if (rc == 0 && r->heir == NULL && random_bytes(&r->instance, sizeof r->instance) != 0)
    rc = err_set(e, ERR_CRYPTO, "relay: no randomness");
  return rc;
}

/* Running */

/* What all threads will have open, besides connections, is estimated: there are no threads yet. */
static void divide_descriptors(struct relay *r) {
  uint64_t max = descriptors_max();
  uint64_t each = LOOP_DESCRIPTORS + r->options->listens_n + r->options->redirects_n + r->options->agent_listens_n;
  uint64_t own = descriptors_now() + r->workers_n * each + OTHER_DESCRIPTORS;
  r->division = shares_divide(max > own ? max - own : 0, r->workers_n);
  r->shares.total = r->division.owners;
}

static int workers_open(struct relay *r, struct err *e) {
  unsigned n = workers_wanted(r);
  r->workers = calloc(n, sizeof *r->workers);
  if (r->workers == NULL) return err_set(e, ERR_NOMEM, "relay: out of memory");
  r->workers_n = n;
  size_t share_bytes = (size_t)(r->options->handshake_memory_bytes / n);
  r->newcomers_bytes_max = share_bytes == 0 ? HANDSHAKE_MEMORY_PER_WORKER_BYTES
                                            : size_max(share_bytes, HANDSHAKE_MEMORY_PER_WORKER_MIN_BYTES);
  divide_descriptors(r);
  for (unsigned i = 0; i < n; i++) {
    int rc = worker_open(&r->workers[i], r, e);
    if (rc != 0) return rc;
  }
  return 0;
}

static int workers_run(struct relay *r, struct err *e) {
  int rc = 0;
  for (unsigned i = 0; rc == 0 && i < r->workers_n; i++) rc = worker_run(&r->workers[i], e);
  return rc;
}

/* Ends all threads but this one, and then lets what was still on its way between them arrive: a port that was being
   taken goes into quarantine, a data connection that was being passed on is closed. */
static void serve_end(struct relay *r) {
  for (unsigned i = 0; i < r->workers_n; i++) {
    if (r->workers[i].running) worker_order(&r->workers[i], ORDER_STOP);
  }
  for (unsigned i = 0; i < r->workers_n; i++) worker_wait(&r->workers[i]);
  keeper_stop(r->keeper);
  for (int round = 0; round < SETTLE_ROUNDS; round++) {
    for (unsigned i = 0; i < r->workers_n; i++) worker_settle(&r->workers[i]);
    keeper_settle(r->keeper);
  }
  for (unsigned i = 0; i < r->workers_n; i++) worker_free(&r->workers[i]);
  keeper_free(r->keeper);
}

static uint64_t streams_now(struct relay *r) {
  uint64_t n = 0;
  for (unsigned i = 0; i < r->workers_n; i++)
    n += __atomic_load_n(&r->workers[i].metrics.streams_now, __ATOMIC_RELAXED);
  return n;
}

/* Whether no address is listened on any more, but the admin port's. */
static bool doors_closed(struct relay *r) {
  bool closed = true;
  for (unsigned i = 0; i < r->workers_n; i++)
    closed = closed && !__atomic_load_n(&r->workers[i].accepting, __ATOMIC_ACQUIRE);
  return closed;
}

/* Whether somebody may still become a stream that its agent knows of: in handshake, waiting for a data connection, for
   ACCEPT, or in the queue of a listener. */
static bool visitors_pending(struct relay *r) {
  bool pending = !doors_closed(r);
  for (unsigned i = 0; i < r->workers_n; i++)
    pending = pending || __atomic_load_n(&r->workers[i].visitors_n, __ATOMIC_ACQUIRE) > 0;
  return pending;
}

/* A shared relay's programs start another, which is to find free whatever has a name. */
static void send_programs_on(struct life *life) {
  if (life->relay->options->shared == NULL) return;
  admin_stop(life->admin);
  life->admin = NULL;
  status_door_close(life->relay);
  holders_let_go(life->holders);
}

/* What only one relay can have is given up: the addresses first, then the state, and the admin port when a successor
   has come who may want it. Until then it tells how the drain goes on. */
static void make_room(struct life *life) {
  struct relay *r = life->relay;
  if (!life->leaving && doors_closed(r)) {
    agent_doors_close(r);
    send_programs_on(life);
    keeper_leave(r->keeper);
    life->leaving = true;
  }
  if (life->admin != NULL && keeper_has_left(r->keeper) && state_has_successor(r->state)) {
    admin_stop(life->admin);
    life->admin = NULL;
  }
}

/* Links end once the visitors that were already here have their streams, which need the links' data connections and
   outlive them. */
static void on_drain(struct loop_timer *t) {
  struct life *life = CONTAINER_OF(t, struct life, drain);
  struct relay *r = life->relay;
  uint64_t now_ms = loop_now_ms(life->loop);
  make_room(life);
  if (!life->said_goodbye && (now_ms >= life->goodbye_by_ms || !visitors_pending(r))) {
    for (unsigned i = 0; i < r->workers_n; i++) worker_order(&r->workers[i], ORDER_GOODBYE);
    life->said_goodbye = true;
  }
  if ((life->said_goodbye && streams_now(r) == 0) || now_ms >= life->drain_until_ms ||
      loop_timer_set(life->loop, t, DRAIN_POLL_MS, on_drain) != 0)
    loop_stop(life->loop);
}

static void drain(struct life *life) {
  struct relay *r = life->relay;
  __atomic_store_n(&r->draining, true, __ATOMIC_RELAXED);    /* before it is said */
  log_event(LOG_INFO, "draining", "streams", LOG_U64(streams_now(r)), NULL);
  for (unsigned i = 0; i < r->workers_n; i++) worker_order(&r->workers[i], ORDER_CLOSE_DOORS);
  life->drain_until_ms = loop_now_ms(life->loop) + r->options->drain_ms;
  life->goodbye_by_ms =
      loop_now_ms(life->loop) + (r->options->drain_ms < DRAIN_VISITORS_MS ? r->options->drain_ms : DRAIN_VISITORS_MS);
  on_drain(&life->drain);
}

/* The first signal drains, the second ends at once. One that finds another in our place is meant for that. */
static void begin_drain(struct life *life, int number) {
  if (!upgrade_cancel(life->upgrade)) {
    upgrade_pass_signal(life->upgrade, number);
  } else if (relay_draining(life->relay)) {
    loop_stop(life->loop);
  } else {
    notify_systemd("STOPPING=1");
    drain(life);
  }
}

/* Another serves, and all that is here goes there. */
static void on_committed(void *user) {
  struct life *life = user;
  struct relay *r = life->relay;
  admin_leave(life->admin);
  life->admin = NULL;
  agent_doors_leave(r);
  life->leaving = life->upgraded = true;
  for (unsigned i = 0; i < r->workers_n; i++) worker_order(&r->workers[i], ORDER_CLOSE_DOORS);
}

/* The other has died amid it: what is left here drains. */
static void on_handed_over(void *user, bool all) {
  struct life *life = user;
  if (all) loop_stop(life->loop);
  else drain(life);
}

static void on_signal(struct loop_io *io, uint32_t events) {
  struct life *life = CONTAINER_OF(io, struct life, signals);
  struct signalfd_siginfo info;
  (void)events;
  while (read(life->signal_fd, &info, sizeof info) == (ssize_t)sizeof info) {
    if (info.ssi_signo == SIGHUP) keeper_reload_certificates(life->relay->keeper);
    else if (info.ssi_signo == SIGUSR2) upgrade_request(life->upgrade);
    else begin_drain(life, (int)info.ssi_signo);
  }
}

/* The programs that it lived for have ended. */
static void on_last_gone(struct loop_timer *t) {
  struct life *life = CONTAINER_OF(t, struct life, last_gone);
  __atomic_store_n(&life->relay->draining, true, __ATOMIC_RELAXED);   /* no port is opened any more */
  loop_stop(life->loop);
}

/* Nobody can be welcomed any more, so whoever keeps us running is to start us again. */
static void on_keys_gone(struct loop_io *io, uint32_t events) {
  struct life *life = CONTAINER_OF(io, struct life, keys);
  (void)events;
  loop_io_del(io);
  life->lost_keys = true;
  loop_stop(life->loop);
}

static int watch_keys(struct life *life, struct err *e) {
  if (life->relay->keys == NULL) return 0;
  int rc = loop_io_add(life->loop, &life->keys, key_process_fd(life->relay->keys), EPOLLIN, on_keys_gone);
  return rc == 0 ? 0 : err_set(e, rc, "relay: cannot watch its key process");
}

static int life_begin(struct life *life, struct relay *r, struct err *e) {
  static const int numbers[] = {SIGTERM, SIGINT, SIGHUP, SIGUSR2};
  sigset_t before;
  life->relay = r;
  life->signal_fd = signals_take(numbers, ARRAY_LEN(numbers), &before, e);
  if (life->signal_fd < 0) return err_prefix(e, "relay");
  /* A relay starts no programs, but as process 1 of a container it is given the orphans of others: those that end from
     here on leave no zombie, and those that have ended are taken. */
  (void)signal(SIGCHLD, SIG_IGN);
  while (waitpid(-1, NULL, WNOHANG) > 0) {}
  life->loop = loop_new(e);
  if (life->loop == NULL) return ERR_NOMEM;
  int rc = loop_io_add(life->loop, &life->signals, life->signal_fd, EPOLLIN, on_signal);
  return rc == 0 ? 0 : err_set(e, rc, "relay: cannot wait for signals");
}

static void life_end(struct life *life) {
  if (life->loop != NULL) loop_free(life->loop);
  if (life->signal_fd > 0) (void)close(life->signal_fd);
  if (life->admin_fd >= 0) net_close(life->admin_fd);
}

static void list_addresses(const struct addr *at, size_t n, char out[RELAY_LISTENS_MAX * ADDR_TEXT_CAP]) {
  size_t used = 0;
  out[0] = '\0';
  for (size_t i = 0; i < n; i++) {
    if (i > 0) out[used++] = ',';
    addr_format(&at[i], out + used, (size_t)RELAY_LISTENS_MAX * ADDR_TEXT_CAP - used);
    used += strlen(out + used);
  }
}

static void announce(struct relay *r, uint16_t admin_port) {
  const struct relay_options *o = r->options;
  rights_log(&r->rights);
  enum { LIST_CAP = RELAY_LISTENS_MAX * ADDR_TEXT_CAP };
  char text[LIST_CAP + 256], listen[LIST_CAP], redirect[LIST_CAP], agents[LIST_CAP];
  list_addresses(o->listens, o->listens_n, listen);
  list_addresses(o->redirects, o->redirects_n, redirect);
  list_addresses(o->agent_listens, o->agent_listens_n, agents);
  log_event(LOG_INFO, "relay_ready", "domain", o->domain, "listen", listen, "workers", LOG_U64(r->workers_n),
            o->agent_listens_n > 0 ? "listen_agents" : o->redirects_n > 0 ? "redirect_http" : NULL,
            o->agent_listens_n > 0 ? agents : redirect,
            o->agent_listens_n > 0 && o->redirects_n > 0 ? "redirect_http" : NULL, redirect, NULL);
  (void)snprintf(text, sizeof text,
                 "READY=1\nSTATUS=listening on %s\nX_ADIT_PORT=%u\nX_ADIT_ADMIN=%u\nX_ADIT_REDIRECT=%u", listen,
                 addr_port(&o->listens[0]), admin_port, o->redirects_n > 0 ? addr_port(&o->redirects[0]) : 0);
  notify_systemd(text);
  if (!r->options->quiet) {
    host_check_port_range(r->options);
    name_check_start(r);
  }
}

/* Nothing on it asks who you are. */
static void warn_of_open_admin(const struct addr *at) {
  char text[64];
  if (addr_is_loopback(at)) return;
  addr_format(at, text, sizeof text);
  log_event(LOG_WARN, "admin_not_loopback", "listen", text, "what_to_do",
            "/metrics and /status have no password: listen on 127.0.0.1, or let a firewall admit only those who may "
            "read them",
            NULL);
}

/* A predecessor that drains notices within DRAIN_POLL_MS that we have come, and leaves us the port. One that hands over
   gives it to us later. */
static int listen_admin(struct life *life, struct err *e) {
  const struct timespec pause = {.tv_nsec = DRAIN_POLL_MS * 1000000L};
  const struct addr *at = &life->relay->options->admin;
  struct addr inherited = *at;
  if (at->u.any.sa_family == AF_UNSPEC || addr_is_unix(at)) return 0;
  if (life->relay->heir != NULL && heir_listens(life->relay->heir, ROLE_ADMIN, &inherited)) return 0;
  const uint64_t until_ms = clock_ms() + STATE_CLAIM_MS;
  int fd = admin_listen(at, e);
  while (fd == ERR_CONFLICT && clock_ms() < until_ms) {
    (void)nanosleep(&pause, NULL);
    fd = admin_listen(at, e);
  }
  life->admin_fd = fd;
  if (fd >= 0) warn_of_open_admin(at);
  return fd < 0 ? fd : 0;
}

static int start_admin(struct life *life, struct err *e) {
  struct relay *r = life->relay;
  const struct addr *at = &r->options->admin;
  if (at->u.any.sa_family == AF_UNSPEC) return 0;
  const struct admin_source source = report_source(r);
  int *from = addr_is_unix(at) ? &r->status_door.fd : &life->admin_fd, fd = *from;
  *from = -1;
  return addr_is_unix(at) ? admin_start_private(fd, &source, &life->admin, e)
                          : admin_start(fd, at, &source, &life->admin, e);
}

/* From one that hands over it is taken when we serve. */
static int inherit_admin(struct life *life, int fd, struct err *e) {
  struct relay *r = life->relay;
  const struct admin_source source = report_source(r);
  return fd >= 0 ? admin_start(fd, &r->options->admin, &source, &life->admin, e) : 0;
}

/* Without a starter or a door it serves all the same. */
static void begin_upgrades(struct life *life) {
  static const struct addr nowhere;
  const struct upgrade_handlers handlers = {
      .committed = on_committed, .handed_over = on_handed_over, .user = life};
  struct relay *r = life->relay;
  struct err e;
  if (relay_is_embedded(r)) return;
  int door = heir_listener(r->heir, ROLE_UPGRADE_DOOR, &nowhere, 0, 1);
  if (door < 0) door = upgrade_door_open(r->options->state_dir, &e);
  if (door < 0) log_event(LOG_WARN, "no_upgrade_socket", "error", e.text, NULL);
  if (upgrade_new(r, life->loop, life->starter, door, &handlers, &life->upgrade, &e) != 0)
    log_event(LOG_WARN, "no_upgrades", "error", e.text, NULL);
  else life->starter.fd = -1;
}

/* Everything is ready. A predecessor gives up his place now; without one there is nobody to ask. */
static int take_over(struct life *life, struct err *e) {
  struct relay *r = life->relay;
  struct addr admin = r->options->admin;
  if (r->heir == NULL) {
    int rc = start_admin(life, e);
    begin_upgrades(life);
    return rc == 0 ? keeper_run(r->keeper, e) : rc;
  }
  int fd = admin.u.any.sa_family != AF_UNSPEC && heir_listens(r->heir, ROLE_ADMIN, &admin)
               ? heir_listener(r->heir, ROLE_ADMIN, &admin, 0, 1)
               : -1;
  int rc = fd < 0 ? start_admin(life, e) : 0;
  begin_upgrades(life);
  if (rc == 0) rc = heir_ready(r->heir, e);
  if (rc == 0) rc = keeper_read_again(r->keeper, e);
  if (rc == 0) rc = keeper_run(r->keeper, e);
  if (rc == 0) (void)!heir_take_control(r->heir);
  if (rc == 0) rc = inherit_admin(life, fd, e);            /* which tells what the predecessor has counted */
  else net_close(fd);
  return rc;
}

/* What a burst of handshakes took is not kept for the next one. */
static void on_trim(struct loop_timer *t) {
  struct life *life = CONTAINER_OF(t, struct life, trim);
  (void)heap_trim(&life->heap);
  (void)loop_timer_set(life->loop, t, HEAP_TRIM_EVERY_MS, on_trim);
}

static int serve(struct relay *r, struct life *life, struct err *e) {
  int rc = workers_open(r, e);
  release_listens(r);
  if (rc == 0) rc = listen_admin(life, e);
  if (rc == 0) rc = watch_keys(life, e);
  if (rc == 0) rc = confine_relay(r, e);
  words_go_on();
  if (rc == 0) rc = keeper_new(r, &r->keeper, e);
  if (rc == 0) rc = workers_run(r, e);
  if (rc == 0) rc = take_over(life, e);
  if (rc == 0 && relay_is_embedded(r) &&
      (life->holders = holders_open(r, life->loop, on_last_gone, &life->last_gone, e)) == NULL)
    rc = ERR_IO;
  if (rc == 0) {
    for (unsigned i = 0; i < r->workers_n; i++) worker_order(&r->workers[i], ORDER_OPEN_DOORS);
    upgrade_set_admin(life->upgrade, life->admin);
    if (r->heir != NULL) heir_follow(r->heir, life->loop);
    announce(r, life->admin != NULL ? admin_port(life->admin) : 0);
    on_trim(&life->trim);
    loop_run(life->loop);
    if (life->lost_keys)
      rc = err_set(e, ERR_CLOSED, "relay: its key process %s, and so it ends (start it again; %s)",
                   key_process_hangs(r->keys) ? "does not answer" : "has ended",
                   key_process_hangs(r->keys) ? "the process adit-keys may have been stopped"
                                              : "a kernel that is out of memory says so in its log");
  }
  upgrade_free(life->upgrade);
  holders_close(life->holders);
  admin_stop(life->admin);
  serve_end(r);
  return rc;
}

/* What has a name goes, unless it is another's. */
static void remove_names(struct relay *r, const struct life *life) {
  bool others = life->upgraded || (r->heir != NULL && !heir_has_taken_over(r->heir));
  if (others) agent_doors_leave(r);
  else agent_doors_close(r);
  status_door_close(r);
  if (!others && !relay_is_embedded(r) && r->state != NULL) upgrade_door_remove(r->options->state_dir);
}

/* First of all, as the starter is to be what this process was. */
static int begin_life(struct life *life, struct relay *r, struct err *e) {
  struct err why;
  life->starter.fd = life->admin_fd = -1;
  int rc = heir_find(&r->heir, e);
  if (rc != 0) return rc;
  if (!relay_is_embedded(r) && starter_begin(&life->starter, heir_carrier(r->heir), &why) != 0)
    log_event(LOG_WARN, "no_starter", "error", why.text, "effect", "adit relay upgrade will not work", NULL);
  if (descriptors_raise_limit() != 0)
    log_event(LOG_WARN, "descriptor_limit", "what_to_do", "cannot be raised: set LimitNOFILE or ulimit -n", NULL);
  shortage_listen(warning_shortage, &r->warnings);
  rc = life_begin(life, r, e);
  return rc == 0 && r->heir != NULL ? heir_meet(r->heir, r, e) : rc;
}

int relay_run(const struct relay_options *options, struct err *e) {
  struct relay_options copy = *options;
  struct relay r;
  struct life life;
  memset(&r, 0, sizeof r);
  memset(&life, 0, sizeof life);
  r.status_door.fd = -1;
  r.options = &copy;
  r.started_ms = clock_ms();
  pthread_mutex_init(&r.ticket_lock, NULL);
  words_wait();                    /* their thread, too, is to begin with what rights are left */
  int rc = begin_life(&life, &r, e);
  if (rc == 0) rc = start_keys(&r, e);
  if (rc == 0) rc = relay_open(&r, e);
  if (rc == 0) rc = serve(&r, &life, e);
  if (rc != 0 && r.heir != NULL) heir_refuse(r.heir, e);
  release_listens(&r);
  remove_names(&r, &life);
  free(r.workers);
  registry_free(r.registry);
  sources_free(r.sources);
  free(r.operators);
  if (r.certs != NULL) certs_close(r.certs);
  key_process_end(r.keys);
  if (r.state != NULL) state_close(r.state);
  heir_free(r.heir);
  starter_end(&life.starter);
  life_end(&life);
  wipe(r.ticket_keys, sizeof r.ticket_keys);
  pthread_mutex_destroy(&r.ticket_lock);
  shortage_listen(NULL, NULL);
  words_go_on();
  return rc;
}
