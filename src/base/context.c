/* For x86-64 by its psABI: six registers are the caller's, and so the called function's to keep; the stack is a
   multiple of 16 bytes where a function is called. */
#include "base/context.h"

#ifdef __x86_64__

__asm__(
    ".text\n"
    ".globl context_switch\n"
    ".hidden context_switch\n"
    ".type context_switch, @function\n"
    "context_switch:\n"
    "  push %rbp\n  push %rbx\n  push %r12\n  push %r13\n  push %r14\n  push %r15\n"
    "  mov %rsp, (%rdi)\n"
    "  mov (%rsi), %rsp\n"
    "  pop %r15\n  pop %r14\n  pop %r13\n  pop %r12\n  pop %rbx\n  pop %rbp\n"
    "  ret\n"
    ".size context_switch, . - context_switch\n");

/* As if main had been called from nowhere: six registers, where to go on, and where main would return to. */
void context_make(struct context *c, void *stack, size_t bytes, void (*main)(void)) {
  enum { SAVED = 6, FRAME = 8 };
  void **frame = (void **)((char *)stack + bytes) - FRAME;
  for (int i = 0; i < FRAME; i++) frame[i] = NULL;
  *(void (**)(void))(void *)&frame[SAVED] = main;
  c->saved = frame;
}

#else

void context_switch(struct context *from, const struct context *to) { (void)swapcontext(&from->saved, &to->saved); }

void context_make(struct context *c, void *stack, size_t bytes, void (*main)(void)) {
  (void)getcontext(&c->saved);
  c->saved.uc_stack.ss_sp = stack;
  c->saved.uc_stack.ss_size = bytes;
  c->saved.uc_link = NULL;
  makecontext(&c->saved, main, 0);
}

#endif
