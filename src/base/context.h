/* Another stack to run on: makecontext(3) and swapcontext(3), without their system call for the signal mask, which is
   the thread's here and stays as it is. Whoever changes stacks tells the sanitizers. */
#ifndef BASE_CONTEXT_H
#define BASE_CONTEXT_H

#include <stddef.h>

#ifdef __x86_64__
#define CONTEXT_SAVED void *saved
#else
#include <ucontext.h>
#define CONTEXT_SAVED ucontext_t saved
#endif

struct context { CONTEXT_SAVED; };

/* Saves what a called function must keep on this stack, and goes on with what is saved on the other. */
void context_switch(struct context *from, const struct context *to);
/* The first switch to it calls main there, which must not return. */
void context_make(struct context *c, void *stack, size_t bytes, void (*main)(void));

#endif
