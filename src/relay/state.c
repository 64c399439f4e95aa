/* A relay's database: issued tokens, revocations, port leases and settings. The hard thing is that a relay and `adit
   token` use it at the same time: every change is one transaction, waiting for another process is bounded, and the
   database is made under the folder's lock, before SQLite opens it (closing a descriptor of our own later would drop
   SQLite's POSIX locks). */
#include "relay/state.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/shortage.h"
#include "base/text.h"
#include "relay/state_private.h"

enum { APPLICATION_ID = 0x61646974 /* "adit" */ };

/* What makes each version out of the one before, from nothing on. */
static const char *const schema_steps[] = {
    /* A revocation is kept apart from the tokens: a token that another operator issued is known here by its id only. */
    "CREATE TABLE token(id BLOB PRIMARY KEY, name TEXT NOT NULL, max_tunnels INTEGER NOT NULL,"
    " issued_s INTEGER NOT NULL, expires_s INTEGER NOT NULL) STRICT, WITHOUT ROWID;"
    "CREATE INDEX token_name ON token(name);"
    "CREATE TABLE revocation(id BLOB PRIMARY KEY, revoked_s INTEGER NOT NULL) STRICT, WITHOUT ROWID;"
    "CREATE TABLE port_lease(port INTEGER PRIMARY KEY, owner BLOB NOT NULL, label TEXT NOT NULL,"
    " free_at_s INTEGER NOT NULL) STRICT;"
    "CREATE TABLE setting(key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;"
    "PRAGMA application_id = 1633970548;"
    "PRAGMA user_version = 1;",
    /* Limits: 0 is none. */
    "ALTER TABLE token ADD COLUMN max_streams INTEGER NOT NULL DEFAULT 0;"
    "ALTER TABLE token ADD COLUMN max_visitors_per_s INTEGER NOT NULL DEFAULT 0;"
    "ALTER TABLE token ADD COLUMN max_bytes_per_s INTEGER NOT NULL DEFAULT 0;"
    "PRAGMA user_version = 2;",
    /* Revocations by the holders of tokens. */
    "CREATE TABLE narrowed_revocation(revoker BLOB NOT NULL, id BLOB NOT NULL, root BLOB NOT NULL,"
    " expires_s INTEGER NOT NULL, PRIMARY KEY(revoker, id)) STRICT, WITHOUT ROWID;"
    "PRAGMA user_version = 3;"};
enum { SCHEMA_VERSION = ARRAY_LEN(schema_steps) };

static const char *const statement_text[STATE_STATEMENTS] = {
    [STATE_BEGIN] = "BEGIN IMMEDIATE",
    [STATE_COMMIT] = "COMMIT",
    [STATE_ROLLBACK] = "ROLLBACK",
    [STATE_DATA_VERSION] = "PRAGMA data_version",
    [STATE_SETTING_PUT] =
        "INSERT INTO setting VALUES(?1, ?2) ON CONFLICT(key) DO UPDATE SET value = ?2 WHERE value <> ?2",
    [STATE_SETTING_GET] = "SELECT value FROM setting WHERE key = ?1",
    [STATE_EVER_USED] = "SELECT 1 WHERE EXISTS(SELECT 1 FROM token) OR EXISTS(SELECT 1 FROM revocation)"
                        " OR EXISTS(SELECT 1 FROM port_lease) OR EXISTS(SELECT 1 FROM setting)",
    [STATE_TOKEN_LIVE] = "SELECT 1 FROM token WHERE name = ?1 AND (expires_s = 0 OR expires_s > ?2)"
                         " AND id NOT IN (SELECT id FROM revocation)",
    [STATE_TOKEN_ADD] = "INSERT INTO token(id, name, max_tunnels, issued_s, expires_s, max_streams,"
                        " max_visitors_per_s, max_bytes_per_s) VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
    [STATE_TOKEN_LIST] = "SELECT t.id, t.name, t.max_tunnels, t.issued_s, t.expires_s, coalesce(r.revoked_s, 0), 0,"
                         " t.max_streams, t.max_visitors_per_s, t.max_bytes_per_s"
                         " FROM token t LEFT JOIN revocation r ON r.id = t.id"
                         " UNION ALL SELECT id, '', 0, 0, 0, revoked_s, 1, 0, 0, 0 FROM revocation"
                         " WHERE id NOT IN (SELECT id FROM token) ORDER BY 7, 4, 2, 1",
    [STATE_TOKEN_KNOWN] = "SELECT 1 FROM token WHERE name = ?1",
    [STATE_REVOKE_NAME] = "INSERT OR IGNORE INTO revocation SELECT id, ?2 FROM token WHERE name = ?1",
    [STATE_REVOKE_ID] = "INSERT OR IGNORE INTO revocation VALUES(?1, ?2)",
    [STATE_REVOKED] = "SELECT id FROM revocation",
    [STATE_NARROWED_PUT] = "INSERT OR REPLACE INTO narrowed_revocation VALUES(?1, ?2, ?3, ?4)",
    [STATE_NARROWED_DROP_BELOW] = "DELETE FROM narrowed_revocation WHERE revoker = ?1 AND root = ?2",
    [STATE_NARROWED_EXPIRE] = "DELETE FROM narrowed_revocation WHERE expires_s <> 0 AND expires_s <= ?1",
    [STATE_NARROWED_EACH] = "SELECT revoker, id, root, expires_s FROM narrowed_revocation",
    [STATE_LEASE_PUT] = "INSERT OR REPLACE INTO port_lease VALUES(?1, ?2, ?3, ?4)",
    [STATE_LEASE_DROP] = "DELETE FROM port_lease WHERE port = ?1",
    /* In the order of time, which is the order that the quarantine takes cheaply. */
    [STATE_LEASE_EACH] = "SELECT port, owner, label, free_at_s FROM port_lease ORDER BY free_at_s, port"};

