/* The event loop. The one hard thing is what may be stale within a turn: a handler may remove, close and add again any
   descriptor whose event was fetched already. So an event carries the generation of its registration and is looked up
   by descriptor, never by pointer; and memory goes only at the end of the turn. */
#include "loop/loop.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/limits.h"
#include "base/shortage.h"
#include "loop/timers.h"

enum { EVENTS_PER_TURN_MAX = 256, LATE_EVENTS_PER_WAIT = 8, TABLE_FIRST = 64, NS_PER_US = 1000, NS_PER_MS = 1000000 };

/* Kept in io->events, between the bits that epoll uses: this descriptor could not be put back into the set. */
static const uint32_t IO_FAILED = 1U << 26;

/* Generations start at 1, so these are no registration's events. */
static const uint64_t WAKE_EVENT = 0, LATE_EVENT = 1;

/* Of bulk descriptors: first come, first served. */
struct bulk {
  struct list queue;                             /* of those that have an event */
  size_t spent, first_spent;                     /* in this turn, and by the first one since it came first */
  bool goes_on;                                  /* whoever was called last could */
  uint64_t shared_until_ms;                      /* until then others may be about to have an event */
};

struct loop {
  int epoll_fd, event_fd;
  int late_fd;                     /* -1, or a set inside the other: however many late ones are ready, a turn sees the
                                      rest */
  uint64_t now_ms;
  uint64_t turn_ns;                /* when this turn's work began */
  uint64_t late_until_ns;          /* when its late part is over */
  int64_t late_credit_ns;          /* what late ones have been left of the time of the others, and not used yet */
  _Atomic bool stopped;
  uint32_t generation;
  bool io_failed;                  /* some io has IO_FAILED */
  struct loop_io **table;          /* by descriptor */
  size_t table_len;
  struct timers timers;
  struct loop_deferred *deferred;
  struct loop_deferred *late_first, **late_last;
  void (*wait_begins)(void), (*wait_ended)(void);   /* NULL: none */
  pthread_mutex_t lock;            /* guards the message queue and the eventfd's count */
  struct loop_msg *first, **last;
  struct bulk bulk;
  struct epoll_event events[EVENTS_PER_TURN_MAX];
};

static int set_open(struct loop *l) {
  struct epoll_event wake = {.events = EPOLLIN, .data.u64 = WAKE_EVENT};
  l->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
  if (l->epoll_fd < 0) return -1;
  l->event_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
  return l->event_fd < 0 ? -1 : epoll_ctl(l->epoll_fd, EPOLL_CTL_ADD, l->event_fd, &wake);
}

static void set_close(struct loop *l) {
  if (l->event_fd >= 0) close(l->event_fd);
  if (l->late_fd >= 0) close(l->late_fd);
  if (l->epoll_fd >= 0) close(l->epoll_fd);
}

struct loop *loop_new(struct err *e) {
  struct loop *l = calloc(1, sizeof *l);
  if (l == NULL) {
    (void)err_set(e, ERR_NOMEM, "event loop: out of memory");
    return NULL;
  }
  l->last = &l->first;
  l->late_last = &l->late_first;
  list_init(&l->bulk.queue);
  l->now_ms = clock_ms();
  l->event_fd = l->late_fd = l->epoll_fd = -1;
  if (set_open(l) != 0) {
    (void)err_set_errno(e, "event loop");
    set_close(l);
    free(l);
    return NULL;
  }
  pthread_mutex_init(&l->lock, NULL);
  return l;
}

static void run_deferred(struct loop *l) {
  while (l->deferred != NULL) {
    struct loop_deferred *d = l->deferred;
    l->deferred = d->next;
    d->fn(d);
  }
}

static void wake(struct loop *l) {
  uint64_t one = 1;
  ssize_t ignored = write(l->event_fd, &one, sizeof one); /* fails only when a wake-up is pending already */
  (void)ignored;
}

/* At most max of them, from the first on. There is a wake-up until none is left. */
static struct loop_msg *take_messages(struct loop *l, bool woken, size_t max) {
  uint64_t count;
  pthread_mutex_lock(&l->lock);
  struct loop_msg *batch = l->first, **end = &batch;
  for (size_t n = 0; n < max && *end != NULL; n++) end = &(*end)->next;
  l->first = *end;
  *end = NULL;
  if (l->first == NULL) l->last = &l->first;
  if (woken && l->first == NULL) { /* under the lock: otherwise the wake-up of a message that comes just now would be
                                      lost */
    ssize_t ignored = read(l->event_fd, &count, sizeof count);
    (void)ignored;
  }
  if (l->first != NULL && !woken) wake(l); /* those that are left were not announced by it */
  pthread_mutex_unlock(&l->lock);
  return batch;
}

