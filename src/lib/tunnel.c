/* adit_forward and adit_tunnel_*: the public face of src/agent/tunnel.c. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/deadline.h"
#include "base/text.h"
#include "lib/error.h"
#include "lib/handle.h"
#include "lib/sized.h"

int handle_check_tunnel(const struct adit_tunnel *t) {
  if (t == NULL || t->magic != TUNNEL_MAGIC) return error_set(ADIT_EINVAL, "not a tunnel (it is NULL, or was closed)");
  return handle_check_client(t->client);
}

/* h2 goes first: the order is that of preference. */
static int parse_alpn(const struct adit_options *o, struct tunnel_request *r, struct err *e) {
  const char *list = o->alpn != NULL ? o->alpn : "http/1.1";
  char text[ALPN_LIST_MAX_BYTES + 8];
  if (strlen(list) > ALPN_LIST_MAX_BYTES)
    return err_set(e, ERR_USAGE, "ALPN list: too long (at most %d bytes; name fewer protocols)", ALPN_LIST_MAX_BYTES);
  (void)snprintf(text, sizeof text, "%s%s%s", o->h2 ? "h2" : "", o->h2 && list[0] != '\0' ? "," : "", list);
  int code = alpn_parse(text, r->alpn, sizeof r->alpn, &r->alpn_n, e);
  if (code != 0 && o->h2 && alpn_parse(list, r->alpn, sizeof r->alpn, &r->alpn_n, NULL) == 0 &&
      alpn_contains(r->alpn, r->alpn_n, "h2"))
    return 0;                      /* named in the list already */
  return code;
}

/* By the real path of its folder: one file of several paths is to be found out. 0, or an errno. */
static int real_file(const char *path, char **out) {
  const char *slash = strrchr(path, '/'), *name = slash == NULL ? path : slash + 1;
  *out = NULL;
  char *folder = slash == NULL ? strdup(".") : strndup(path, (size_t)(slash - path) + 1);
  if (folder == NULL) return ENOMEM;
  char *real = realpath(folder, NULL);
  int code = errno;
  free(folder);
  if (real == NULL) return code;
  int n = asprintf(out, "%s/%s", strcmp(real, "/") == 0 ? "" : real, name);
  free(real);
  if (n >= 0) return 0;
  *out = NULL;
  return ENOMEM;
}

/* The program may go to another folder while the tunnel is open. */
static int parse_keep_file(const char *path, char **out, struct err *e) {
  char reason[128];
  if (path[0] == '\0' || path[strlen(path) - 1] == '/')
    return err_set(e, ERR_USAGE, "keep file: \"%.200s\" names no file (give its path)", path);
  int code = real_file(path, out);
  if (code == 0) return 0;
  if (code == ENOMEM) return err_set(e, ERR_NOMEM, "out of memory");
  return err_set(e, ERR_SYNTAX, "keep file %.200s: %s (give a file in a folder that you may write to)", path,
                 strerror_r(code, reason, sizeof reason));
}

static int parse_app(const char *text, struct tunnel_request *r, struct err *e) {
  if (dial_address_parse_app(text, &r->app, e) != 0) return e->code;
  if (!dial_address_is_unix(&r->app) || r->app.path[0] == '@') return 0;
  if (dial_address_make_absolute("app", &r->app, e) != 0) return e->code;
  return real_file(r->app.path, &r->app_file) == ENOMEM ? err_set(e, ERR_NOMEM, "out of memory") : 0;
}

static int parse_blocks(const char *what, const char *const *blocks, size_t n, struct cidr *out, size_t *out_n,
                        struct err *e) {
  if (n > ALLOW_CIDRS_MAX || (n > 0 && blocks == NULL))
    return err_set(e, ERR_USAGE, "%s: at most %d blocks", what, ALLOW_CIDRS_MAX);
  for (*out_n = 0; *out_n < n; (*out_n)++) {
    const char *block = blocks[*out_n];
    if (block == NULL || cidr_parse(block, &out[*out_n], NULL) != 0)
      return err_set(e, ERR_USAGE, "%s %.60s: not an address or block (such as 192.0.2.0/24)", what,
                     block == NULL ? "NULL" : block);
  }
  return 0;
}

static int parse_name(const char *name, char out[TUNNEL_NAME_MAX_BYTES + 1], struct err *e) {
  if (name == NULL) return 0;
  if (text_has_control(name)) return err_set(e, ERR_USAGE, "name: it has control characters (leave them out)");
  if (strlen(name) > TUNNEL_NAME_MAX_BYTES)
    return err_set(e, ERR_USAGE, "name %.20s...: too long (at most %d bytes)", name, TUNNEL_NAME_MAX_BYTES);
  strcpy(out, name);
  return 0;
}

