/* The relay's keys, in a process of their own, which has nothing of the network: the certificate's, the authority's,
   and those of tickets. It reads their files itself, at the start and at renewals, so that the relay never has them; it
   signs handshakes, and nothing that is none (tls/handshake_sign.h). It ends with the relay, and the relay with it.

   Two channels a worker, one for the keeper and one for all the rest, each with a thread of the process: so signatures
   are made on as many cores as there are workers. A worker's handshakes do not wait for theirs (relay/signer.h): these
   have the second channel. All other calls wait for their answer. */
#ifndef RELAY_KEY_PROCESS_H
#define RELAY_KEY_PROCESS_H

#include "relay/identity.h"

struct key_process;
struct signer;
struct key_process_options {       /* texts outlive it */
  const char *state_dir, *domain, *cert_file, *key_file;
  unsigned workers_n;
};
/* Forks, so before the first thread, and before anything of the state is opened. */
int key_process_start(const struct key_process_options *o, struct key_process **out, struct err *e) MUST_USE;
void key_process_end(struct key_process *p);     /* NULL is fine; nothing that it made may be in use */
/* Readable when the process has ended, or does not answer: then it is no use any more. */
int key_process_fd(const struct key_process *p);
bool key_process_hangs(const struct key_process *p);
/* It does not answer, or not as it should, and so it is no use: from any thread; NULL is fine. */
void key_process_give_up(struct key_process *p);
/* Words for the start line: what bounds it. */
const char *key_process_rights(const struct key_process *p);
int key_process_signing_fd(const struct key_process *p, unsigned worker);    /* for its signer; non-blocking */
/* In a worker's thread, once: whose channels it has. Others share one. */
void key_process_use(unsigned worker, struct signer *signer);

/* As identity_load and identity_issue, with keys that stay there, and by the process's own clock. */
int key_process_load(struct key_process *p, struct identity *out, struct err *e) MUST_USE;
int key_process_issue(struct key_process *p, const char *host, struct tls_server **out, struct err *e) MUST_USE;
int key_process_tickets(struct key_process *p, struct err *e) MUST_USE;
int key_process_ticket_make(struct key_process *p, const struct ticket *t, uint8_t out[TICKET_MAX_BYTES],
                            size_t *n) MUST_USE;
int key_process_ticket_read(struct key_process *p, const uint8_t *ticket, size_t n, struct ticket *out) MUST_USE;

#endif
