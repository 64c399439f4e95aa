/* Tasks: simulated threads, each on a stack of its own, and what they wait for. */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "base/base.h"
#include "base/context.h"
#include "scheduler.h"

/* OpenSSL has a handful of keys for what a thread has of its own. */
enum { KEYS_MAX = 64 };
enum { STACK_BYTES = 1 << 20, GUARD_BYTES = 1 << 12, STEPS_PER_YIELD = 4, SPARE_STACKS_MAX = 64 };

struct task {
  struct list of_process, waits;   /* waits: of struct waiting */
  struct process *process;
  struct context context;
  char *stack;
  void *(*main)(void *arg);
  void *arg, *result;
  void *thread_locals, *specific[KEYS_MAX];
  struct world_event alarm;
  struct waiters ended;
  uint64_t id, blocked;
  size_t place;                    /* among the ready, from 1; 0: not there */
  int saved_errno;
  bool timed_out, detached, done;
};

static struct context scheduler;
static struct task *current;
static struct task *vanished;      /* the current one, whose process has ended while it ran */
static uint64_t ids;
static char *spare_stacks[SPARE_STACKS_MAX];
static size_t spare_n;

void tasks_begin(void) { current = vanished = NULL; ids = 0; }

struct task *task_current(void) { return current; }
struct process *process_current(void) { return current == NULL ? NULL : current->process; }
uint64_t task_id(const struct task *t) { return t->id; }
uint64_t *task_blocked(struct task *t) { return &t->blocked; }
bool task_is_ready(const struct task *t) { return t->place != 0; }
size_t task_place(const struct task *t) { return t->place; }
void task_set_place(struct task *t, size_t place) { t->place = place; }

/* Life */

static char *stack_new(void) {
  if (spare_n > 0) return spare_stacks[--spare_n];
  char *stack = mmap(NULL, STACK_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  ASSERT(stack != MAP_FAILED && mprotect(stack, GUARD_BYTES, PROT_NONE) == 0);
  return stack;
}

static void stack_free(char *stack) {
  if (spare_n < SPARE_STACKS_MAX) spare_stacks[spare_n++] = stack;
  else (void)munmap(stack, STACK_BYTES);
}

static void task_free(struct task *t) {
  LIST_FOREACH(&t->waits, it) waiting_end(CONTAINER_OF(it, struct waiting, of_task));
  waiters_end(&t->ended);
  world_cancel(&t->alarm);
  scheduler_forget(t);
  list_remove(&t->of_process);
  if (t->stack != NULL) stack_free(t->stack);
  world_free(t->thread_locals);
  world_free(t);
}

static void leave(void) { context_switch(&current->context, &scheduler); }

static void task_begin(void) { task_exit(current->main(current->arg)); }

struct task *task_start(struct process *p, void *(*main)(void *arg), void *arg) {
  struct task *t = world_alloc(sizeof *t);
  t->thread_locals = world_alloc(thread_locals_bytes() + 1);
  thread_locals_init(t->thread_locals);
  t->process = p;
  t->main = main;
  t->arg = arg;
  t->id = ++ids;
  t->blocked = current == NULL || current->process != p ? 0 : current->blocked;
  t->stack = stack_new();
  list_init(&t->waits);
  waiters_init(&t->ended);
  list_push_tail(&p->tasks, &t->of_process);
  context_make(&t->context, t->stack, STACK_BYTES, task_begin);
  scheduler_add(t);
  return t;
}

void task_resume(struct task *t) {
  if (t->process->globals != NULL) globals_load(t->process->globals);
  thread_locals_load(t->thread_locals);
  errno = t->saved_errno;
  current = t;
  context_switch(&scheduler, &t->context);
  t->saved_errno = errno;
  current = NULL;
  if (vanished == t) {
    vanished = NULL;
    task_free(t);
    return;
  }
  thread_locals_save(t->thread_locals);
  if (t->done && t->stack != NULL) {
    stack_free(t->stack);
    t->stack = NULL;
    if (t->detached) task_free(t);
  }
}

void task_exit(void *result) {
  current->result = result;
  current->done = true;
  waiters_wake(&current->ended);
  leave();
  __builtin_unreachable();
}

void *task_join(struct task *t) {
  while (!t->done) (void)task_park(&t->ended, WORLD_NEVER);
  void *result = t->result;
  task_free(t);
  return result;
}

void task_detach(struct task *t) {
  t->detached = true;
  if (t->done) task_free(t);
}

uint64_t tasks_blocked(const struct process *p) {
  uint64_t all = UINT64_MAX;
  LIST_FOREACH(&p->tasks, it) {
    const struct task *t = CONTAINER_OF(it, struct task, of_process);
    if (!t->done) all &= t->blocked;
  }
  return all;
}

void tasks_end(struct process *p) {
  LIST_FOREACH(&p->tasks, it) {
    struct task *t = CONTAINER_OF(it, struct task, of_process);
    if (t == current) vanished = t;
    else task_free(t);
  }
}

void task_vanish(void) {
  leave();
  __builtin_unreachable();
}

void **task_specific(unsigned key) {
  ASSERT(key < KEYS_MAX);
  return current == NULL ? NULL : &current->specific[key];
}

/* Waiting */

void waiters_init(struct waiters *w) { list_init(&w->all); }

static void wake(struct task *t) {
  if (t != current && !task_is_ready(t)) scheduler_add(t);
}

void waiters_wake(struct waiters *w) {
  LIST_FOREACH(&w->all, it) wake(CONTAINER_OF(it, struct waiting, of_waiters)->task);
}

void waiters_wake_one(struct waiters *w) {
  size_t asleep = 0;
  LIST_FOREACH(&w->all, it) asleep += !task_is_ready(CONTAINER_OF(it, struct waiting, of_waiters)->task);
  if (asleep == 0) return;
  size_t chosen = (size_t)world_below(asleep);
  LIST_FOREACH(&w->all, it) {
    struct task *t = CONTAINER_OF(it, struct waiting, of_waiters)->task;
    if (!task_is_ready(t) && chosen-- == 0) wake(t);
  }
}

void waiters_end(struct waiters *w) {
  waiters_wake(w);
  LIST_FOREACH(&w->all, it) list_remove(it);
}

void waiting_begin(struct waiting *g, struct waiters *w) {
  g->task = current;
  list_push_tail(&w->all, &g->of_waiters);
  list_push_tail(&current->waits, &g->of_task);
}

void waiting_end(struct waiting *g) {
  list_remove(&g->of_waiters);
  list_remove(&g->of_task);
}

static void on_alarm(struct world_event *e) {
  struct task *t = CONTAINER_OF(e, struct task, alarm);
  t->timed_out = true;
  wake(t);
}

bool task_sleep(uint64_t until_ns) {
  struct task *t = current;
  if (until_ns <= world_now_ns()) return false;
  t->timed_out = false;
  if (until_ns != WORLD_NEVER) world_at(&t->alarm, until_ns, on_alarm);
  leave();
  world_cancel(&t->alarm);
  return !t->timed_out;
}

bool task_park(struct waiters *w, uint64_t until_ns) {
  struct waiting g;
  waiting_begin(&g, w);
  bool woken = task_sleep(until_ns);
  waiting_end(&g);
  return woken;
}

void task_yield(void) {
  scheduler_add(current);
  leave();
}

void task_step(void) {
  if (world_chance(STEPS_PER_YIELD)) task_yield();
}
