/* A tunnel as the host's threads have it: made, shown to the loop's thread, waited for, closed. What both threads
   know is under the client's lock. */
#include <stdlib.h>
#include <string.h>

#include "agent/tunnel.h"

int tunnel_new(struct adit_client *c, struct tunnel_request *request, struct adit_tunnel **out, struct err *e) {
  struct adit_tunnel *t = calloc(1, sizeof *t);
  if (t == NULL) return err_set(e, ERR_NOMEM, "out of memory");
  t->magic = TUNNEL_MAGIC;
  t->client = c;
  t->request = *request;
  list_init(&t->handle);
  list_init(&t->node);
  streams_init(&t->streams, c, tunnel_stream_ended);
  request->keep_file = request->app_file = NULL;
  dial_address_format(&t->request.app, t->app_text, sizeof t->app_text);
  app_init(t);
  keep_init(&t->keep, t->request.keep_file);
  *out = t;
  return 0;
}

static void tunnel_attach_run(struct loop *l, struct loop_msg *m) {
  struct adit_tunnel *t = CONTAINER_OF(m, struct adit_tunnel, attach_msg);
  if (l != NULL) t->client->on_tunnel->comes(t);
}

static void tunnel_close_run(struct loop *l, struct loop_msg *m) {
  struct adit_tunnel *t = CONTAINER_OF(m, struct adit_tunnel, close_msg);
  if (l != NULL) tunnel_close_begin(t, t->close_drain_ms);
}

static void tunnel_finish_run(struct loop *l, struct loop_msg *m) {
  struct adit_tunnel *t = CONTAINER_OF(m, struct adit_tunnel, finish_msg);
  if (l != NULL) tunnel_finish_begin(t);
}

static bool file_same(const char *a, const char *b) {
  return a != NULL && b != NULL && strcmp(a, b) == 0;
}

static bool app_same(const struct tunnel_request *a, const struct tunnel_request *b) {
  return dial_address_same(&a->app, &b->app) || file_same(a->app_file, b->app_file);
}

static int fail_taken(const struct adit_tunnel *t, struct err *e) {
  static const char why[] = "this client forwards it already (close that tunnel first)";
  const struct dial_address *app = &t->request.app;
  return dial_address_is_local_port(app) ? err_set(e, ERR_CONFLICT, "port %u: %s", app->tcp.port, why)
                                        : err_set(e, ERR_CONFLICT, "app %s: %s", t->app_text, why);
}

int tunnel_publish(struct adit_tunnel *t, struct err *e) {
  struct adit_client *c = t->client;
  int r = 0;
  pthread_mutex_lock(&c->lock);
  LIST_FOREACH(&c->handles, it) {
    const struct adit_tunnel *other = CONTAINER_OF(it, struct adit_tunnel, handle);
    if (other->shown >= SHOWN_ENDED) continue;     /* for good: it is only still to be closed */
    if (app_same(&other->request, &t->request)) r = fail_taken(t, e);
    else if (file_same(other->request.keep_file, t->request.keep_file))
      r = err_set(e, ERR_CONFLICT, "keep file %s: another tunnel uses it (give each its own)", t->request.keep_file);
  }
  if (r == 0) {
    t->troubles_before = c->troubles;
    list_push_tail(&c->handles, &t->handle);
  }
  pthread_mutex_unlock(&c->lock);
  if (r != 0) return r;
  /* Without the lock: the loop's thread takes it, and streams must not wait for a slow disk. */
  r = c->setup.moves_in ? 0 : keep_read(&t->keep, e);    /* else the ticket comes with the rest */
  if (r == 0) {
    t->attach_msg.fn = tunnel_attach_run;
    client_post(c, &t->attach_msg);
    return 0;
  }
  pthread_mutex_lock(&c->lock);
  list_remove(&t->handle);
  pthread_mutex_unlock(&c->lock);
  return r;
}

int tunnel_finish(struct adit_tunnel *t, const struct timespec *deadline) {
  struct adit_client *c = t->client;
  pthread_mutex_lock(&c->lock);
  bool post = t->finish == FINISH_UNASKED;
  if (post) t->finish = FINISH_ASKED;
  pthread_mutex_unlock(&c->lock);
  if (post) {
    t->finish_msg.fn = tunnel_finish_run;
    client_post(c, &t->finish_msg);
  }
  pthread_mutex_lock(&c->lock);
  int waited = 0;
  while (t->finish != FINISH_DONE && waited == 0)
    waited = deadline == NULL ? pthread_cond_wait(&c->changed, &c->lock)
                              : pthread_cond_timedwait(&c->changed, &c->lock, deadline);
  bool finished = t->finish == FINISH_DONE;
  pthread_mutex_unlock(&c->lock);
  return finished ? 0 : ERR_TIMEOUT;
}

void tunnel_close(struct adit_tunnel *t, uint64_t drain_ms) {
  struct adit_client *c = t->client;
  t->close_drain_ms = drain_ms;
  t->close_msg.fn = tunnel_close_run;
  client_post(c, &t->close_msg);
  pthread_mutex_lock(&c->lock);
  while (t->shown != SHOWN_GONE) pthread_cond_wait(&c->changed, &c->lock);
  list_remove(&t->handle);
  pthread_mutex_unlock(&c->lock);
  tunnel_free(t);
}

void tunnel_free(struct adit_tunnel *t) {
  for (struct tunnel_address *a = atomic_load(&t->address), *older; a != NULL; a = older) {
    older = a->older;
    free(a);
  }
  tunnel_request_free(&t->request);
  t->magic = 0;
  free(t);
}

void tunnel_request_free(struct tunnel_request *request) {
  free(request->keep_file);
  free(request->app_file);
  request->keep_file = request->app_file = NULL;
}
