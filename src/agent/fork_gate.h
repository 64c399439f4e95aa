/* Keeps fork() of the host program out of the moments when a thread of ours is inside OpenSSL. The child would find its
   locks taken (that of the random generator, of the providers) by a thread that it does not have, and could never open
   a tunnel of its own. Whoever runs in the gate must not wait for anything but it, and not enter twice.

   A thread that ends gives back what OpenSSL has for it, under a lock again: so that is done in the gate, too, by
   whoever leaves it for the last time. */
#ifndef AGENT_FORK_GATE_H
#define AGENT_FORK_GATE_H

#include <stdint.h>

void fork_gate_enter(void);
void fork_gate_leave(void);
/* The same for a thread of ours that is about to end. */
void fork_gate_leave_at_end(void);
/* The same for a thread of the host, which may end whenever it likes. */
void fork_gate_leave_host(void);

/* What pthread_atfork() calls: waits until nobody is inside, lets nobody in meanwhile. */
void fork_gate_shut(void);
void fork_gate_open(void);
void fork_gate_open_in_child(void);

/* Tells this process from those that it forks. Not by the pid alone: a parent and its child may both be number 1, each
   of a PID namespace. */
uint64_t fork_gate_process(void);

#endif
