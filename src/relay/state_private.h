/* What state.c (the database) and state_keys.c (the key files) share. */
#ifndef RELAY_STATE_PRIVATE_H
#define RELAY_STATE_PRIVATE_H

#include <sqlite3.h>

#include "relay/key_file.h"
#include "relay/state.h"

enum state_statement {
  STATE_BEGIN,
  STATE_COMMIT,
  STATE_ROLLBACK,
  STATE_DATA_VERSION,
  STATE_SETTING_PUT,
  STATE_SETTING_GET,
  STATE_TOKEN_LIVE,
  STATE_TOKEN_ADD,
  STATE_TOKEN_LIST,
  STATE_TOKEN_KNOWN,
  STATE_REVOKE_NAME,
  STATE_REVOKE_ID,
  STATE_REVOKED,
  STATE_LEASE_PUT,
  STATE_LEASE_DROP,
  STATE_LEASE_EACH,
  STATE_STATEMENTS
};

enum { STATE_MAGIC = 0x73746174 };
struct state {
  uint32_t magic;
  struct folder folder;
  uint8_t operator_public[ED25519_KEY_BYTES];
  int claim;                       /* the relay's lock, or -1 */
  uint32_t token_changes;          /* made through this one */
  sqlite3 *db;
  sqlite3_stmt *statements[STATE_STATEMENTS];
};

/* Makes operator.key and operator.pub when missing. The folder's lock is held. */
int state_keys_prepare(struct state *s, struct err *e) MUST_USE;

#endif
