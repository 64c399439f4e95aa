/* The admin port. It must never disturb the relay: it has a thread of its own that takes no signals; its descriptors
   are bounded: by closing after each answer, by a timeout, and by pausing the listener when connections come too fast
   or descriptors have run out (a listener that cannot accept would otherwise spin); and so is its memory: the list of
   tunnels leaves in batches, the next when the last one has gone.

   On a loopback address only requests to an address or to localhost are answered: a page in a browser on the relay's
   host could otherwise read /status by pointing a name of its own there (DNS rebinding). */
#include "relay/admin.h"

#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <event2/http.h>
#include <event2/listener.h>

#include "base/limits.h"
#include "base/log.h"
#include "base/shortage.h"
#include "base/words.h"
#include "loop/net.h"
#include "relay/shared.h"

enum { ADMIN_MAGIC = 0x61646d69 };

struct admin {
  uint32_t magic;
  struct admin_source source;
  pthread_t thread;
  int stop_fd;
  bool loopback, private;
  enum { ADMIN_CLOSES_DOOR, ADMIN_LEAVES, ADMIN_STOPS } order;       /* atomic: written before stop_fd is */
  bool door_is_closed;
  struct status last;              /* when the door was closed */
  sem_t door_closed;
  uint16_t port;
  struct event_base *base;
  struct evhttp *http;
  struct evconnlistener *listener; /* evhttp's */
  struct event *stop, *tick;
  unsigned accepted;               /* since the last tick */
};

/* Stopping and pausing. */

/* Whoever has come in is told the numbers of now: what is counted from here on he may have heard already, of the
   successor. */
static void close_door(struct admin *a) {
  if (a->door_is_closed) return;
  a->door_is_closed = true;
  (void)event_del(a->tick);
  (void)evconnlistener_disable(a->listener);
  a->source.numbers(a->source.user, &a->last);
}

static void on_stop(evutil_socket_t fd, short what, void *user) {
  const struct timeval grace = {.tv_usec = ADMIN_LEAVE_MS * 1000};
  uint64_t times;
  struct admin *a = user;
  (void)what;
  CHECK_MAGIC(a, ADMIN_MAGIC);
  (void)!read(fd, &times, sizeof times);
  switch (__atomic_load_n(&a->order, __ATOMIC_ACQUIRE)) {
    case ADMIN_CLOSES_DOOR:
      close_door(a);
      (void)sem_post(&a->door_closed);
      break;
    case ADMIN_LEAVES:
      close_door(a);
      (void)event_base_loopexit(a->base, &grace);
      break;
    case ADMIN_STOPS:
      (void)event_base_loopbreak(a->base);
      break;
  }
}

static void on_tick(evutil_socket_t fd, short what, void *user) {
  (void)fd;
  (void)what;
  struct admin *a = user;
  CHECK_MAGIC(a, ADMIN_MAGIC);
  a->accepted = 0;
  (void)evconnlistener_enable(a->listener);
}

/* Out of descriptors or memory: the next tick tries again. (user is evhttp's own.) */
static void on_accept_error(struct evconnlistener *listener, void *user) {
  (void)user;
  (void)shortage_note(EVUTIL_SOCKET_ERROR());
  (void)evconnlistener_disable(listener);
}

/* Called by evhttp for each connection. Its descriptor is closed with the buffer, after that has taken it out of the
   epoll set: evhttp itself closes first, and meanwhile another thread may have a new descriptor by that number. */
static struct bufferevent *on_accept(struct event_base *base, void *user) {
  struct admin *a = user;
  CHECK_MAGIC(a, ADMIN_MAGIC);
  if (++a->accepted >= ADMIN_ACCEPTS_PER_S) (void)evconnlistener_disable(a->listener);
  return bufferevent_socket_new(base, -1, BEV_OPT_CLOSE_ON_FREE);
}

/* Answering. */

static const char plain[] = "text/plain; charset=utf-8";

