/* Holders of an embedded relay. They run in the main thread's loop; what ends a token is the keeper, who looks for
   those that were revoked. */
#include "relay/holders.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/list.h"
#include "base/log.h"
#include "base/secret.h"
#include "loop/net.h"
#include "relay/issue.h"
#include "relay/registry.h"
#include "relay/shared.h"

enum { LINGER_MS = 3000, ASKING_MAX_MS = 2000, ANNOUNCEMENT_CAP = TOKEN_TEXT_MAX_CHARS + 4096 + ADDR_TEXT_CAP + 32 };

struct holder {                    /* or who asks to be one */
  struct list node;
  struct holders *all;
  int fd;
  uint8_t id[TOKEN_ID_BYTES];
  struct loop_io io;
  struct loop_timer late;          /* while he asks */
  struct loop_deferred defer;
};

struct holders {
  struct relay *relay;
  struct loop *loop;
  struct shared *shared;           /* NULL: it is not */
  struct loop_io door;
  struct list list;                /* of holder.node */
  size_t n;                        /* that do not ask any more */
  loop_timer_fn *gone;
  struct loop_timer *timer;        /* the owner's: that the last one has gone */
};

static void look_for_last(struct holders *h) {
  if (h->n > 0) loop_timer_stop(h->timer);
  else if (loop_timer_set(h->loop, h->timer, h->door.loop != NULL ? LINGER_MS : 0, h->gone) != 0) loop_stop(h->loop);
}

static void holder_free_late(struct loop_deferred *d) { free(CONTAINER_OF(d, struct holder, defer)); }

static void holder_free(struct holder *p) {
  loop_io_del(&p->io);
  loop_timer_stop(&p->late);
  list_remove(&p->node);
  net_close(p->fd);
  loop_defer(p->all->loop, &p->defer, holder_free_late);
}

static void holder_gone(struct loop_io *io, uint32_t events) {
  struct holder *p = CONTAINER_OF(io, struct holder, io);
  struct holders *h = p->all;
  char byte;
  (void)events;
  ssize_t n = read(p->fd, &byte, 1);
  if (n > 0 || (n < 0 && (errno == EAGAIN || errno == EINTR))) return;
  registry_dismiss(h->relay->registry, p->id);
  holder_free(p);
  h->n--;
  look_for_last(h);
}

static struct holder *holder_add(struct holders *h, int fd, loop_io_fn *fn) {
  struct holder *p = calloc(1, sizeof *p);
  if (p == NULL) return NULL;
  *p = (struct holder){.all = h, .fd = fd};
  list_push_tail(&h->list, &p->node);
  if (loop_io_add(h->loop, &p->io, fd, EPOLLIN, fn) == 0) return p;
  p->fd = -1;                      /* it stays the caller's */
  holder_free(p);
  return NULL;
}

static int make_id(struct holders *h, struct holder *p, struct err *e) {
  _Static_assert(sizeof h->relay->instance == (size_t)PROGRAM_PREFIX_BYTES, "what its programs' ids begin with");
  memcpy(p->id, &h->relay->instance, PROGRAM_PREFIX_BYTES);
  if (random_bytes(p->id + PROGRAM_PREFIX_BYTES, sizeof p->id - PROGRAM_PREFIX_BYTES) != 0)
    return err_set(e, ERR_CRYPTO, "relay: no randomness");
  return registry_admit(h->relay->registry, p->id) == 0 ? 0 : err_set(e, ERR_NOMEM, "relay: out of memory");
}

/* A token for one program, which is told to nobody else and kept nowhere. */
static int announce(struct holders *h, struct holder *p, struct err *e) {
  const struct relay_options *o = h->relay->options;
  char token[TOKEN_TEXT_MAX_CHARS + 1], agents[ADDR_TEXT_CAP] = "", text[ANNOUNCEMENT_CAP];
  struct token_relay self;
  struct issue_request q = {.name = "embedded", .id = p->id, .unlisted = true, .relays = &self, .relays_n = 1};
  int rc = make_id(h, p, e);
  if (rc == 0) rc = relay_describe(h->relay, &self, e);
  if (rc == 0) rc = issue_token(h->relay->state, &q, time(NULL), token, e);
  if (rc != 0) return rc;
  if (o->agent_listens_n > 0) addr_format(&o->agent_listens[0], agents, sizeof agents);
  int n = snprintf(text, sizeof text, "TOKEN %s\nCA %s/authority.pem\nAGENTS %s\n", token, o->state_dir, agents);
  if (n < 0 || (size_t)n >= sizeof text || net_send(p->fd, text, (size_t)n) != n)
    rc = err_set(e, ERR_CLOSED, "relay: cannot answer the program that started it");
  wipe(token, sizeof token);
  wipe(text, sizeof text);
  return rc;
}

