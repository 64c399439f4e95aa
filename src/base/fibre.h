/* Fibres: a call on a stack of its own, which may pause amid whatever it is doing and go on later. For a library that
   does not return when it must wait, as OpenSSL does not for a signature. All of it belongs to one thread. */
#ifndef BASE_FIBRE_H
#define BASE_FIBRE_H

#include "base/err.h"

struct fibre;
struct fibres;                     /* keeps the stacks of those that have ended, wiped, for the next */
struct fibres *fibres_new(void) MUST_USE;        /* NULL when out of memory */
void fibres_free(struct fibres *all);            /* none may be paused; NULL is fine */

/* Calls run(arg) until it returns (*out is NULL then) or pauses. ERR_NOMEM: it was not called. `wake` is for whoever
   the fibre waits for (fibre_wake): it is called with arg, and must not resume the fibre after it was cancelled. */
int fibre_start(struct fibres *all, void (*run)(void *arg), void (*wake)(void *arg), void *arg,
                struct fibre **out) MUST_USE;
/* It has paused: goes on, as fibre_start. Returns the fibre, or NULL when run has returned: then there is none any
   more. */
struct fibre *fibre_resume(struct fibre *f) MUST_USE;
/* The same for what nobody wants any more: fibre_pause says so, and run must return without another pause. */
void fibre_cancel(struct fibre *f);
void fibre_wake(struct fibre *f);                /* tells whoever started it that it may be resumed */

/* For what runs on a fibre. */
struct fibre *fibre_current(void);               /* NULL: it runs on none */
bool fibre_pause(void) MUST_USE;                 /* false: cancelled */

#endif