static int add_headers(struct evhttp_request *request, const char *type) {
  struct evkeyvalq *headers = evhttp_request_get_output_headers(request);
  return evhttp_add_header(headers, "Content-Type", type) != 0 ||
                 evhttp_add_header(headers, "Connection", "close") != 0 ||
                 evhttp_add_header(headers, "Cache-Control", "no-store") != 0 ||
                 evhttp_add_header(headers, "X-Content-Type-Options", "nosniff") != 0
             ? ERR_NOMEM
             : 0;
}

/* HEAD has the headers of GET, with the length of what it leaves out. */
static void reply(struct evhttp_request *request, int code, const char *reason, const char *type, const char *text) {
  char length[24];
  bool body = evhttp_request_get_command(request) != EVHTTP_REQ_HEAD;
  struct evbuffer *b = evbuffer_new();
  (void)snprintf(length, sizeof length, "%zu", strlen(text));
  if (b == NULL || (body && evbuffer_add(b, text, strlen(text)) != 0) || add_headers(request, type) != 0 ||
      evhttp_add_header(evhttp_request_get_output_headers(request), "Content-Length", length) != 0)
    evhttp_send_error(request, HTTP_INTERNAL, NULL);
  else evhttp_send_reply(request, code, reason, b);
  if (b != NULL) evbuffer_free(b);
}

/* What may be asked of every path, for who asked something else (405) or just that (OPTIONS, 204). */
static void reply_allowed(struct evhttp_request *request, bool asked) {
  struct evkeyvalq *headers = evhttp_request_get_output_headers(request);
  if (evhttp_add_header(headers, "Allow", "GET, HEAD, OPTIONS") != 0)
    evhttp_send_error(request, HTTP_INTERNAL, NULL);
  else if (!asked) reply(request, HTTP_BADMETHOD, "Method Not Allowed", plain, "there are GET, HEAD and OPTIONS\n");
  else if (evhttp_add_header(headers, "Connection", "close") != 0) evhttp_send_error(request, HTTP_INTERNAL, NULL);
  else evhttp_send_reply(request, HTTP_NOCONTENT, "No Content", NULL);
}

static void reply_health(struct admin *a, struct evhttp_request *request) {
  if (a->source.draining(a->source.user)) reply(request, HTTP_SERVUNAVAIL, "Service Unavailable", plain, "draining\n");
  else reply(request, HTTP_OK, "OK", plain, "ok\n");
}

static void reply_no_memory(struct evhttp_request *request) {
  reply(request, HTTP_SERVUNAVAIL, "Service Unavailable", plain, "out of memory\n");
}

static void numbers(struct admin *a, struct status *s) {
  if (a->door_is_closed) *s = a->last;
  else a->source.numbers(a->source.user, s);
}

static void reply_metrics(struct admin *a, struct evhttp_request *request) {
  struct status s;
  numbers(a, &s);
  char *text = metrics_text(&s);
  if (text == NULL) reply_no_memory(request);
  else reply(request, HTTP_OK, "OK", "text/plain; version=0.0.4; charset=utf-8", text);
  free(text);
}

/* The status, in pieces */

struct listing {                   /* under way to one client */
  struct admin *admin;
  struct evhttp_request *request;
  struct evbuffer *piece;
  void *walk;
  enum { IN_TUNNELS, IN_TOKENS, IN_NARROWED, AT_END } at;  /* in this order */
  bool first;                      /* none was listed yet */
};

static void listing_free(struct listing *l) {
  if (l->walk != NULL) l->admin->source.walk_end(l->admin->source.user, l->walk);
  if (l->piece != NULL) evbuffer_free(l->piece);
  free(l);
}

/* The client has gone, or we stop. A request whose connection was taken from it is ours to end. */
static void listing_cut(struct evhttp_connection *connection, void *user) {
  struct listing *l = user;
  (void)connection;
  if (evhttp_request_get_connection(l->request) == NULL) evhttp_send_reply_end(l->request);
  listing_free(l);
}

static void listing_end(struct listing *l) {
  evhttp_connection_set_closecb(evhttp_request_get_connection(l->request), NULL, NULL);
  evhttp_send_reply_end(l->request);
  listing_free(l);
}

static void listing_next(struct evhttp_connection *connection, void *user);

/* Takes text; NULL: it could not be made, and what is missing at the end shows that the answer is not whole. l may be
   gone afterwards. */
