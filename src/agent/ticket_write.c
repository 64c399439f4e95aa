/* The thread that writes a kept ticket. The hard thing: its end is posted to a loop that may be freed right after it
   has run the message, so the message waits until the thread is out of the loop. And a disk that hangs is left to the
   thread: whoever comes second, it or the one who gives up, frees the write. */
#include "agent/ticket_write.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "agent/detached.h"
#include "base/secret.h"

struct ticket_write {
  struct loop_msg msg;
  pthread_mutex_t posting;
  struct loop *loop;               /* NULL once it was given up */
  _Atomic bool given_up;
  char *path, *old;
  bool set_aside;
  struct ticket_file file;
  ticket_write_fn *fn;
  void *user;
  struct err err;
};

static void write_free(struct ticket_write *w) {
  pthread_mutex_destroy(&w->posting);
  wipe(&w->file, sizeof w->file);
  free(w->path);
  free(w->old);
  free(w);
}

static void write_ended(struct loop *l, struct loop_msg *m) {
  struct ticket_write *w = CONTAINER_OF(m, struct ticket_write, msg);
  pthread_mutex_lock(&w->posting);
  pthread_mutex_unlock(&w->posting);
  if (l != NULL && !w->given_up) w->fn(w->user, &w->err, w->old);
  write_free(w);
}

/* Without its second name the old file is not replaced. */
static void write_file(const char *path, const struct ticket_file *f, bool set_aside, char **old,
                       const _Atomic bool *given_up, struct err *e) {
  if (set_aside && ticket_file_set_aside(path, old, e) != 0) return;
  (void)!ticket_file_write_unless(given_up, path, f, e);
}

void ticket_write_now(const char *path, const struct ticket_file *f, bool set_aside, ticket_write_fn *fn, void *user) {
  struct err e = {0};
  char *old = NULL;
  write_file(path, f, set_aside, &old, NULL, &e);
  fn(user, &e, old);
  free(old);
}

static void *write_thread(void *arg) {
  struct ticket_write *w = arg;
  write_file(w->path, &w->file, w->set_aside, &w->old, &w->given_up, &w->err);
  pthread_mutex_lock(&w->posting);
  bool wanted = w->loop != NULL;
  if (wanted) loop_post(w->loop, &w->msg);
  pthread_mutex_unlock(&w->posting);
  if (!wanted) write_free(w);
  return NULL;
}

void ticket_write_give_up(struct ticket_write *w) {
  pthread_mutex_lock(&w->posting);
  w->given_up = true;
  w->loop = NULL;                  /* the thread frees it; or, when posted, the message does */
  pthread_mutex_unlock(&w->posting);
}

struct ticket_write *ticket_write_start(struct loop *l, const char *path, const struct ticket_file *f, bool set_aside,
                                        ticket_write_fn *fn, void *user) {
  struct ticket_write *w = calloc(1, sizeof *w);
  if (w == NULL) return NULL;
  w->msg.fn = write_ended;
  pthread_mutex_init(&w->posting, NULL);
  w->loop = l;
  w->file = *f;
  w->set_aside = set_aside;
  w->fn = fn;
  w->user = user;
  w->path = strdup(path);
  if (w->path != NULL && detached_start("adit-keep", write_thread, w) == 0) return w;
  write_free(w);
  return NULL;
}
