/* A program with busy tunnels must still be able to fork, so a fork that waits goes before those who want in. */
#include "agent/fork_gate.h"

#include <openssl/crypto.h>
#include <pthread.h>
#include <unistd.h>

#define GATE_INITIALIZER PTHREAD_RWLOCK_WRITER_NONRECURSIVE_INITIALIZER_NP
static pthread_rwlock_t gate = GATE_INITIALIZER;
static uint32_t forks;             /* between the first process and this one */

void fork_gate_enter(void) { (void)pthread_rwlock_rdlock(&gate); }
void fork_gate_leave(void) { (void)pthread_rwlock_unlock(&gate); }

void fork_gate_leave_at_end(void) {
  OPENSSL_thread_stop();
  fork_gate_leave();
}

/* Where OpenSSL is shared with the host, what it has for the host's thread is the host's, who may be in the middle of
   using it. */
void fork_gate_leave_host(void) {
#ifdef ADIT_PRIVATE_OPENSSL
  OPENSSL_thread_stop();
#endif
  fork_gate_leave();
}

void fork_gate_shut(void) { (void)pthread_rwlock_wrlock(&gate); }
void fork_gate_open(void) { (void)pthread_rwlock_unlock(&gate); }

/* The threads that wait at it are the parent's. */
void fork_gate_open_in_child(void) {
  gate = (pthread_rwlock_t)GATE_INITIALIZER;
  forks++;
}

uint64_t fork_gate_process(void) { return (uint64_t)forks << 32 | (uint32_t)getpid(); }
