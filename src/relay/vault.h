/* What the key process holds, and how it answers. */
#ifndef RELAY_VAULT_H
#define RELAY_VAULT_H

#include "relay/identity.h"
#include "relay/key_wire.h"

struct vault;
/* The state is opened at the first request that needs it: by then the relay has made it. */
struct vault *vault_new(const char *state_dir, const struct identity_source *from) MUST_USE;
void vault_free(struct vault *v);
/* Thread-safe. The answer, if the request has one, is appended to out as a frame. Negative: it cannot be answered, and
   whoever asks so is not the relay that it was. */
int vault_answer(struct vault *v, const uint8_t *request, size_t n, struct buf *out) MUST_USE;

#endif
