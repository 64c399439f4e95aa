/* A run: its clock, its random numbers, its trace, what happens when, and who runs next. */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "kernel.h"
#include "scheduler.h"

/* Whatever a task does between two switches takes a little time. */
enum { STEP_MIN_NS = 100, STEP_MAX_NS = 5000, TASKS_MAX = 4096, TIMES_MIN = 64 };

static struct {
  struct world_options options;
  uint64_t now_ns, events, hash, random, orders;
  struct world_event **queue;      /* a heap by time, then by order; from 1 */
  size_t queue_n, queue_cap;
  struct task *ready[TASKS_MAX];
  size_t ready_n;
  bool stopped;
} run;

/* Random numbers (splitmix64), and the hash of what happens */

static uint64_t mix(uint64_t x) {
  x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
  x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
  return x ^ x >> 31;
}

uint64_t world_random(void) { return mix(run.random += UINT64_C(0x9e3779b97f4a7c15)); }
uint64_t world_below(uint64_t n) { return world_random() % n; }
bool world_chance(uint64_t one_in) { return world_below(one_in) == 0; }

void world_random_bytes(void *out, size_t n) {
  for (uint8_t *at = out; n > 0;) {
    uint64_t r = world_random();
    size_t part = size_min(n, sizeof r);
    memcpy(at, &r, part);
    at += part;
    n -= part;
  }
}

uint64_t world_events(void) { return run.events; }
uint64_t world_hash(void) { return run.hash; }
uint64_t world_now_ns(void) { return run.now_ns; }

void world_trace(const char *what, uint64_t a, uint64_t b) {
  uint64_t h = run.hash + run.now_ns;
  for (const char *at = what; *at != '\0'; at++) h = (h ^ (uint8_t)*at) * UINT64_C(0x100000001b3);
  run.hash = mix(h ^ mix(a) ^ mix(b + 1));
  run.events++;
  if (run.options.trace) {
    const struct process *p = process_current();
    (void)fprintf(stderr, "%10" PRIu64 ".%03u us %-10s %2" PRIu64 " %-22s %" PRIu64 " %" PRIu64 "\n",
                  run.now_ns / WORLD_NS_PER_US, (unsigned)(run.now_ns % WORLD_NS_PER_US), p == NULL ? "-" : p->name,
                  p == NULL ? 0 : task_id(task_current()), what, a, b);
  }
  if (run.options.events_max != 0 && run.events >= run.options.events_max) run.stopped = true;
}

void world_fail(const char *format, ...) {
  va_list args;
  va_start(args, format);
  (void)fprintf(stderr, "world: seed %" PRIu64 ", event %" PRIu64 ", at %" PRIu64 " us: ", run.options.seed, run.events,
                run.now_ns / WORLD_NS_PER_US);
  (void)vfprintf(stderr, format, args);
  (void)fputc('\n', stderr);
  va_end(args);
  (void)fflush(NULL);
  _Exit(EXIT_FAILURE);
}

/* What happens when */

static bool is_before(const struct world_event *a, const struct world_event *b) {
  return a->at_ns != b->at_ns ? a->at_ns < b->at_ns : a->order < b->order;
}

static void put(size_t place, struct world_event *e) {
  run.queue[place] = e;
  e->place = place;
}

static void settle(size_t place, struct world_event *e) {
  for (; place > 1 && is_before(e, run.queue[place / 2]); place /= 2) put(place, run.queue[place / 2]);
  for (size_t next; (next = 2 * place) <= run.queue_n; place = next) {
    if (next < run.queue_n && is_before(run.queue[next + 1], run.queue[next])) next++;
    if (!is_before(run.queue[next], e)) break;
    put(place, run.queue[next]);
  }
  put(place, e);
}

void world_cancel(struct world_event *e) {
  size_t place = e->place;
  if (place == 0) return;
  struct world_event *last = run.queue[run.queue_n--];
  e->place = 0;
  if (last != e) settle(place, last);
}

void world_at(struct world_event *e, uint64_t at_ns, void (*fn)(struct world_event *e)) {
  world_cancel(e);
  if (run.queue_n + 2 > run.queue_cap) {
    run.queue_cap = size_max(2 * run.queue_cap, TIMES_MIN);
    run.queue = world_realloc(run.queue, run.queue_cap * sizeof run.queue[0]);
    ASSERT(run.queue != NULL);
  }
  e->at_ns = at_ns < run.now_ns ? run.now_ns : at_ns;
  e->order = run.orders++;
  e->fn = fn;
  settle(++run.queue_n, e);
}

/* Who runs next */

void scheduler_add(struct task *t) {
  ASSERT(run.ready_n < TASKS_MAX);
  run.ready[run.ready_n++] = t;
  task_set_place(t, run.ready_n);
}

void scheduler_forget(struct task *t) {
  size_t place = task_place(t);
  if (place == 0) return;
  struct task *last = run.ready[--run.ready_n];
  task_set_place(t, 0);
  if (last == t) return;
  run.ready[place - 1] = last;
  task_set_place(last, place);
}

size_t scheduler_ready_n(void) { return run.ready_n; }
void world_stop(void) { run.stopped = true; }

void world_begin(const struct world_options *o) {
  memset(&run, 0, sizeof run);
  run.options = *o;
  run.random = o->seed;
  run.hash = mix(o->seed + 1);
  globals_begin();
  tasks_begin();
  kernel_begin();
  processes_begin();
}

static void do_due(void) {
  while (!run.stopped && run.queue_n > 0 && run.queue[1]->at_ns <= run.now_ns) {
    struct world_event *e = run.queue[1];
    world_cancel(e);
    e->fn(e);
  }
}

bool world_run(void) {
  for (run.stopped = false; !run.stopped;) {
    do_due();
    if (run.stopped) break;
    if (run.ready_n > 0) {
      struct task *t = run.ready[world_below(run.ready_n)];
      scheduler_forget(t);
      task_resume(t);
      run.now_ns += STEP_MIN_NS + world_below(STEP_MAX_NS - STEP_MIN_NS);
    } else if (run.queue_n > 0) {
      run.now_ns = run.queue[1]->at_ns;
    } else {
      return false;
    }
  }
  return true;
}