static void run_messages(struct loop *l, struct loop *given, bool woken, size_t max) {
  for (struct loop_msg *m = take_messages(l, woken, max), *next; m != NULL; m = next) {
    next = m->next; /* m is gone once its fn has run */
    m->fn(given, m);
  }
}

void loop_free(struct loop *l) {
  if (l == NULL) return;
  run_deferred(l);
  run_messages(l, NULL, false, SIZE_MAX);
  run_deferred(l);
  timers_free(&l->timers);
  pthread_mutex_destroy(&l->lock);
  set_close(l);
  free(l->table);
  free(l);
}

uint64_t loop_now_ms(const struct loop *l) { return l->now_ms; }

void loop_set_wait_hooks(struct loop *l, void (*begins)(void), void (*ended)(void)) {
  l->wait_begins = begins;
  l->wait_ended = ended;
}

int loop_epoll_fd(const struct loop *l) { return l->epoll_fd; }

int64_t loop_wall_s(const struct loop *l) {
  (void)l;
  return (int64_t)time(NULL);
}

void loop_random(struct loop *l, void *p, size_t n) {
  (void)l;
  for (uint8_t *at = p, *end = at + n; at < end;) {
    ssize_t got = getrandom(at, (size_t)(end - at), 0);
    ASSERT(got > 0 || errno == EINTR);
    if (got > 0) at += got;
  }
}

/* Under the lock. Whether it is the first. */
static bool append(struct loop *l, struct loop_msg *m) {
  bool first = l->first == NULL;
  m->next = NULL;
  *l->last = m;
  l->last = &m->next;
  return first;
}

void loop_post(struct loop *l, struct loop_msg *m) {
  pthread_mutex_lock(&l->lock);
  if (append(l, m)) wake(l); /* one for the whole batch */
  pthread_mutex_unlock(&l->lock);
}

void loop_post_unwoken(struct loop *l, struct loop_msg *m) {
  pthread_mutex_lock(&l->lock);
  (void)append(l, m);
  pthread_mutex_unlock(&l->lock);
}

void loop_rouse(struct loop *l) {
  pthread_mutex_lock(&l->lock);
  if (l->first != NULL) wake(l);
  pthread_mutex_unlock(&l->lock);
}

void loop_stop(struct loop *l) {
  atomic_store(&l->stopped, true);
  wake(l);
}

void loop_defer(struct loop *l, struct loop_deferred *d, void (*fn)(struct loop_deferred *d)) {
  d->fn = fn;
  d->next = l->deferred;
  l->deferred = d;
}

void loop_call_late(struct loop *l, struct loop_deferred *d, void (*fn)(struct loop_deferred *d)) {
  d->fn = fn;
  d->next = NULL;
  *l->late_last = d;
  l->late_last = &d->next;
}

/* descriptors */

static int epoll_change(struct loop *l, int op, struct loop_io *io) {
  struct epoll_event ev = {.events = io->events, .data.u64 = (uint64_t)io->generation << 32 | (uint32_t)io->fd};
  return epoll_ctl(io->late ? l->late_fd : l->epoll_fd, op, io->fd, &ev);
}

static int table_fit(struct loop *l, int fd) {
  size_t len = size_max(l->table_len, TABLE_FIRST);
  while (len <= (size_t)fd) len *= 2;
  if (len == l->table_len) return 0;
  struct loop_io **table = realloc(l->table, len * sizeof(struct loop_io *));
  if (table == NULL) return ERR_NOMEM;
  for (size_t i = l->table_len; i < len; i++) table[i] = NULL;
  l->table = table;
  l->table_len = len;
  return 0;
}

static int io_add(struct loop *l, struct loop_io *io, int fd, uint32_t events, loop_io_fn *fn, bool late) {
  ASSERT(fd >= 0 && io->loop == NULL);
  int r = table_fit(l, fd);
  if (r != 0) return r;
  ASSERT(l->table[fd] == NULL); /* otherwise somebody closed a descriptor that the loop still had */
  if (++l->generation == 0) l->generation = 1;
  *io = (struct loop_io){.loop = l, .fn = fn, .fd = fd, .events = events, .generation = l->generation, .late = late};
  list_init(&io->queued);
  if (events != 0 && epoll_change(l, EPOLL_CTL_ADD, io) != 0) {
    io->loop = NULL;
    (void)shortage_note(errno);
    return errno == ENOMEM ? ERR_NOMEM : errno == ENOSPC ? ERR_LIMIT : ERR_IO;
  }
  l->table[fd] = io;
  return 0;
}