static int parse_app_wait(int64_t given_ms, uint64_t *out_ms, struct err *e) {
  if (given_ms > APP_WAIT_MAX_MS)
    return err_set(e, ERR_USAGE, "app_wait: too long (at most %d minutes)", APP_WAIT_MAX_MS / 60000);
  *out_ms = given_ms == 0 ? APP_WAIT_DEFAULT_MS : given_ms < 0 ? 0 : (uint64_t)given_ms;
  return 0;
}

static int parse_options(const struct adit_options *o, struct tunnel_request *r, struct err *e) {
  if (o->plain && !o->unencrypted)
    return err_set(e, ERR_USAGE, "plain: is for the raw port only (ask for unencrypted, too)");
  r->flags = (o->unencrypted ? (uint32_t)TUNNEL_TCP : 0) | (o->plain ? (uint32_t)TUNNEL_PLAIN : 0) |
             (o->h2 ? (uint32_t)TUNNEL_H2 : 0);
  r->proxy_protocol = o->proxy_protocol != 0;
  if (parse_alpn(o, r, e) != 0) {
    if (e->code == 0) err_set(e, ERR_USAGE, "alpn: not a list of protocols (write it as http/1.1,h2)");
    return e->code = ERR_USAGE;    /* a wrong argument, whatever is wrong with it */
  }
  if (parse_blocks("allow", o->allow, o->allow_n, r->allow, &r->allow_n, e) != 0 ||
      parse_blocks("deny", o->deny, o->deny_n, r->deny, &r->deny_n, e) != 0 || parse_name(o->name, r->name, e) != 0 ||
      parse_app_wait(o->app_wait_ms, &r->app_wait_ms, e) != 0)
    return e->code;
  r->retry_ms = o->retry_ms;
  return o->keep_file == NULL ? 0 : parse_keep_file(o->keep_file, &r->keep_file, e);
}

/* Else a later field might lie where programs of today have what happened to be there. */
_Static_assert(sizeof(struct adit_options) == offsetof(struct adit_options, retry_ms) + sizeof(int64_t),
               "no padding at the end");

static int take_options(const struct adit_options *given, struct adit_options *o, struct err *e) {
  *o = (struct adit_options)ADIT_OPTIONS_INIT;
  size_t least = offsetof(struct adit_options, unencrypted) + sizeof o->unencrypted;
  return given == NULL ? 0 : sized_take(given, least, o, sizeof *o, "ADIT_OPTIONS_INIT", e);
}

struct adit_tunnel *adit_forward(struct adit_client *client, const char *app, const struct adit_options *options) {
  if (handle_check_client(client) != 0) return NULL;
  if (app == NULL) {
    error_set(ADIT_EINVAL, "an argument is NULL");
    return NULL;
  }
  struct err e = {0};
  struct adit_options o;
  struct adit_tunnel *t = NULL;
  struct tunnel_request *request = calloc(1, sizeof *request);
  if (request == NULL) err_set(&e, ERR_NOMEM, "out of memory");
  if (request == NULL || parse_app(app, request, &e) != 0 || take_options(options, &o, &e) != 0 ||
      parse_options(&o, request, &e) != 0 || tunnel_new(client, request, &t, &e) != 0) goto fail;
  if (tunnel_publish(t, &e) != 0) goto fail;
  free(request);
  return t;
fail:
  error_from(&e);
  if (t != NULL) tunnel_free(t);
  if (request != NULL) tunnel_request_free(request);
  free(request);
  return NULL;
}

/* Under the client's lock. */
static int trouble_code(const struct adit_tunnel *t) {
  return t->client->troubles == t->troubles_before ? 0 : t->client->trouble.code;
}

int handle_wait_for_change(struct adit_client *c, int timeout_ms, const struct timespec *deadline) {
  return timeout_ms < 0 ? pthread_cond_wait(&c->changed, &c->lock)
                        : pthread_cond_timedwait(&c->changed, &c->lock, deadline);
}

int adit_wait_open(struct adit_tunnel *tunnel, int timeout_ms) {
  int r = handle_check_tunnel(tunnel);
  if (r != 0) return r;
  struct adit_client *c = tunnel->client;
  struct timespec deadline = deadline_after_ms(timeout_ms < 0 ? 0 : (unsigned)timeout_ms);
  int waited = 0;
  pthread_mutex_lock(&c->lock);
  while (tunnel->shown == SHOWN_OPENING && waited != ETIMEDOUT && trouble_code(tunnel) != ADIT_EAUTH)
    waited = handle_wait_for_change(c, timeout_ms, &deadline);
  if (tunnel->shown == SHOWN_OPEN) r = 0;
  else if (tunnel->shown >= SHOWN_ENDED) r = error_set(tunnel->end.code, "%s", tunnel->end.text);
  else if (trouble_code(tunnel) != 0) r = error_set(c->trouble.code, "%s", c->trouble.text);
  else r = error_set(ADIT_ETIMEDOUT, "the tunnel has not opened within %d ms", timeout_ms);
  pthread_mutex_unlock(&c->lock);
  return r;
}

