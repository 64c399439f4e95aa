/* Requests are answered in their order, so the first that waits is whose answer comes next. One that nobody waits for
   any more keeps its place, since its answer still comes. */
#include "relay/signer.h"

#include <stdlib.h>
#include <string.h>

#include "base/fibre.h"
#include "loop/net.h"
#include "relay/key_process.h"

enum {
  READ_BYTES = 16384,
  IN_MAX_BYTES = READ_BYTES + KEY_FRAME_HEADER_BYTES + KEY_SIGNED_MAX_BYTES,
  /* Whoever was served before newcomers rested may come now with a second ClientHello. It bounds the stacks, of which
     --handshake-memory does not know. */
  REQUESTS_MAX = 8 * SIGNATURES_AT_ONCE_MAX,
  OUT_MAX_BYTES = REQUESTS_MAX * (KEY_FRAME_HEADER_BYTES + KEY_REQUEST_MAX_BYTES)
};

/* Of one that waits, in the frame of signer_sign on its fibre. */
struct waiting {
  struct fibre *fibre;
  int code;
  uint8_t *signature;
  size_t *n;
};

struct request {
  struct list node;
  uint64_t by_ms;
  struct waiting *waiting;         /* NULL: nobody does any more */
};

struct signer {
  struct worker *worker;
  struct fibres *fibres;
  struct loop_io io;
  struct loop_timer deadline;      /* of the first that waits */
  struct loop_deferred gathered, rest_later;
  bool gathers, reads_later;
  bool stalls;                     /* no answer came in time, and none has since */
  bool gone;                       /* the key process */
  struct list requests;
  unsigned requests_n;
  struct buf in, out;
  int fd;
};

/* One at a time: whoever is told may give up others. */
static void settle(struct signer *s, struct request *r, int code) {
  struct waiting *w = r->waiting;
  r->waiting = NULL;
  if (w == NULL) return;
  w->code = code;
  if (code == ERR_TIMEOUT) METRIC_ADD(&s->worker->metrics, signatures_late_total, 1);
  fibre_wake(w->fibre);
}

static void request_free(struct signer *s, struct request *r) {
  list_remove(&r->node);
  s->requests_n--;
  free(r);
}

static void look_whether_full(struct signer *s) {
  newcomers_rest(s->worker->newcomers, s->requests_n >= SIGNATURES_AT_ONCE_MAX && !s->stalls && !s->gone);
}

static struct request *first(struct signer *s) { return CONTAINER_OF(s->requests.next, struct request, node); }

/* The relay ends of that by itself. */
static void is_gone(struct signer *s) {
  s->gone = true;
  loop_timer_stop(&s->deadline);
  loop_io_del(&s->io);
  while (!list_empty(&s->requests)) {
    settle(s, first(s), ERR_CLOSED);
    request_free(s, first(s));
  }
  look_whether_full(s);
}

/* Time */

static void on_deadline(struct loop_timer *t);

static void watch_first(struct signer *s) {
  uint64_t now_ms = loop_now_ms(s->worker->loop);
  LIST_FOREACH(&s->requests, it) {
    struct request *r = CONTAINER_OF(it, struct request, node);
    if (r->waiting == NULL) continue;
    if (loop_timer_is_set(&s->deadline)) return;
    uint64_t left_ms = r->by_ms > now_ms ? r->by_ms - now_ms : 0;
    (void)loop_timer_set(s->worker->loop, &s->deadline, left_ms, on_deadline);   /* else the handshake's own is left */
    return;
  }
  loop_timer_stop(&s->deadline);
}

static struct request *first_late(struct signer *s, uint64_t now_ms) {
  LIST_FOREACH(&s->requests, it) {
    struct request *r = CONTAINER_OF(it, struct request, node);
    if (r->by_ms > now_ms) return NULL;
    if (r->waiting != NULL) return r;
  }
  return NULL;
}

/* Out */

static void send_requests(struct signer *s) {
  while (s->out.len > 0) {
    ssize_t sent = net_send(s->fd, buf_data(&s->out), s->out.len);
    if (sent == NET_AGAIN) break;
    if (sent < 0) return;          /* what reads tells of it */
    buf_consume(&s->out, (size_t)sent);
  }
  loop_io_set(&s->io, s->out.len > 0 ? EPOLLIN | EPOLLOUT : EPOLLIN);
}

static void send_gathered(struct loop_deferred *d) {
  struct signer *s = CONTAINER_OF(d, struct signer, gathered);
  s->gathers = false;
  if (!s->gone) send_requests(s);
}

/* While the key process has something to do the others of this turn are gathered, and go in one message. */
static int ask(struct signer *s, const struct key_request *r) {
  uint8_t frame[KEY_FRAME_HEADER_BYTES + KEY_REQUEST_MAX_BYTES];
  size_t n;
  int rc = key_request_write(r, frame, &n);
  if (rc == 0) rc = buf_append(&s->out, frame, n);
  if (rc != 0) return rc;
  if (list_empty(&s->requests)) send_requests(s);
  else if (!s->gathers) {
    s->gathers = true;
    loop_defer(s->worker->loop, &s->gathered, send_gathered);
  }
  return 0;
}

