/* What the files of the world's scheduler have in common; nobody else includes it. */
#ifndef WORLD_SCHEDULER_H
#define WORLD_SCHEDULER_H

#include "world.h"

/* run.c */
void scheduler_add(struct task *t);        /* it may run */
size_t scheduler_ready_n(void);
void scheduler_forget(struct task *t);

/* task.c */
void task_resume(struct task *t);          /* by the scheduler: until it parks, yields or ends */
bool task_is_ready(const struct task *t);
size_t task_place(const struct task *t);   /* among those that may run, as the scheduler noted it */
void task_set_place(struct task *t, size_t place);
void tasks_end(struct process *p);         /* all of a process; the current one is gone at its next switch */
uint64_t tasks_blocked(const struct process *p);     /* signals that all of them block */
void task_vanish(void) __attribute__((noreturn));    /* the current one, of a process that has ended */
void tasks_begin(void);

/* process.c */
void processes_begin(void);

/* globals.c */
void globals_begin(void);
struct globals *globals_new(void);         /* as the program began */
void globals_free(struct globals *g);
void globals_load(struct globals *g);      /* what another had is put back into its own copy */
size_t thread_locals_bytes(void);
void thread_locals_init(void *copy);
void thread_locals_save(void *copy);
void thread_locals_load(const void *copy);

#endif