static void listing_send(struct listing *l, char *text, bool last) {
  int rc = text != NULL ? evbuffer_add(l->piece, text, strlen(text)) : -1;
  free(text);
  if (rc == 0) evhttp_send_reply_chunk_with_cb(l->request, l->piece, last ? NULL : listing_next, l);
  if (rc != 0 || last) listing_end(l);
}

/* The end of one list, and the beginning of the next. */
static char *listing_go_on(struct listing *l) {
  static const char *const between[] = {STATUS_JSON_TOKENS, STATUS_JSON_NARROWED, STATUS_JSON_END};
  l->first = true;
  return strdup(between[l->at++]);
}

static char *listing_tunnels(struct listing *l) {
  struct status_tunnel batch[STATUS_BATCH_MAX];
  size_t n = l->admin->source.walk_next(l->admin->source.user, l->walk, batch);
  bool first = l->first;
  l->first = false;
  return n > 0 ? status_json_tunnels(batch, n, first) : listing_go_on(l);
}

static char *listing_tokens(struct listing *l) {
  const struct admin_source *s = &l->admin->source;
  struct status_token batch[STATUS_BATCH_MAX];
  size_t n = (l->at == IN_TOKENS ? s->walk_tokens : s->walk_narrowed)(s->user, l->walk, batch);
  bool first = l->first;
  l->first = false;
  return n > 0 ? status_json_tokens(batch, n, first) : listing_go_on(l);
}

/* The last piece has left. */
static void listing_next(struct evhttp_connection *connection, void *user) {
  struct listing *l = user;
  (void)connection;
  char *text = l->at == IN_TUNNELS ? listing_tunnels(l) : listing_tokens(l);
  listing_send(l, text, l->at == AT_END);
}

static void reply_status(struct admin *a, struct evhttp_request *request) {
  static const char json[] = "application/json";
  struct status s;
  if (evhttp_request_get_command(request) == EVHTTP_REQ_HEAD) {
    if (add_headers(request, json) == 0) evhttp_send_reply(request, HTTP_OK, "OK", NULL);
    else evhttp_send_error(request, HTTP_INTERNAL, NULL);
    return;
  }
  numbers(a, &s);
  char *text = status_json_begin(&s);
  struct listing *l = calloc(1, sizeof *l);
  if (l != NULL) {
    *l = (struct listing){.admin = a, .request = request, .piece = evbuffer_new(), .first = true};
    l->walk = a->source.walk_begin(a->source.user);
  }
  if (text == NULL || l == NULL || l->piece == NULL || l->walk == NULL || add_headers(request, json) != 0) {
    if (l != NULL) listing_free(l);
    free(text);
    reply_no_memory(request);
    return;
  }
  evhttp_connection_set_closecb(evhttp_request_get_connection(request), listing_cut, l);
  evhttp_send_reply_start(request, HTTP_OK, "OK");
  listing_send(l, text, false);
}

static bool host_is_local(const char *host) {
  if (host == NULL || host[0] == '[' || host_is_ip(host)) return true;
  static const char suffix[] = ".localhost";
  size_t n = strlen(host), suffix_n = sizeof suffix - 1;
  return strcasecmp(host, "localhost") == 0 || (n > suffix_n && strcasecmp(host + n - suffix_n, suffix) == 0);
}

static const struct path {
  const char *name;
  void (*reply)(struct admin *a, struct evhttp_request *request);
} paths[] = {{"/healthz", reply_health}, {"/metrics", reply_metrics}, {"/status", reply_status}};

static const struct path *path_find(const char *name) {
  for (size_t i = 0; name != NULL && i < ARRAY_LEN(paths); i++)
    if (strcmp(name, paths[i].name) == 0) return &paths[i];
  return NULL;
}

/* What a Unix socket's folder lets in may be others, too. */
static bool is_of_ours(struct evhttp_request *request) {
  return shared_admits(
      bufferevent_getfd(evhttp_connection_get_bufferevent(evhttp_request_get_connection(request))));
}