/* fd is the holder's from here on, also on failure. */
static int take(struct holders *h, int fd, struct err *e) {
  (void)fcntl(fd, F_SETFL, O_NONBLOCK);
  struct holder *p = holder_add(h, fd, holder_gone);
  if (p == NULL) {
    net_close(fd);
    return err_set(e, ERR_NOMEM, "relay: out of memory");
  }
  int rc = announce(h, p, e);
  if (rc != 0) {
    registry_dismiss(h->relay->registry, p->id);
    holder_free(p);
    return rc;
  }
  h->n++;
  look_for_last(h);
  return 0;
}

/* Who cannot be served by us, as when the state folder has been taken away, is served by a relay that he starts. So is
   who waits no more: with what he handed over he does something else by now. */
static void asked(struct loop_io *io, uint32_t events) {
  struct holder *p = CONTAINER_OF(io, struct holder, io);
  struct holders *h = p->all;
  (void)events;
  int fd = shared_receive(p->fd);
  if (fd < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (fd >= 0 && !shared_accept(p->fd)) net_close(fd);
  else if (fd >= 0 && take(h, fd, NULL) != 0) holders_leave(h);
  holder_free(p);
}

static void asks_no_more(struct loop_timer *t) { holder_free(CONTAINER_OF(t, struct holder, late)); }

static void somebody_came(struct loop_io *io, uint32_t events) {
  struct holders *h = CONTAINER_OF(io, struct holders, door);
  struct addr peer;
  (void)events;
  int fd = net_accept(io->fd, &peer);
  if (fd == ERR_LIMIT) holders_leave(h);         /* or it would be tried for ever */
  if (fd < 0) return;
  struct holder *p = shared_admits(fd) ? holder_add(h, fd, asked) : NULL;
  if (p == NULL) net_close(fd);
  else if (loop_timer_set(h->loop, &p->late, ASKING_MAX_MS, asks_no_more) != 0) holder_free(p);
}

/* Whoever started it may wait for the end of what he reads from it, and writes its errors nowhere else. */
static void silence(void) {
  int fd = open("/dev/null", O_WRONLY | O_CLOEXEC);
  if (fd >= 0) (void)dup2(fd, STDERR_FILENO);
  net_close(fd);
}

static int open_door(struct holders *h, struct err *e) {
  if (h->shared == NULL) return 0;
  if (loop_io_add(h->loop, &h->door, h->shared->listen_fd, EPOLLIN, somebody_came) != 0)
    return err_set(e, ERR_NOMEM, "relay: out of memory");
  shared_remember_port(h->shared, h->relay->public_port);
  silence();
  return 0;
}

struct holders *holders_open(struct relay *r, struct loop *l, loop_timer_fn *gone, struct loop_timer *t,
                             struct err *e) {
  struct holders *h = calloc(1, sizeof *h);
  if (h == NULL) {
    err_set(e, ERR_NOMEM, "relay: out of memory");
    return NULL;
  }
  *h = (struct holders){.relay = r, .loop = l, .shared = r->options->shared, .gone = gone, .timer = t};
  list_init(&h->list);
  int fd = dup(r->options->holder_fd);           /* errors are told at the other, which goes with the start */
  int rc = fd < 0 ? err_set_errno(e, "relay") : take(h, fd, e);
  if (rc == 0) rc = open_door(h, e);
  if (rc == 0) {
    net_close(r->options->holder_fd);
    return h;
  }
  holders_close(h);
  return NULL;
}

void holders_leave(struct holders *h) {
  if (h == NULL || h->shared == NULL) return;
  loop_io_del(&h->door);
  shared_leave(h->shared, h->n == 0);
  if (h->n == 0) look_for_last(h);
}

void holders_let_go(struct holders *h) {
  holders_leave(h);
  LIST_FOREACH(&h->list, it) holder_free(CONTAINER_OF(it, struct holder, node));
  h->n = 0;
}

void holders_close(struct holders *h) {
  if (h == NULL) return;
  holders_leave(h);
  loop_timer_stop(h->timer);
  LIST_FOREACH(&h->list, it) holder_free(CONTAINER_OF(it, struct holder, node));
  free(h);
}
