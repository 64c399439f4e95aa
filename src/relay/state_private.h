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
  STATE_EVER_USED,
  STATE_TOKEN_LIVE,
  STATE_TOKEN_ADD,
  STATE_TOKEN_LIST,
  STATE_TOKEN_KNOWN,
  STATE_REVOKE_NAME,
  STATE_REVOKE_ID,
  STATE_REVOKED,
  STATE_NARROWED_PUT,
  STATE_NARROWED_DROP_BELOW,
  STATE_NARROWED_EXPIRE,
  STATE_NARROWED_EACH,
  STATE_LEASE_PUT,
  STATE_LEASE_DROP,
  STATE_LEASE_EACH,
  STATE_STATEMENTS
};

enum { STATE_MAGIC = 0x73746174, STATE_PLACED_FILES = 3 };
struct state {
  uint32_t magic;
  struct folder folder;
  uint8_t operator_public[ED25519_KEY_BYTES];
  int claim;                       /* the relay's lock, or -1 */
  uint32_t token_changes;          /* made through this one */
  uint64_t placed[STATE_PLACED_FILES];           /* inodes of the files that must stay where they are; 0: not seen
                                                    yet */
  sqlite3 *db;
  sqlite3_stmt *statements[STATE_STATEMENTS];
};

/* A statement, prepared when it is first used and reset by query_end. */
struct query {
  struct state *s;
  sqlite3_stmt *statement;
  int rc;                          /* the first failure, as SQLite names it */
};
struct query query_begin(struct state *s, enum state_statement which);
bool query_row(struct query *q);
int query_end(struct query *q, struct err *e) MUST_USE;

/* A setting, or empty; *known: there is one. */
int state_find(struct state *s, const char *key, char *value, size_t cap, bool *known, struct err *e) MUST_USE;

/* relay/state_kept.c: the files whose loss would undo a promise. The folder's lock is held. */
enum kept { KEPT_OPERATOR, KEPT_TICKETS, KEPT_AUTHORITY, KEPT_FILES };
enum { KEPT_TEXT_CAP = 80 };
/* Before the database is opened, and when it turns out to be empty. ERR_NOT_NOW: it was lost. `lost` takes the names of
   what was lost and may be made anew; NULL: nothing may. */
int kept_check_file(struct state *s, int64_t now_s, const char *lost, struct err *e) MUST_USE;
int kept_check_empty(struct state *s, char *lost, struct err *e) MUST_USE;
/* Before a key is made whose file `name` is not there: ERR_NOT_NOW when it was there. */
int kept_check_missing(struct state *s, enum kept which, const char *name, struct err *e) MUST_USE;
/* This is the key (by a text of at most KEPT_TEXT_CAP - 1 characters): ERR_SYNTAX when it was another. */
int kept_note(struct state *s, enum kept which, const char *key, struct err *e) MUST_USE;
int kept_forget(struct state *s, enum kept which, struct err *e) MUST_USE;   /* it is about to be replaced */
/* So that keys that were lost may be made. */
int kept_keys_anew(struct state *s, int64_t now_s, char lost[STATE_LOST_CAP], struct err *e) MUST_USE;

/* Makes operator.key and operator.pub when missing. The folder's lock is held. */
int state_keys_prepare(struct state *s, struct err *e) MUST_USE;

#endif
