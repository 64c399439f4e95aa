/* Which keys the database says there must be. Without that a key that was lost would silently be made anew, as at the
   first start, and what was promised with it would be undone. A setting with the name of the key's file says that it is
   in use, and of the operator's which it is. It is written after the file, and emptied before the file is replaced on
   purpose, so that a crash between the two is no loss. Folders from before these settings have none: there any other
   entry says that an operator's key has been used. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "relay/state_private.h"

static const struct kept_file { const char *name, *loss; } kept_files[] = {
    [KEPT_OPERATOR] = {"operator.key", "no token that it signed would be good any more"},
    [KEPT_TICKETS] = {"ticket.key", "no agent would get a kept address back"},
    [KEPT_AUTHORITY] = {"authority.key", "tokens, which pin that authority, would find no relay here"}};
static const char database[] = "state.db", authority_cert[] = "authority.pem";

static bool exists(const struct state *s, const char *name, bool *empty) {
  struct stat st = {0};
  bool there = fstatat(s->folder.fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 || errno != ENOENT;
  *empty = there && S_ISREG(st.st_mode) && st.st_size == 0;
  return there;
}

/* An empty file is what a full disk left, and as good as none. */
static bool is_there(const struct state *s, const char *name) {
  bool empty;
  return exists(s, name, &empty) && !empty;
}

/* Whether there is a key whose use the database bounds: which tokens are revoked, and whose the ports are. (An
   authority may be brought into a new folder.) */
static bool any_bounded_key(const struct state *s) {
  return is_there(s, kept_files[KEPT_OPERATOR].name) || is_there(s, kept_files[KEPT_TICKETS].name);
}

/* From under a relay that serves nothing is taken. */
static int check_unserved(const struct state *s, struct err *e) {
  if (!folder_is_locked_by_relay(&s->folder)) return 0;
  return err_set(e, ERR_CONFLICT, "state folder %s: a relay serves from it (end that one before you begin anew)",
                 s->folder.path);
}

static int add_lost(const struct state *s, char lost[STATE_LOST_CAP], const char *name, struct err *e) {
  size_t n = strlen(lost);
  (void)snprintf(lost + n, STATE_LOST_CAP - n, "%s%s", n > 0 ? "," : "", name);
  return check_unserved(s, e);
}

/* The database */

static int database_lost(const struct state *s, struct err *e) {
  return err_set(e, ERR_NOT_NOW,
                 "%s/state.db: missing or empty, though there are keys: revoked tokens would be good again (restore it "
                 "from a backup, or begin anew with: adit relay --reset-state)",
                 s->folder.path);
}

/* SQLite would make it, and delete a log of changes that belongs to no database. */
int kept_check_file(struct state *s, int64_t now_s, const char *lost, struct err *e) {
  if (is_there(s, database) || !any_bounded_key(s)) return 0;
  if (lost == NULL) return database_lost(s, e);
  int rc = check_unserved(s, e);
  if (rc == 0) rc = key_file_set_aside(&s->folder, database, now_s, e);
  return rc != 0 ? rc : key_file_set_aside(&s->folder, "state.db-wal", now_s, e);
}

int kept_check_empty(struct state *s, char *lost, struct err *e) {
  if (!any_bounded_key(s)) return 0;
  if (lost == NULL) return database_lost(s, e);
  return add_lost(s, lost, database, e);
}

/* Keys */

static int ever_used(struct state *s, bool *used, struct err *e) {
  struct query q = query_begin(s, STATE_EVER_USED);
  *used = query_row(&q);
  return query_end(&q, e);
}

static int has_been_used(struct state *s, enum kept which, bool *used, struct err *e) {
  char value[KEPT_TEXT_CAP];
  bool known;
  int rc = state_find(s, kept_files[which].name, value, sizeof value, &known, e);
  *used = known && value[0] != '\0';
  return rc == 0 && !known && which == KEPT_OPERATOR ? ever_used(s, used, e) : rc;
}