/* Errors. */

static int damaged(const struct state *s, const char *why, struct err *e) {
  return err_set(e, ERR_NOT_NOW,
                 "%s/state.db: damaged: %.200s (restore it from a backup; or move it away and begin anew with: adit "
                 "relay --reset-state)",
                 s->folder.path, why);
}

static int db_error(const struct state *s, int rc, struct err *e) {
  const char *dir = s->folder.path;
  const char *why = s->db != NULL ? sqlite3_errmsg(s->db) : sqlite3_errstr(rc);
  int system_errno = s->db != NULL ? sqlite3_system_errno(s->db) : 0;
  int kind = rc & 0xff;
  bool system_failed = kind == SQLITE_IOERR || kind == SQLITE_CANTOPEN;
  if (kind == SQLITE_FULL || (system_failed && system_errno == ENOSPC))
    return err_set(e, ERR_IO, "%s/state.db: no space left on its file system (make room)", dir);
  if (system_failed && shortage_note(system_errno))
    return err_set(e, ERR_IO, "%s/state.db: %s (%s)", dir, strerror(system_errno), shortage_remedy(system_errno));
  switch (kind) {
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
      return err_set(e, ERR_TIMEOUT,
                     "%s/state.db: another program has held it for %d s (end that program, or try again)", dir,
                     STATE_BUSY_MS / 1000);
    case SQLITE_READONLY:
    case SQLITE_CANTOPEN:
    case SQLITE_PERM:
      return err_set(e, ERR_IO, "%s/state.db: not writable: %s (it and its folder must belong to this user)", dir,
                     system_errno != 0 ? strerror(system_errno) : why);
    case SQLITE_NOTADB:
      return err_set(e, ERR_NOT_NOW,
                     "%s/state.db: not a state database of adit (choose another folder with --state, or move it away)",
                     dir);
    case SQLITE_CORRUPT:
      return damaged(s, why, e);
    case SQLITE_NOMEM:
      return err_set(e, ERR_NOMEM, "%s/state.db: out of memory", dir);
    default:
      return err_set(e, ERR_IO, "%s/state.db: %s%s%s (check its file system)", dir, why, system_errno != 0 ? ": " : "",
                     system_errno != 0 ? strerror(system_errno) : "");
  }
}

static int row_error(const struct state *s, struct err *e) { return damaged(s, "a row has an impossible value", e); }

/* Statements: each is prepared when first used, and reset as soon as it is done. */