int loop_io_add(struct loop *l, struct loop_io *io, int fd, uint32_t events, loop_io_fn *fn) {
  return io_add(l, io, fd, events, fn, false);
}

/* Most loops have nothing that is late, and no descriptor for it. */
static int late_set_open(struct loop *l) {
  struct epoll_event late = {.events = EPOLLIN, .data.u64 = LATE_EVENT};
  if (l->late_fd >= 0) return 0;
  int fd = epoll_create1(EPOLL_CLOEXEC);
  if (fd < 0) {
    (void)shortage_note(errno);
    return ERR_LIMIT;
  }
  if (epoll_ctl(l->epoll_fd, EPOLL_CTL_ADD, fd, &late) != 0) {
    close(fd);
    return ERR_NOMEM;
  }
  l->late_fd = fd;
  return 0;
}

int loop_io_add_late(struct loop *l, struct loop_io *io, int fd, uint32_t events, loop_io_fn *fn) {
  int r = late_set_open(l);
  if (r != 0) return r;
  return io_add(l, io, fd, events, fn, true);
}

void loop_io_set(struct loop_io *io, uint32_t events) {
  struct loop *l = io->loop;
  if (l == NULL || io->events == events) return;
  bool inside = io->events != 0 && (io->events & IO_FAILED) == 0;
  io->events = events;
  if (!inside && events == 0) return;
  if (epoll_change(l, !inside ? EPOLL_CTL_ADD : events == 0 ? EPOLL_CTL_DEL : EPOLL_CTL_MOD, io) == 0 || events == 0)
    return;
  if (inside) (void)epoll_change(l, EPOLL_CTL_DEL, io);
  io->events = events | IO_FAILED;
  l->io_failed = true;
  wake(l);
}

static struct loop_io *bulk_first(const struct loop *l) {
  const struct list *queue = &l->bulk.queue;
  return list_empty(queue) ? NULL : CONTAINER_OF(queue->next, struct loop_io, queued);
}

static void bulk_leave(struct loop_io *io) {
  struct loop *l = io->loop;
  if (io == bulk_first(l)) l->bulk.first_spent = 0;
  list_remove(&io->queued);
  io->told = 0;
}

void loop_io_del(struct loop_io *io) {
  struct loop *l = io->loop;
  if (l == NULL) return;
  ASSERT(l->table[io->fd] == io);
  if (io->events != 0 && (io->events & IO_FAILED) == 0) (void)epoll_change(l, EPOLL_CTL_DEL, io);
  bulk_leave(io);
  l->table[io->fd] = NULL;
  io->loop = NULL;
}

/* NULL: it was removed since. */
static struct loop_io *event_io(const struct loop *l, const struct epoll_event *ev) {
  uint32_t fd = (uint32_t)ev->data.u64, generation = (uint32_t)(ev->data.u64 >> 32);
  struct loop_io *io = generation == 0 ? NULL : l->table[fd];
  return io == NULL || io->generation != generation ? NULL : io;
}

static int io_take(struct loop *l, struct loop_io *io, int fd, uint32_t events, loop_io_fn *fn, bool late,
                   struct loop_io *from) {
  bool stays = from != NULL && from->loop != NULL && from->late == late;
  if (!stays) {
    if (from != NULL) loop_io_del(from);
    return io_add(l, io, fd, events, fn, late);
  }
  ASSERT(from->loop == l && from->fd == fd && io->loop == NULL);
  *io = *from;
  list_replace(&io->queued, &from->queued);
  io->fn = fn;
  from->loop = NULL;
  l->table[fd] = io;
  loop_io_set(io, events);
  return 0;
}

int loop_io_take(struct loop *l, struct loop_io *io, int fd, uint32_t events, loop_io_fn *fn, struct loop_io *from) {
  return io_take(l, io, fd, events, fn, false, from);
}

int loop_io_take_late(struct loop *l, struct loop_io *io, int fd, uint32_t events, loop_io_fn *fn,
                      struct loop_io *from) {
  int r = late_set_open(l);
  if (r == 0) return io_take(l, io, fd, events, fn, true, from);
  if (from != NULL) loop_io_del(from);
  return r;
}

