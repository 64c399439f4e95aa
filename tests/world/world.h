/* A simulated world: hosts with processes, whose threads are coroutines of one real thread; a virtual clock, and one
   seed that every choice comes from. What is tested is linked as it is: its calls of the C library lead to __wrap_
   functions (the list is in `wrapped`), which answer a simulated thread from here and call the real function for
   anybody else. Nothing here is thread-safe, since there is one real thread. */
#ifndef WORLD_WORLD_H
#define WORLD_WORLD_H

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/list.h"

#define WORLD_NS_PER_US UINT64_C(1000)
#define WORLD_NS_PER_MS UINT64_C(1000000)
#define WORLD_NS_PER_S UINT64_C(1000000000)
#define WORLD_NEVER UINT64_MAX     /* as a time: it does not come */

/* --- a run (tasks.c) --- */

struct world_options {
  uint64_t seed;
  uint64_t events_max;             /* after so many the run ends; 0: no limit */
  bool trace;                      /* every event in words on standard error */
};
void world_begin(const struct world_options *o);
/* Until world_stop, the last event, or until nothing can happen any more: then false, as everybody waits for ever. */
bool world_run(void);
void world_stop(void);             /* at the end of the step that is going on */
uint64_t world_events(void);       /* how many have been traced */
uint64_t world_hash(void);         /* over all that was traced: equal for equal seeds */
/* The rule that was broken, in words: the run ends here, and the process with status 1. */
void world_fail(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));

uint64_t world_now_ns(void);       /* since the world's beginning, never backwards; hosts have clocks of their own */
uint64_t world_random(void);       /* from the seed */
uint64_t world_below(uint64_t n);  /* 0 to n-1; n > 0 */
bool world_chance(uint64_t one_in);                  /* true once in so many */
void world_random_bytes(void *out, size_t n);
/* Something has happened: it goes into the hash and counts as one event. Numbers must be the same in every run of a
   seed, so no addresses. */
void world_trace(const char *what, uint64_t a, uint64_t b);

/* What happens at a time: called by the scheduler, between tasks, where task_current is NULL. Embedded in whatever it
   is about, and zeroed before its first use. */
struct world_event {
  uint64_t at_ns, order;
  size_t place;                    /* in the queue, from 1; 0: not in it */
  void (*fn)(struct world_event *e);
};
void world_at(struct world_event *e, uint64_t at_ns, void (*fn)(struct world_event *e));   /* also if it is set */
void world_cancel(struct world_event *e);

/* Memory of the world's own: zeroed, never refused, whatever the current task is refused. */
void *world_alloc(size_t n);
void *world_realloc(void *p, size_t n);    /* what is new is not zeroed */
void world_free(void *p);

/* --- hosts --- */

struct host {
  const char *name;
  uint32_t ip;                     /* IPv4, host byte order */
  uint64_t booted_ns;              /* what the world's clock showed as the host's was 0 */
  int64_t wall_ns;                 /* the wall clock, less the world's; changed by who sets it */
  struct disk *disk;               /* disk.h */
  struct host_net *net;            /* kernel.h */
  struct list processes;
};
struct host *host_new(const char *name, uint32_t ip);      /* lives until the run's end */
struct host *host_find(const char *name);  /* NULL: there is none */

/* Waiting: whoever is woken looks again whether it was for what he waits for, so callers loop. */
struct waiters { struct list all; };

/* --- processes --- */

struct files;                      /* a table of descriptors, the kernel's: */
struct files *files_new(void);
void files_free(struct files *f);  /* closes all, as death does: a reset where SO_LINGER says so, else FIN */
void files_signalled(struct files *f);     /* a signal is pending, or no more: for signalfd */

enum { PROCESS_NAME_CAP = 32 };
struct process {
  struct list of_host, tasks;
  struct host *host;
  struct files *files;
  char name[PROCESS_NAME_CAP];
  int id;                          /* getpid */
  uint64_t pending, ignored;       /* signals, by bit number - 1 */
  bool exited;                     /* or killed: gone from its host; the struct stays, for who asks */
  int status;                      /* as waitpid has it */
  struct waiters ended;
  const char *variable;            /* of its environment, besides HOME; NULL: none */
  char value[16];
  struct globals *globals;         /* its copy of the variables of the program */
};
/* Its first thread calls main, and the process ends when that returns, with what it returned. */
struct process *process_start(struct host *h, const char *name, int (*main)(void *arg), void *arg);
int process_wait(struct process *p);       /* by a task of another: its status */
void process_kill(struct process *p);      /* all its tasks vanish wherever they are; may be the current one */
void process_exit(int status) __attribute__((noreturn));   /* the current one's */
void process_signal(struct process *p, int number);        /* SIGKILL kills; others as blocked and ignored say */
int process_take_signal(struct process *p, uint64_t mask); /* the lowest, which is pending no more; 0: none */
struct process *process_find(int id);      /* NULL: there is none any more */
struct process *process_current(void);     /* NULL: as task_current */

/* --- tasks: simulated threads --- */

struct task;
struct task *task_current(void);   /* NULL: in the scheduler or outside of a run, where wrappers do the real thing */
struct task *task_start(struct process *p, void *(*main)(void *arg), void *arg);
void task_exit(void *result) __attribute__((noreturn));
void *task_join(struct task *t);   /* and frees it */
void task_detach(struct task *t);
void **task_specific(unsigned key);        /* where pthread_getspecific finds it; NULL: outside of tasks */
uint64_t *task_blocked(struct task *t);    /* signals, as above; a new task has those of who starts it */
uint64_t task_id(const struct task *t);    /* never the same twice in a run */

struct waiting {                   /* on the stack of the task that waits; one for each thing that is waited for */
  struct list of_waiters, of_task;
  struct task *task;
};
void waiters_init(struct waiters *w);
void waiters_wake(struct waiters *w);      /* all may run again; which one first is the seed's */
void waiters_wake_one(struct waiters *w);  /* one that is asleep, by seed */
void waiters_end(struct waiters *w);       /* before its memory goes: those who wait are woken and leave it */
void waiting_begin(struct waiting *g, struct waiters *w);
void waiting_end(struct waiting *g);
bool task_sleep(uint64_t until_ns);        /* until woken; false: the time has come */
/* The three in one, for who waits for one thing. */
bool task_park(struct waiters *w, uint64_t until_ns);
void task_yield(void);             /* others may run first */
void task_step(void);              /* the same once in a while, by seed: in every call that may be interrupted */

#endif