struct query query_begin(struct state *s, enum state_statement which) {
  struct query q = {.s = s, .rc = SQLITE_OK};
  if (s->statements[which] == NULL)
    q.rc = sqlite3_prepare_v3(s->db, statement_text[which], -1, SQLITE_PREPARE_PERSISTENT, &s->statements[which], NULL);
  q.statement = s->statements[which];
  return q;
}

static void query_bind_int(struct query *q, int at, int64_t v) {
  if (q->rc == SQLITE_OK) q->rc = sqlite3_bind_int64(q->statement, at, v);
}

static void query_bind_text(struct query *q, int at, const char *text) {
  if (q->rc == SQLITE_OK) q->rc = sqlite3_bind_text(q->statement, at, text, -1, SQLITE_STATIC);
}

static void query_bind_bytes(struct query *q, int at, const void *p, int n) {
  if (q->rc == SQLITE_OK) q->rc = sqlite3_bind_blob(q->statement, at, p, n, SQLITE_STATIC);
}

bool query_row(struct query *q) {
  if (q->rc != SQLITE_OK && q->rc != SQLITE_ROW) return false;
  q->rc = sqlite3_step(q->statement);
  return q->rc == SQLITE_ROW;
}

int query_end(struct query *q, struct err *e) {
  bool failed = q->rc != SQLITE_OK && q->rc != SQLITE_ROW && q->rc != SQLITE_DONE;
  int rc = failed ? db_error(q->s, q->rc, e) : 0;
  if (q->statement != NULL) {
    (void)sqlite3_reset(q->statement);
    (void)sqlite3_clear_bindings(q->statement);
  }
  return rc;
}

static int query_run(struct query *q, struct err *e) {
  (void)query_row(q);
  return query_end(q, e);
}

static int run(struct state *s, enum state_statement which, struct err *e) {
  struct query q = query_begin(s, which);
  return query_run(&q, e);
}

int state_begin(struct state *s, struct err *e) { return run(s, STATE_BEGIN, e); }

int state_finish(struct state *s, int rc, struct err *e) {
  if (rc == 0) rc = run(s, STATE_COMMIT, e);
  if (rc != 0 && sqlite3_get_autocommit(s->db) == 0) (void)run(s, STATE_ROLLBACK, NULL);
  return rc;
}

static bool column_bytes(sqlite3_stmt *row, int at, void *out, size_t n) {
  if (sqlite3_column_type(row, at) != SQLITE_BLOB || sqlite3_column_bytes(row, at) != (int)n) return false;
  const void *p = sqlite3_column_blob(row, at);
  if (p == NULL) return false;
  memcpy(out, p, n);
  return true;
}

static bool column_text(sqlite3_stmt *row, int at, char *out, size_t cap) {
  const unsigned char *text = sqlite3_column_text(row, at);
  size_t n = text == NULL ? cap : (size_t)sqlite3_column_bytes(row, at);
  if (n >= cap || memchr(text, '\0', n) != NULL) return false;
  memcpy(out, text, n + 1);
  return true;
}

/* Opening. */

static int exec(struct state *s, const char *sql, struct err *e) {
  int rc = sqlite3_exec(s->db, sql, NULL, NULL, NULL);
  return rc == SQLITE_OK ? 0 : db_error(s, rc, e);
}

static int select_int(struct state *s, const char *sql, int64_t *out, struct err *e) {
  sqlite3_stmt *statement = NULL;
  int rc = sqlite3_prepare_v2(s->db, sql, -1, &statement, NULL);
  if (rc == SQLITE_OK) rc = sqlite3_step(statement);
  if (rc == SQLITE_ROW) *out = sqlite3_column_int64(statement, 0);
  int result = rc == SQLITE_ROW ? 0 : db_error(s, rc, e);
  (void)sqlite3_finalize(statement);
  return result;
}