/* An interest that was dropped since the event was fetched is honoured: nobody is called for what he no longer
   wants. */
static void io_tell(struct loop_io *io, uint32_t told) {
  uint32_t events = io->events == 0 ? 0 : told & (io->events | EPOLLERR | EPOLLHUP);
  if (events != 0) io->fn(io, events);
}

static void deliver_failures(struct loop *l) {
  if (!l->io_failed) return;
  l->io_failed = false;
  for (size_t fd = 0; fd < l->table_len; fd++) {
    struct loop_io *io = l->table[fd];
    if (io == NULL || (io->events & IO_FAILED) == 0) continue;
    io->events = 0; /* where it really is: outside the set */
    io->fn(io, EPOLLERR);
  }
}

/* Bulk */

void loop_io_set_bulk(struct loop_io *io, uint64_t for_ms) {
  ASSERT(!io->late);
  io->bulk_until_ms = io->loop->now_ms + for_ms;
}

size_t loop_share(const struct loop *l) {
  return l->now_ms < l->bulk.shared_until_ms ? LOOP_SHARE_CONTENDED_BYTES : LOOP_SHARE_BYTES;
}

void loop_spend(struct loop *l, size_t n, bool could_go_on) {
  l->bulk.spent += n;
  l->bulk.goes_on |= could_go_on;
}

/* The first one, which then stays so or leaves. Whether another may follow. */
static bool bulk_run_first(struct loop *l) {
  struct bulk *b = &l->bulk;
  struct loop_io *io = bulk_first(l);
  uint32_t generation = io->generation;
  size_t before = b->spent;
  b->goes_on = false;
  io_tell(io, io->told);
  b->first_spent += b->spent - before;
  io = bulk_first(l);              /* or who has taken it over; removed, it has left already */
  if (io == NULL || io->generation != generation) b->first_spent = 0;
  else if (b->goes_on && b->first_spent < LOOP_SHARE_BYTES) return false;
  else bulk_leave(io);
  return b->spent < loop_share(l);
}

static void bulk_run(struct loop *l) {
  l->bulk.spent = 0;
  while (!list_empty(&l->bulk.queue) && bulk_run_first(l)) {}
}

static bool io_is_bulk(const struct loop_io *io) { return io->loop->now_ms < io->bulk_until_ms; }

/* Bulk waits until all others were served; with all that it was told of, since some is told once. Whoever waits
   already is bulk however long that takes. */
static void deliver_or_queue(struct loop *l, const struct epoll_event *ev) {
  struct loop_io *io = event_io(l, ev);
  if (io == NULL) return;
  if (list_empty(&io->queued) && !io_is_bulk(io)) {
    io_tell(io, ev->events);
    io = event_io(l, ev);
    /* Bulk that comes back after a pause is nobody with a short message. */
    if (io == NULL || !io_is_bulk(io)) l->bulk.shared_until_ms = l->now_ms + LOOP_SHARED_MS;
    return;
  }
  if (list_empty(&io->queued)) list_push_tail(&l->bulk.queue, &io->queued);
  io->told |= ev->events;
}

/* timers */

int loop_timer_set(struct loop *l, struct loop_timer *t, uint64_t delay_ms, loop_timer_fn *fn) {
  if (t->slot != 0) {
    ASSERT(t->loop == l);
    timers_remove(&l->timers, t);
  }
  t->loop = l;
  t->fn = fn;
  t->at_ms = delay_ms > UINT64_MAX - l->now_ms ? UINT64_MAX : l->now_ms + delay_ms;
  return timers_add(&l->timers, t);
}

void loop_timer_stop(struct loop_timer *t) {
  if (t->slot != 0) timers_remove(&t->loop->timers, t);
}

bool loop_timer_is_set(const struct loop_timer *t) { return t->slot != 0; }

/* At most as many as there were at the start: those that set themselves again with no delay do not keep it here. */
static void run_timers(struct loop *l) {
  for (size_t left = l->timers.count; left > 0; left--) {
    struct loop_timer *t = timers_first(&l->timers);
    if (t == NULL || t->at_ms > l->now_ms) return;
    timers_remove(&l->timers, t);
    t->fn(t);
  }
}

/* The wait is computed from the clock as it is, not from the turn's: the turn itself may have taken long. */
static int wait_ms(const struct loop *l, int max_wait_ms) {
  const struct loop_timer *t = timers_first(&l->timers);
  if (l->io_failed || !list_empty(&l->bulk.queue) || l->late_first != NULL || atomic_load(&l->stopped)) return 0;
  if (t == NULL) return max_wait_ms;
  uint64_t now = clock_ms(), ms = t->at_ms <= now ? 0 : t->at_ms - now;
  if (max_wait_ms >= 0 && ms > (uint64_t)max_wait_ms) return max_wait_ms;
  return ms > INT32_MAX ? INT32_MAX : (int)ms;
}

