/* The signatures of a worker's handshakes: asked of the key process without waiting in the call, many at a time, while
   the handshakes pause on fibres and the worker does other things. Belongs to the worker's thread. */
#ifndef RELAY_SIGNER_H
#define RELAY_SIGNER_H

#include "relay/key_wire.h"
#include "relay/worker.h"

struct signer;
/* fd, which stays its owner's: a channel of the key process's for nothing else. */
struct signer *signer_new(struct worker *w, int fd) MUST_USE;       /* NULL when out of memory */
void signer_free(struct signer *s);              /* nobody may wait; NULL is fine */
struct fibres *signer_fibres(struct signer *s);  /* for handshakes; NULL for NULL */
/* On a fibre, which pauses until the answer is there: see sign_handshake. ERR_TIMEOUT: there was none within
   SIGNATURE_WAIT_MS, or there was none for others and still is none. ERR_CLOSED: the fibre was cancelled, or the key
   process is gone. */
int signer_sign(struct signer *s, const struct key_request *r, uint8_t *signature, size_t *n) MUST_USE;

#endif