/* The file itself, so that its mode and owner do not depend on the umask or on who comes first. */
static int make_file(struct state *s, struct err *e) {
  int fd = openat(s->folder.fd, "state.db", O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (fd < 0 && errno == EEXIST) return 0;
  if (fd < 0)
    return err_set_errno_remedy(e, "the folder must be writable and have room", "%s/state.db: cannot be made",
                                s->folder.path);
  int rc = folder_adopt(&s->folder, fd, "state.db", e);
  if (rc == 0 && fchmod(fd, 0600) != 0)
    rc = err_set_errno(e, "%s/state.db", s->folder.path);
  close(fd);
  return rc;
}

/* In one transaction: whoever fails half way has changed nothing. */
static int bring_up_schema(struct state *s, int64_t version, struct err *e) {
  int rc = exec(s, "BEGIN IMMEDIATE", e);
  if (rc != 0) return rc;
  while (rc == 0 && version < SCHEMA_VERSION) rc = exec(s, schema_steps[version++], e);
  return state_finish(s, rc, e);
}

/* That every page is there and in its place: else it would be found out when a revoked token is looked for. */
static int check_pages(struct state *s, struct err *e) {
  sqlite3_stmt *statement = NULL;
  int rc = sqlite3_prepare_v2(s->db, "PRAGMA quick_check(1)", -1, &statement, NULL);
  if (rc == SQLITE_OK) rc = sqlite3_step(statement);
  const char *answer = rc == SQLITE_ROW ? (const char *)sqlite3_column_text(statement, 0) : NULL;
  int result = 0;
  if (rc != SQLITE_ROW) result = db_error(s, rc, e);
  else if (answer == NULL || strcmp(answer, "ok") != 0) result = damaged(s, answer != NULL ? answer : "unreadable", e);
  (void)sqlite3_finalize(statement);
  return result;
}

static int check_schema(struct state *s, char *lost, struct err *e) {
  int64_t application = 0, version = 0, tables = 0;
  int rc = select_int(s, "PRAGMA application_id", &application, e);
  if (rc == 0) rc = select_int(s, "PRAGMA user_version", &version, e);
  if (rc == 0) rc = select_int(s, "SELECT count(*) FROM sqlite_schema", &tables, e);
  if (rc != 0) return rc;
  if (application == 0 && version == 0 && tables == 0) {
    rc = kept_check_empty(s, lost, e);
    return rc == 0 ? bring_up_schema(s, 0, e) : rc;
  }
  if (application != APPLICATION_ID) return db_error(s, SQLITE_NOTADB, e);
  if (version > SCHEMA_VERSION)
    return err_set(e, ERR_UNSUPPORTED,
                   "%s/state.db: made by a newer adit: its version is %lld, this program knows %d (upgrade this "
                   "program)",
                   s->folder.path, (long long)version, SCHEMA_VERSION);
  if (version < 1) return db_error(s, SQLITE_NOTADB, e);
  return version < SCHEMA_VERSION ? bring_up_schema(s, version, e) : 0;
}

static int open_database(struct state *s, char *lost, struct err *e) {
  int rc = make_file(s, e);
  if (rc != 0) return rc;
  char *path = NULL;
  if (asprintf(&path, "%s/state.db", s->folder.path) < 0)
    return err_set(e, ERR_NOMEM, "%s/state.db: out of memory", s->folder.path);
  int opened =
      sqlite3_open_v2(path, &s->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_FULLMUTEX | SQLITE_OPEN_NOFOLLOW, NULL);
  free(path);
  if (opened != SQLITE_OK) return db_error(s, opened, e);
  (void)sqlite3_extended_result_codes(s->db, 1);
  (void)sqlite3_busy_timeout(s->db, STATE_BUSY_MS);
  /* FULL: a lease must not be forgotten by a power failure after its port was announced. A file system without shared
     memory keeps its rollback journal, which is as safe. */
  rc = exec(s, "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA trusted_schema = OFF", e);
  if (rc == 0) rc = check_schema(s, lost, e);
  return rc == 0 ? check_pages(s, e) : rc;
}

/* The database first: a folder that is not ours gets no keys. lost: NULL when nothing may be made anew. */
static int open_locked(struct state *s, char *lost, struct err *e) {
  const int64_t now_s = (int64_t)time(NULL);
  int rc = kept_check_file(s, now_s, lost, e);
  if (rc == 0) rc = open_database(s, lost, e);
  if (rc == 0 && lost != NULL) rc = kept_keys_anew(s, now_s, lost, e);
  return rc == 0 ? state_keys_prepare(s, e) : rc;
}

static int open_folder(const char *dir, char *lost, struct state **out, struct err *e) {
  *out = NULL;
  struct state *s = calloc(1, sizeof *s);
  if (s == NULL) return err_set(e, ERR_NOMEM, "state folder %s: out of memory", dir);
  s->magic = STATE_MAGIC;
  s->claim = -1;
  int rc = folder_open(dir, &s->folder, e);
  if (rc != 0) goto fail;
  int lock = folder_lock(&s->folder, e);
  if (lock < 0) {
    rc = lock;
    goto fail;
  }
  rc = open_locked(s, lost, e);
  folder_unlock(lock);
  if (rc != 0) goto fail;
  *out = s;
  return 0;
fail:
  state_close(s);
  return rc;
}

int state_open(const char *dir, struct state **out, struct err *e) { return open_folder(dir, NULL, out, e); }

int state_open_anew(const char *dir, char lost[STATE_LOST_CAP], struct state **out, struct err *e) {
  lost[0] = '\0';
  return open_folder(dir, lost, out, e);
}

void state_close(struct state *s) {
  if (s == NULL) return;
  CHECK_MAGIC(s, STATE_MAGIC);
  for (size_t i = 0; i < STATE_STATEMENTS; i++) (void)sqlite3_finalize(s->statements[i]);
  (void)sqlite3_close(s->db);
  state_unclaim(s);
  folder_close(&s->folder);
  s->magic = 0;
  free(s);
}

int state_claim(struct state *s, struct err *e) {
  int lock = folder_lock_relay(&s->folder, e);
  if (lock < 0) return lock;
  s->claim = lock;
  return 0;
}

int state_inherit_claim(struct state *s, int claim, struct err *e) {
  s->claim = claim;
  if (folder_is_relay_lock(&s->folder, claim)) return 0;
  return err_set(e, ERR_CONFLICT, "state folder %s: not that of the running relay (restart it to change --state)",
                 s->folder.path);
}

int state_claim_descriptor(const struct state *s) { return s->claim; }

void state_unclaim(struct state *s) {
  if (s->claim >= 0) folder_unlock(s->claim);
  s->claim = -1;
}

bool state_has_successor(const struct state *s) { return folder_is_locked_by_relay(&s->folder); }

/* Settings. */

int state_set(struct state *s, const char *key, const char *value, struct err *e) {
  struct query q = query_begin(s, STATE_SETTING_PUT);
  query_bind_text(&q, 1, key);
  query_bind_text(&q, 2, value);
  return query_run(&q, e);
}

int state_find(struct state *s, const char *key, char *value, size_t cap, bool *known, struct err *e) {
  struct query q = query_begin(s, STATE_SETTING_GET);
  query_bind_text(&q, 1, key);
  *known = query_row(&q);
  bool good = !*known || column_text(q.statement, 0, value, cap);
  int rc = query_end(&q, e);
  if (rc == 0 && !good) rc = row_error(s, e);
  if (rc != 0 || !*known) value[0] = '\0';
  return rc;
}

int state_get(struct state *s, const char *key, char *value, size_t cap, struct err *e) {
  bool known;
  int rc = state_find(s, key, value, cap, &known, e);
  if (rc == 0 && !known)
    rc = err_set(e, ERR_NOT_NOW, "state folder %s: it has no setting \"%s\" (start the relay with it once)",
                 s->folder.path, key);
  return rc;
}

/* Tokens. */

int state_token_add(struct state *s, const struct certificate *c, struct err *e) {
  int rc = state_begin(s, e);
  if (rc != 0) return rc;
  struct query live = query_begin(s, STATE_TOKEN_LIVE);
  query_bind_text(&live, 1, c->name);
  query_bind_int(&live, 2, c->issued_s);
  bool taken = query_row(&live);
  rc = query_end(&live, e);
  if (rc == 0 && taken)
    rc = err_set(e, ERR_CONFLICT,
                 "token %s: a live token has this name (choose another name, or revoke that one first)", c->name);
  if (rc == 0) {
    struct query add = query_begin(s, STATE_TOKEN_ADD);
    query_bind_bytes(&add, 1, c->id, TOKEN_ID_BYTES);
    query_bind_text(&add, 2, c->name);
    query_bind_int(&add, 3, c->max_tunnels);
    query_bind_int(&add, 4, c->issued_s);
    query_bind_int(&add, 5, c->expires_s);
    query_bind_int(&add, 6, c->limits.max_streams);
    query_bind_int(&add, 7, c->limits.max_visitors_per_s);
    query_bind_int(&add, 8, (int64_t)c->limits.max_bytes_per_s);
    rc = query_run(&add, e);
  }
  s->token_changes++;
  return state_finish(s, rc, e);
}

static bool column_u32(sqlite3_stmt *row, int at, uint32_t *out) {
  int64_t v = sqlite3_column_int64(row, at);
  *out = (uint32_t)v;
  return v >= 0 && v <= UINT32_MAX;
}

static bool read_token(sqlite3_stmt *row, struct state_token *t) {
  int64_t max_bytes_per_s = sqlite3_column_int64(row, 9);
  t->issued_s = sqlite3_column_int64(row, 3);
  t->expires_s = sqlite3_column_int64(row, 4);
  t->revoked_s = sqlite3_column_int64(row, 5);
  t->limits.max_bytes_per_s = (uint64_t)max_bytes_per_s;
  return column_bytes(row, 0, t->id, sizeof t->id) && column_text(row, 1, t->name, sizeof t->name) &&
         column_u32(row, 2, &t->max_tunnels) && column_u32(row, 7, &t->limits.max_streams) &&
         column_u32(row, 8, &t->limits.max_visitors_per_s) && max_bytes_per_s >= 0;
}

int state_token_list(struct state *s, int (*each)(void *user, const struct state_token *t), void *user, struct err *e) {
  struct query q = query_begin(s, STATE_TOKEN_LIST);
  int rc = 0;
  while (rc == 0 && query_row(&q)) {
    struct state_token t = {0};
    rc = read_token(q.statement, &t) ? each(user, &t) : row_error(s, e);
  }
  int ended = query_end(&q, e);
  return rc != 0 ? rc : ended;
}

/* Revokes by name when the state knows one of that name, else by id. */
static int token_revoke(struct state *s, const char *name_or_id_hex, int64_t now_s, struct err *e) {
  struct query known = query_begin(s, STATE_TOKEN_KNOWN);
  query_bind_text(&known, 1, name_or_id_hex);
  bool is_name = query_row(&known);
  int rc = query_end(&known, e);
  if (rc != 0) return rc;
  uint8_t id[TOKEN_ID_BYTES];
  if (!is_name && hex_decode(name_or_id_hex, id, sizeof id) != 0)
    return err_set(e, ERR_NOT_NOW, "token %s: this state has issued none of that name (see: adit token list)",
                   name_or_id_hex);
  struct query q = query_begin(s, is_name ? STATE_REVOKE_NAME : STATE_REVOKE_ID);
  if (is_name) query_bind_text(&q, 1, name_or_id_hex);
  else query_bind_bytes(&q, 1, id, sizeof id);
  query_bind_int(&q, 2, now_s);
  return query_run(&q, e);
}

/* From the log of changes, where a relay that runs would leave it for days, into the database: whoever copies or
   restores one file without the other must not undo a revocation. It is on disk as it is, so nothing is lost when that
   cannot be had now. */
static void settle(struct state *s) {
  (void)sqlite3_wal_checkpoint_v2(s->db, NULL, SQLITE_CHECKPOINT_FULL, NULL, NULL);
}

int state_token_revoke(struct state *s, const char *name_or_id_hex, int64_t now_s, struct err *e) {
  int rc = state_begin(s, e);
  if (rc != 0) return rc;
  s->token_changes++;
  rc = state_finish(s, token_revoke(s, name_or_id_hex, now_s, e), e);
  if (rc == 0) settle(s);
  return rc;
}

int state_revoked(struct state *s, int (*each)(void *user, const uint8_t id[TOKEN_ID_BYTES]), void *user,
                  struct err *e) {
  struct query q = query_begin(s, STATE_REVOKED);
  int rc = 0;
  while (rc == 0 && query_row(&q)) {
    uint8_t id[TOKEN_ID_BYTES];
    rc = column_bytes(q.statement, 0, id, sizeof id) ? each(user, id) : row_error(s, e);
  }
  int ended = query_end(&q, e);
  return rc != 0 ? rc : ended;
}

/* Narrowed tokens. */

static int narrowed_drop_below(struct state *s, const struct revocation *r, struct err *e) {
  struct query q = query_begin(s, STATE_NARROWED_DROP_BELOW);
  query_bind_bytes(&q, 1, r->id, TOKEN_ID_BYTES);
  query_bind_bytes(&q, 2, r->root, TOKEN_ID_BYTES);
  return query_run(&q, e);
}

int state_narrowed_put(struct state *s, const struct revocation *r, struct err *e) {
  struct query q = query_begin(s, STATE_NARROWED_PUT);
  query_bind_bytes(&q, 1, r->revoker, TOKEN_ID_BYTES);
  query_bind_bytes(&q, 2, r->id, TOKEN_ID_BYTES);
  query_bind_bytes(&q, 3, r->root, TOKEN_ID_BYTES);
  query_bind_int(&q, 4, r->expires_s);
  int rc = query_run(&q, e);
  bool by_root = memcmp(r->root, r->revoker, TOKEN_ID_BYTES) == 0;
  return rc == 0 && by_root ? narrowed_drop_below(s, r, e) : rc;
}

int state_narrowed_expire(struct state *s, int64_t until_s, struct err *e) {
  struct query q = query_begin(s, STATE_NARROWED_EXPIRE);
  query_bind_int(&q, 1, until_s);
  return query_run(&q, e);
}

int state_narrowed_each(struct state *s, int (*each)(void *user, const struct revocation *r), void *user,
                        struct err *e) {
  struct query q = query_begin(s, STATE_NARROWED_EACH);
  int rc = 0;
  while (rc == 0 && query_row(&q)) {
    struct revocation r = {.expires_s = sqlite3_column_int64(q.statement, 3)};
    bool good = column_bytes(q.statement, 0, r.revoker, sizeof r.revoker) &&
                column_bytes(q.statement, 1, r.id, sizeof r.id) &&
                column_bytes(q.statement, 2, r.root, sizeof r.root) && r.expires_s >= 0;
    rc = good ? each(user, &r) : row_error(s, e);
  }
  int ended = query_end(&q, e);
  return rc != 0 ? rc : ended;
}

/* data_version counts the commits of other connections. */
int state_version(struct state *s, uint64_t *version) {
  struct query q = query_begin(s, STATE_DATA_VERSION);
  uint64_t others = query_row(&q) ? (uint64_t)sqlite3_column_int64(q.statement, 0) : 0;
  *version = others << 32 | s->token_changes;
  return query_end(&q, NULL);
}

/* Port leases. */

int state_lease_put(struct state *s, const struct port_lease *lease, struct err *e) {
  struct query q = query_begin(s, STATE_LEASE_PUT);
  query_bind_int(&q, 1, lease->port);
  query_bind_bytes(&q, 2, lease->owner, TOKEN_ID_BYTES);
  query_bind_text(&q, 3, lease->label);
  query_bind_int(&q, 4, lease->free_at_s);
  return query_run(&q, e);
}

int state_lease_drop(struct state *s, uint16_t port, struct err *e) {
  struct query q = query_begin(s, STATE_LEASE_DROP);
  query_bind_int(&q, 1, port);
  return query_run(&q, e);
}

int state_lease_each(struct state *s, int (*each)(void *user, const struct port_lease *lease), void *user,
                     struct err *e) {
  struct query q = query_begin(s, STATE_LEASE_EACH);
  int rc = 0;
  while (rc == 0 && query_row(&q)) {
    struct port_lease lease = {0};
    int64_t port = sqlite3_column_int64(q.statement, 0);
    lease.port = (uint16_t)port;
    lease.free_at_s = sqlite3_column_int64(q.statement, 3);
    if (port < 1 || port > UINT16_MAX || !column_bytes(q.statement, 1, lease.owner, sizeof lease.owner) ||
        !column_text(q.statement, 2, lease.label, sizeof lease.label))
      rc = row_error(s, e);
    else rc = each(user, &lease);
  }
  int ended = query_end(&q, e);
  return rc != 0 ? rc : ended;
}
