/* swapcontext(3) without its system call for the signal mask. */
#include "context.h"

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

/* As if main had been called from nowhere: six registers, where to return to, and what main would return to. */
void context_make(struct context *c, char *stack, unsigned long bytes, void (*main)(void)) {
  enum { SAVED = 6, FRAME = 8 };
  void **frame = (void **)(void *)(stack + bytes) - FRAME;
  for (int i = 0; i < FRAME; i++) frame[i] = (void *)0;
  *(void (**)(void))(void *)&frame[SAVED] = main;
  c->sp = frame;
}
#endif