static void on_request(struct evhttp_request *request, void *user) {
  struct admin *a = user;
  CHECK_MAGIC(a, ADMIN_MAGIC);
  enum evhttp_cmd_type method = evhttp_request_get_command(request);
  const struct path *path = path_find(evhttp_uri_get_path(evhttp_request_get_evhttp_uri(request)));
  if (a->loopback && !host_is_local(evhttp_request_get_host(request)))
    reply(request, 403, "Forbidden", plain, "this port answers only to an address or localhost\n");
  else if (a->private && !is_of_ours(request))
    reply(request, 403, "Forbidden", plain, "this socket answers only to programs of its user\n");
  else if (path == NULL)
    reply(request, HTTP_NOTFOUND, "Not Found", plain, "there are /healthz, /metrics and /status\n");
  else if (method == EVHTTP_REQ_GET || method == EVHTTP_REQ_HEAD) path->reply(a, request);
  else reply_allowed(request, method == EVHTTP_REQ_OPTIONS);
}

/* Starting. */

/* After an error libevent ends the process, so these are our last words: at the start, when descriptors have run
   out. */
static void on_library_log(int severity, const char *text) {
  if (severity != EVENT_LOG_ERR) {
    log_event(LOG_DEBUG, "admin_library", "text", text, NULL);
    return;
  }
  log_event(LOG_ERROR, "admin_library", "text", text, "what_to_do", shortage_remedy(errno), NULL);
  words_settle();
}

static struct event_base *base_new(void) {
  struct event_config *config = event_config_new();
  if (config == NULL) return NULL;
  struct event_base *base = NULL;
  if (event_config_set_flag(config, EVENT_BASE_FLAG_NOLOCK) == 0 &&
      event_config_set_flag(config, EVENT_BASE_FLAG_IGNORE_ENV) == 0)
    base = event_base_new_with_config(config);
  event_config_free(config);
  return base;
}

/* Takes fd on success. */
static int http_prepare(struct admin *a, int fd) {
  a->http = evhttp_new(a->base);
  if (a->http == NULL) return ERR_NOMEM;
  evhttp_set_allowed_methods(a->http, EVHTTP_REQ_GET | EVHTTP_REQ_POST | EVHTTP_REQ_HEAD | EVHTTP_REQ_PUT |
                                          EVHTTP_REQ_DELETE | EVHTTP_REQ_OPTIONS | EVHTTP_REQ_TRACE |
                                          EVHTTP_REQ_CONNECT | EVHTTP_REQ_PATCH);
  evhttp_set_max_headers_size(a->http, ADMIN_HEADERS_MAX_BYTES);
  evhttp_set_max_body_size(a->http, ADMIN_BODY_MAX_BYTES);
  evhttp_set_timeout(a->http, ADMIN_TIMEOUT_S);
  evhttp_set_bevcb(a->http, on_accept, a);
  evhttp_set_gencb(a->http, on_request, a);
  struct evconnlistener *listener =
      evconnlistener_new(a->base, NULL, NULL, LEV_OPT_CLOSE_ON_EXEC | LEV_OPT_CLOSE_ON_FREE, 0, fd);
  if (listener == NULL) return ERR_NOMEM;
  if (evhttp_bind_listener(a->http, listener) == NULL) {
    (void)evconnlistener_disable(listener);
    return ERR_NOMEM;              /* the listener is lost with fd still open: the caller closes fd */
  }
  a->listener = listener;
  evconnlistener_set_error_cb(listener, on_accept_error);
  return 0;
}

static int events_prepare(struct admin *a) {
  const struct timeval period = {.tv_sec = ADMIN_PAUSE_MS / 1000, .tv_usec = ADMIN_PAUSE_MS % 1000 * 1000};
  a->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (a->stop_fd < 0) return ERR_IO;
  a->stop = event_new(a->base, a->stop_fd, EV_READ | EV_PERSIST, on_stop, a);
  a->tick = event_new(a->base, -1, EV_PERSIST, on_tick, a);
  if (a->stop == NULL || a->tick == NULL || event_add(a->stop, NULL) != 0 || event_add(a->tick, &period) != 0)
    return ERR_NOMEM;
  return 0;
}

static void *run(void *user) {
  struct admin *a = user;
  CHECK_MAGIC(a, ADMIN_MAGIC);
  shortage_listen(a->source.shortage, a->source.user);
  (void)event_base_dispatch(a->base);
  return NULL;
}