int adit_tunnel_wait(struct adit_tunnel *tunnel, int timeout_ms) {
  int r = handle_check_tunnel(tunnel);
  if (r != 0) return r;
  struct adit_client *c = tunnel->client;
  struct timespec deadline = deadline_after_ms(timeout_ms < 0 ? 0 : (unsigned)timeout_ms);
  int waited = 0;
  pthread_mutex_lock(&c->lock);
  while (tunnel->shown < SHOWN_ENDED && waited != ETIMEDOUT)
    waited = handle_wait_for_change(c, timeout_ms, &deadline);
  if (tunnel->shown < SHOWN_ENDED) r = error_set(ADIT_ETIMEDOUT, "the tunnel has not ended within %d ms", timeout_ms);
  pthread_mutex_unlock(&c->lock);
  return r;
}

const char *adit_tunnel_reason(const struct adit_tunnel *tunnel) {
  if (handle_check_tunnel(tunnel) != 0) return NULL;
  pthread_mutex_t *lock = (pthread_mutex_t *)(uintptr_t)&tunnel->client->lock;
  pthread_mutex_lock(lock);
  const char *reason = tunnel->end_reason;
  pthread_mutex_unlock(lock);
  return reason;
}

int adit_tunnel_finish(struct adit_tunnel *tunnel, int timeout_ms) {
  int r = handle_check_tunnel(tunnel);
  if (r != 0) return r;
  struct timespec deadline = deadline_after_ms(timeout_ms < 0 ? 0 : (unsigned)timeout_ms);
  if (tunnel_finish(tunnel, timeout_ms < 0 ? NULL : &deadline) == 0) return 0;
  return error_set(ADIT_ETIMEDOUT, "visitors are still there after %d ms", timeout_ms);
}

void adit_tunnel_close(struct adit_tunnel *tunnel, uint32_t drain_ms) {
  if (handle_check_tunnel(tunnel) == 0) tunnel_close(tunnel, drain_ms);
}

static const struct tunnel_address *address_of(const struct adit_tunnel *t) {
  return handle_check_tunnel(t) == 0 ? atomic_load(&t->address) : NULL;
}

const char *adit_tunnel_url(const struct adit_tunnel *tunnel) {
  const struct tunnel_address *a = address_of(tunnel);
  return a == NULL ? NULL : a->url;
}

const char *adit_tunnel_host(const struct adit_tunnel *tunnel) {
  const struct tunnel_address *a = address_of(tunnel);
  return a == NULL ? NULL : a->host;
}

uint16_t adit_tunnel_port(const struct adit_tunnel *tunnel) {
  const struct tunnel_address *a = address_of(tunnel);
  return a == NULL ? 0 : a->port;
}

const char *adit_tunnel_tcp_host(const struct adit_tunnel *tunnel) {
  const struct tunnel_address *a = address_of(tunnel);
  return a == NULL || a->tcp_host[0] == '\0' ? NULL : a->tcp_host;
}

uint16_t adit_tunnel_tcp_port(const struct adit_tunnel *tunnel) {
  const struct tunnel_address *a = address_of(tunnel);
  return a == NULL ? 0 : a->tcp_port;
}

uint16_t adit_tunnel_app_port(const struct adit_tunnel *tunnel) {
  return handle_check_tunnel(tunnel) == 0 ? tunnel->request.app.tcp.port : 0;
}

const char *adit_tunnel_app(const struct adit_tunnel *tunnel) {
  return handle_check_tunnel(tunnel) == 0 ? tunnel->app_text : NULL;
}

const char *adit_tunnel_name(const struct adit_tunnel *tunnel) {
  return handle_check_tunnel(tunnel) == 0 && tunnel->request.name[0] != '\0' ? tunnel->request.name : NULL;
}

void adit_tunnel_stats(const struct adit_tunnel *tunnel, struct adit_tunnel_stats *out) {
  if (out == NULL) return;
  *out = (struct adit_tunnel_stats){0};
  if (handle_check_tunnel(tunnel) != 0) return;
  out->visitors_now = atomic_load_explicit(&tunnel->streams.now, memory_order_relaxed);
  out->visitors_total = atomic_load_explicit(&tunnel->streams.total, memory_order_relaxed);
  out->app_failures = atomic_load_explicit(&tunnel->app_failures, memory_order_relaxed);
  out->bytes_to_app = __atomic_load_n(&tunnel->streams.to_app.bytes, __ATOMIC_RELAXED);
  out->bytes_from_app = __atomic_load_n(&tunnel->streams.from_app.bytes, __ATOMIC_RELAXED);
}