int kept_check_missing(struct state *s, enum kept which, const char *name, struct err *e) {
  bool used;
  int rc = has_been_used(s, which, &used, e);
  if (rc != 0 || !used) return rc;
  return err_set(e, ERR_NOT_NOW,
                 "%s/%s: missing, though it has been used: with another %s (restore it from a backup, or begin anew "
                 "with: adit relay --reset-state)",
                 s->folder.path, name, kept_files[which].loss);
}

int kept_note(struct state *s, enum kept which, const char *key, struct err *e) {
  char value[KEPT_TEXT_CAP];
  bool known;
  int rc = state_find(s, kept_files[which].name, value, sizeof value, &known, e);
  if (rc != 0 || (known && strcmp(value, key) == 0)) return rc;
  if (known && value[0] != '\0')
    return err_set(e, ERR_SYNTAX,
                   "%s/%s: damaged, or not the key that state.db knows (restore both from one backup; or move away the "
                   "one that is wrong, and begin anew with: adit relay --reset-state)",
                   s->folder.path, kept_files[which].name);
  return state_set(s, kept_files[which].name, key, e);
}

int kept_forget(struct state *s, enum kept which, struct err *e) { return state_set(s, kept_files[which].name, "", e); }

/* Beginning anew */

/* What is empty makes room, and of an authority, which is two files, the half that is left. */
static int key_anew(struct state *s, enum kept which, int64_t now_s, char lost[STATE_LOST_CAP], struct err *e) {
  bool there = is_there(s, kept_files[which].name), used;
  bool cert_there = which == KEPT_AUTHORITY && is_there(s, authority_cert);
  if (there && (which != KEPT_AUTHORITY || cert_there)) return 0;
  int rc = has_been_used(s, which, &used, e);
  if (rc != 0 || (!used && !cert_there)) return rc;
  rc = add_lost(s, lost, there ? authority_cert : kept_files[which].name, e);
  if (rc == 0) rc = key_file_set_aside(&s->folder, kept_files[which].name, now_s, e);
  if (rc == 0 && which == KEPT_AUTHORITY) rc = key_file_set_aside(&s->folder, authority_cert, now_s, e);
  return rc != 0 ? rc : kept_forget(s, which, e);
}

int kept_keys_anew(struct state *s, int64_t now_s, char lost[STATE_LOST_CAP], struct err *e) {
  int rc = 0;
  for (size_t i = 0; rc == 0 && i < KEPT_FILES; i++) rc = key_anew(s, (enum kept)i, now_s, lost, e);
  return rc;
}

bool state_was_used(const char *dir) {
  struct folder f = {.fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
  if (f.fd < 0) return errno != ENOENT;          /* what is wrong with it, state_open tells */
  const struct state s = {.folder = f};
  bool empty, used = exists(&s, database, &empty) || any_bounded_key(&s);
  close(f.fd);
  return used;
}

/* Changes while it runs */

static const char *const placed_files[] = {"state.db", "state.db-wal", "relay.lock"};
_Static_assert(ARRAY_LEN(placed_files) == STATE_PLACED_FILES, "each has its place in the struct");

static bool folder_in_place(const struct folder *f) {
  struct stat opened, named;
  return fstat(f->fd, &opened) == 0 && stat(f->path, &named) == 0 && opened.st_dev == named.st_dev &&
         opened.st_ino == named.st_ino;
}

/* From the first time that it is seen on. */
static bool file_in_place(struct state *s, size_t i) {
  struct stat st;
  if (fstatat(s->folder.fd, placed_files[i], &st, AT_SYMLINK_NOFOLLOW) != 0)
    return s->placed[i] == 0 && errno == ENOENT;
  if (s->placed[i] == 0) s->placed[i] = st.st_ino;
  return s->placed[i] == st.st_ino;
}

int state_check_place(struct state *s, struct err *e) {
  bool there = folder_in_place(&s->folder);
  const char *name = "";
  for (size_t i = 0; there && i < STATE_PLACED_FILES; i++) {
    there = file_in_place(s, i);
    name = placed_files[i];
  }
  if (there) return 0;
  return err_set(e, ERR_NOT_NOW,
                 "state folder %s%s%s: removed or replaced while it is in use (put it back, or end this relay and "
                 "start it with the folder that is right)",
                 s->folder.path, name[0] != '\0' ? "/" : "", name);
}
