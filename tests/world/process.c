/* Hosts and processes: birth, signals, death. */
#include <stdio.h>
#include <string.h>

#include "base/base.h"
#include "disk.h"
#include "kernel.h"
#include "scheduler.h"

enum { FIRST_ID = 1000, STATUS_SHIFT = 8, HOSTS_MAX = 64 };

static struct host *hosts[HOSTS_MAX];
static size_t hosts_n;
static int ids;

void processes_begin(void) {
  hosts_n = 0;
  ids = 0;
}

struct host *host_new(const char *name, uint32_t ip) {
  struct host *h = world_alloc(sizeof *h);
  ASSERT(hosts_n < HOSTS_MAX);
  h->name = name;
  h->ip = ip;
  h->booted_ns = world_now_ns();
  h->disk = disk_new();
  network_join(h);
  list_init(&h->processes);
  hosts[hosts_n++] = h;
  return h;
}

struct host *host_find(const char *name) {
  for (size_t i = 0; i < hosts_n; i++)
    if (strcmp(hosts[i]->name, name) == 0) return hosts[i];
  return NULL;
}

struct beginning {
  int (*main)(void *arg);
  void *arg;
};

static void *begin(void *arg) {
  struct beginning b = *(struct beginning *)arg;
  world_free(arg);
  process_exit(b.main(b.arg));
}

struct process *process_start(struct host *h, const char *name, int (*main)(void *arg), void *arg) {
  struct process *p = world_alloc(sizeof *p);
  struct beginning *b = world_alloc(sizeof *b);
  *b = (struct beginning){.main = main, .arg = arg};
  p->host = h;
  p->id = FIRST_ID + ids++;
  (void)snprintf(p->name, sizeof p->name, "%s", name);
  list_init(&p->tasks);
  waiters_init(&p->ended);
  list_push_tail(&h->processes, &p->of_host);
  p->files = files_new();
  p->globals = globals_new();
  world_trace("process", (uint64_t)p->id, h->ip);
  (void)task_start(p, begin, b);
  return p;
}

struct process *process_find(int id) {
  for (size_t i = 0; i < hosts_n; i++) {
    LIST_FOREACH(&hosts[i]->processes, it) {
      struct process *p = CONTAINER_OF(it, struct process, of_host);
      if (p->id == id) return p;
    }
  }
  return NULL;
}

static void end(struct process *p, int status) {
  if (p->exited) return;
  world_trace("process ends", (uint64_t)p->id, (uint64_t)status);
  p->exited = true;
  p->status = status;
  tasks_end(p);
  list_remove(&p->of_host);
  files_free(p->files);
  p->files = NULL;
  globals_free(p->globals);
  p->globals = NULL;
  waiters_wake(&p->ended);
  if (p == process_current()) task_vanish();
}

void process_kill(struct process *p) { end(p, SIGKILL); }

void process_exit(int status) {
  end(process_current(), (status & 0xff) << STATUS_SHIFT);
  __builtin_unreachable();
}

int process_wait(struct process *p) {
  while (!p->exited) (void)task_park(&p->ended, WORLD_NEVER);
  return p->status;
}

/* Signals */

static uint64_t bit(int number) { return UINT64_C(1) << (number - 1); }

static bool is_harmless(int number) { return number == SIGCHLD || number == SIGWINCH || number == SIGURG; }

/* SIGPIPE is a thread's own, and nobody here waits for it. */
static uint64_t blocked_by(const struct process *p, int number) {
  return number == SIGPIPE && p == process_current() ? *task_blocked(task_current()) : tasks_blocked(p);
}

void process_signal(struct process *p, int number) {
  if (p->exited || number == 0) return;
  world_trace("signal", (uint64_t)p->id, (uint64_t)number);
  if (number == SIGKILL) {
    process_kill(p);
  } else if ((blocked_by(p, number) & bit(number)) != 0) {
    p->pending |= bit(number);
    files_signalled(p->files);
  } else if ((p->ignored & bit(number)) == 0 && !is_harmless(number)) {
    end(p, number);
  }
}

int process_take_signal(struct process *p, uint64_t mask) {
  uint64_t these = p->pending & mask;
  if (these == 0) return 0;
  int number = __builtin_ctzll(these) + 1;
  p->pending &= ~bit(number);
  return number;
}
