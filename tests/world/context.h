/* Another stack to run on. */
#ifndef WORLD_CONTEXT_H
#define WORLD_CONTEXT_H

#ifdef __x86_64__

struct context { void *sp; };

/* Saves what a called function must keep, on this stack; goes on with what is saved on the other. */
void context_switch(struct context *from, const struct context *to);
void context_make(struct context *c, char *stack, unsigned long bytes, void (*main)(void));

#else
#include <ucontext.h>

struct context { ucontext_t uc; };

static inline void context_switch(struct context *from, const struct context *to) {
  (void)swapcontext(&from->uc, &to->uc);
}
static inline void context_make(struct context *c, char *stack, unsigned long bytes, void (*main)(void)) {
  (void)getcontext(&c->uc);
  c->uc.uc_stack.ss_sp = stack;
  c->uc.uc_stack.ss_size = bytes;
  makecontext(&c->uc, main, 0);
}
#endif

#endif