int signer_sign(struct signer *s, const struct key_request *r, uint8_t *signature, size_t *n) {
  struct waiting w = {.fibre = fibre_current(), .signature = signature, .n = n};
  if (s->gone) return ERR_CLOSED;
  if (s->stalls) METRIC_ADD(&s->worker->metrics, signatures_late_total, 1);
  if (s->stalls) return ERR_TIMEOUT;
  struct request *q = s->requests_n < REQUESTS_MAX ? calloc(1, sizeof *q) : NULL;
  if (q == NULL) return ERR_NOMEM;
  int rc = ask(s, r);
  if (rc != 0) {
    free(q);
    return rc;
  }
  q->by_ms = loop_now_ms(s->worker->loop) + SIGNATURE_WAIT_MS;
  q->waiting = &w;
  list_push_tail(&s->requests, &q->node);
  s->requests_n++;
  look_whether_full(s);
  watch_first(s);
  if (fibre_pause()) return w.code;
  q->waiting = NULL;               /* cancelled: it was not answered, so it is still there */
  return ERR_CLOSED;
}

/* In */

static int take_signature(struct waiting *w, const struct key_answer *a) {
  if (a->code != 0) return a->code;
  if (a->n > *w->n) return ERR_LIMIT;
  memcpy(w->signature, a->bytes, a->n);
  *w->n = a->n;
  return 0;
}

static int take_answer(struct signer *s, const uint8_t *p, size_t n) {
  struct key_answer a;
  if (list_empty(&s->requests) || key_answer_read(p, n, &a) != 0) return ERR_SYNTAX;
  struct request *r = first(s);
  int code = r->waiting != NULL ? take_signature(r->waiting, &a) : 0;
  s->stalls = false;
  settle(s, r, code);
  request_free(s, r);
  return 0;
}

static void take_answers(struct signer *s);

static void take_rest(struct loop_deferred *d) {
  struct signer *s = CONTAINER_OF(d, struct signer, rest_later);
  s->reads_later = false;
  if (!s->gone) take_answers(s);
}

/* A handshake that goes on takes its time, so not all go on in one turn. */
static void take_answers(struct signer *s) {
  size_t n = 0;
  int rc;
  while ((rc = key_frame_whole(&s->in, KEY_SIGNED_MAX_BYTES, &n)) == 0 && n > 0 && !s->reads_later) {
    rc = take_answer(s, buf_data(&s->in) + KEY_FRAME_HEADER_BYTES, n - KEY_FRAME_HEADER_BYTES);
    buf_consume(&s->in, n);
    if (rc != 0) break;
    if (loop_late_may_go_on(s->worker->loop)) continue;
    s->reads_later = true;
    loop_call_late(s->worker->loop, &s->rest_later, take_rest);
  }
  if (rc != 0) {
    key_process_give_up(s->worker->relay->keys);
    is_gone(s);
    return;
  }
  look_whether_full(s);
  watch_first(s);
}

static void receive(struct signer *s) {
  uint8_t *to = buf_reserve(&s->in, READ_BYTES);
  if (to == NULL) return;          /* as much as may wait does, or for want of memory it is told of again */
  ssize_t got = net_recv(s->fd, to, READ_BYTES);
  if (got == NET_AGAIN) return;
  if (got <= 0) {
    is_gone(s);
    return;
  }
  buf_added(&s->in, (size_t)got);
  take_answers(s);
}

static void on_ready(struct loop_io *io, uint32_t events) {
  struct signer *s = CONTAINER_OF(io, struct signer, io);
  if (events & EPOLLOUT) send_requests(s);
  receive(s);
}

/* What has come meanwhile is no late answer, also when it is this thread that is late. */
static void on_deadline(struct loop_timer *t) {
  struct signer *s = CONTAINER_OF(t, struct signer, deadline);
  struct request *r;
  receive(s);
  if (s->gone || s->reads_later) return;         /* it is set again when all is read */
  while ((r = first_late(s, loop_now_ms(s->worker->loop))) != NULL) {
    s->stalls = true;
    settle(s, r, ERR_TIMEOUT);
  }
  if (s->stalls) warning_unsigned(&s->worker->relay->warnings);
  look_whether_full(s);
  watch_first(s);
}

/* Life */

struct signer *signer_new(struct worker *w, int fd) {
  struct signer *s = calloc(1, sizeof *s);
  if (s == NULL) return NULL;
  s->worker = w;
  s->fd = fd;
  list_init(&s->requests);
  buf_init(&s->in, IN_MAX_BYTES);
  buf_init(&s->out, OUT_MAX_BYTES);
  s->fibres = fibres_new();
  if (s->fibres != NULL && loop_io_add_late(w->loop, &s->io, fd, EPOLLIN, on_ready) == 0) return s;
  fibres_free(s->fibres);
  free(s);
  return NULL;
}

void signer_free(struct signer *s) {
  if (s == NULL) return;
  while (!list_empty(&s->requests)) {
    ASSERT(first(s)->waiting == NULL);
    request_free(s, first(s));
  }
  loop_timer_stop(&s->deadline);
  loop_io_del(&s->io);
  buf_free(&s->in);
  buf_free(&s->out);
  fibres_free(s->fibres);
  free(s);
}

struct fibres *signer_fibres(struct signer *s) { return s == NULL ? NULL : s->fibres; }
