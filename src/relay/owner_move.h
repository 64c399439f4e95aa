/* An owner as bytes, and back, as a part of each thing of his that moves to another process: what his certificates say,
   from the root on, and how far he has used up what his token grants him in a time. */
#ifndef RELAY_OWNER_MOVE_H
#define RELAY_OWNER_MOVE_H

#include "relay/registry.h"

enum { OWNER_EXPORT_MAX_BYTES = CHAIN_MAX * (TOKEN_ID_BYTES + TOKEN_NAME_MAX_CHARS + TOKEN_ALLOW_MAX * 18 + 64) };
void owner_export(const struct owner *o, uint64_t now_ms, struct writer *w);
/* A reference to the same owner, who is made if he is not here. ERR_SYNTAX, ERR_NOMEM. */
int owner_import(struct registry *g, uint64_t now_ms, struct reader *r, struct owner **out) MUST_USE;

#endif