/* Signals belong to the relay's main thread: this one starts with all of them blocked. */
static int thread_start(struct admin *a) {
  sigset_t all, before;
  (void)sigfillset(&all);
  int rc = pthread_sigmask(SIG_SETMASK, &all, &before);
  if (rc != 0) return rc;
  rc = pthread_create(&a->thread, NULL, run, a);
  (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
  if (rc == 0) (void)pthread_setname_np(a->thread, "adit-admin");
  return rc;
}

static void admin_free(struct admin *a) {
  if (a->http != NULL) evhttp_free(a->http); /* the listener and its descriptor, too */
  if (a->stop != NULL) event_free(a->stop);
  if (a->tick != NULL) event_free(a->tick);
  if (a->base != NULL) event_base_free(a->base);
  (void)sem_destroy(&a->door_closed);
  net_close(a->stop_fd);
  a->magic = 0;
  free(a);
}

/* Takes fd. */
static int start_at(int fd, const struct admin *kind, const struct admin_source *source, struct admin **out,
                    struct err *e) {
  struct admin *a = calloc(1, sizeof *a);
  if (a == NULL) {
    net_close(fd);
    return err_set(e, ERR_NOMEM, "admin port: out of memory");
  }
  *a = *kind;
  a->magic = ADMIN_MAGIC;
  a->source = *source;
  a->stop_fd = -1;
  (void)sem_init(&a->door_closed, 0, 0);
  event_set_log_callback(on_library_log);
  a->base = base_new();
  int rc = a->base == NULL ? ERR_NOMEM : net_listen_port(fd, &a->port);
  if (rc == 0) rc = http_prepare(a, fd);
  if (rc != 0) net_close(fd); /* not taken */
  if (rc == 0) rc = events_prepare(a);
  if (rc == 0 && thread_start(a) != 0) rc = ERR_LIMIT;
  if (rc != 0) {
    admin_free(a);
    return err_set(
        e, rc,
        "admin port: cannot be started: not enough descriptors, memory or threads (raise LimitNOFILE= of its systemd "
        "unit or ulimit -n, or the limits of the others)");
  }
  *out = a;
  return 0;
}

int admin_listen(const struct addr *listen, struct err *e) {
  int fd = net_listen_tcp(listen, ADMIN_BACKLOG, false, e);
  if (fd < 0) (void)err_prefix(e, "admin port");
  return fd;
}

int admin_start(int fd, const struct addr *listen, const struct admin_source *source, struct admin **out,
                struct err *e) {
  *out = NULL;
  return start_at(fd, &(struct admin){.loopback = addr_is_loopback(listen)}, source, out, e);
}

int admin_start_private(int fd, const struct admin_source *source, struct admin **out, struct err *e) {
  *out = NULL;
  return start_at(fd, &(struct admin){.private = true}, source, out, e);
}

uint16_t admin_port(const struct admin *a) {
  CHECK_MAGIC(a, ADMIN_MAGIC);
  return a->port;
}

int admin_descriptor(const struct admin *a) {
  CHECK_MAGIC(a, ADMIN_MAGIC);
  return evconnlistener_get_fd(a->listener);
}

static void give_order(struct admin *a, unsigned order) {
  const uint64_t one = 1;
  CHECK_MAGIC(a, ADMIN_MAGIC);
  __atomic_store_n(&a->order, order, __ATOMIC_RELEASE);
  /* Cannot fail: the counter is far from full. */
  ASSERT(write(a->stop_fd, &one, sizeof one) == (ssize_t)sizeof one);
}

static void end(struct admin *a, unsigned order) {
  if (a == NULL) return;
  give_order(a, order);
  (void)pthread_join(a->thread, NULL);
  admin_free(a);
}

void admin_close_door(struct admin *a) {
  if (a == NULL) return;
  give_order(a, ADMIN_CLOSES_DOOR);
  while (sem_wait(&a->door_closed) != 0) continue;
}

void admin_leave(struct admin *a) { end(a, ADMIN_LEAVES); }
void admin_stop(struct admin *a) { end(a, ADMIN_STOPS); }