/* Late events and calls */

bool loop_late_may_go_on(const struct loop *l) { return clock_ns() < l->late_until_ns; }

static void deliver_late(struct loop *l) {
  struct epoll_event events[LATE_EVENTS_PER_WAIT];
  int n;
  do {
    n = epoll_wait(l->late_fd, events, LATE_EVENTS_PER_WAIT, 0);
    for (int i = 0; i < n; i++) {
      struct loop_io *io = event_io(l, &events[i]);
      if (io != NULL) io_tell(io, events[i].events);
    }
  } while (n == LATE_EVENTS_PER_WAIT && loop_late_may_go_on(l));
}

/* One at least, though the events before may have taken all the time: else they would again in the next turn. Those
   that are set by one another are of the next turn if time is up, and of this one otherwise. */
static void run_late_calls(struct loop *l) {
  if (l->late_first == NULL) return;
  do {
    struct loop_deferred *d = l->late_first;
    l->late_first = d->next;
    if (l->late_first == NULL) l->late_last = &l->late_first;
    d->fn(d);
  } while (l->late_first != NULL && loop_late_may_go_on(l));
}

/* While calls wait events have half of the time. Whoever overruns it is paid for by the turns that follow. */
static void run_late(struct loop *l, bool ready, bool contended) {
  const int64_t turn_ns = (int64_t)LOOP_LATE_TURN_US * NS_PER_US;
  uint64_t begin_ns = clock_ns();
  int64_t budget_ns = turn_ns;
  if (contended) {
    int64_t earned_ns = (int64_t)(begin_ns - l->turn_ns) / (LOOP_LATE_PART - 1);
    int64_t most_ns = earned_ns > turn_ns ? earned_ns : turn_ns;
    l->late_credit_ns += earned_ns;
    if (l->late_credit_ns > most_ns) l->late_credit_ns = most_ns;
    budget_ns = l->late_credit_ns;
  }
  if (budget_ns <= 0) return;
  l->late_until_ns = begin_ns + (uint64_t)budget_ns / (l->late_first != NULL ? 2 : 1);
  if (ready) deliver_late(l);
  l->late_until_ns = begin_ns + (uint64_t)budget_ns;
  run_late_calls(l);
  if (!contended) return;          /* nobody else wanted that time */
  l->late_credit_ns -= (int64_t)(clock_ns() - begin_ns);
  if (l->late_credit_ns < -turn_ns * LOOP_LATE_DEBT_TURNS_MAX) l->late_credit_ns = -turn_ns * LOOP_LATE_DEBT_TURNS_MAX;
}

bool loop_turn(struct loop *l, int max_wait_ms) {
  /* 1 wait; an interrupted wait is a turn without events */
  int wait = wait_ms(l, max_wait_ms);
  if (l->wait_begins != NULL) l->wait_begins();
  int n = epoll_wait(l->epoll_fd, l->events, EVENTS_PER_TURN_MAX, wait);
  if (l->wait_ended != NULL) l->wait_ended();
  bool woken = false, late = false;
  for (int i = 0; i < n; i++) {
    woken = woken || l->events[i].data.u64 == WAKE_EVENT;
    late = late || l->events[i].data.u64 == LATE_EVENT;
  }

  /* 2 read the clock */
  l->turn_ns = clock_ns();
  l->now_ms = l->turn_ns / NS_PER_MS;

  /* 3 run due timers */
  run_timers(l);

  /* 4 run messages */
  run_messages(l, l, woken, atomic_load(&l->stopped) ? SIZE_MAX : LOOP_MESSAGES_PER_TURN_MAX);

  /* 5 deliver descriptor events */
  deliver_failures(l);
  for (int i = 0; i < n; i++) deliver_or_queue(l, &l->events[i]);

  /* 6 those of bulk */
  bulk_run(l);

  /* 7 what is late */
  if (late || l->late_first != NULL) run_late(l, late, n > (woken ? 1 : 0) + (late ? 1 : 0));

  /* 8 run deferred frees */
  run_deferred(l);
  return !atomic_load(&l->stopped);
}

void loop_run(struct loop *l) {
  while (loop_turn(l, -1)) {
  }
}
