/* What a relay keeps on disk: that it comes back, that two processes may use it at once, and what is refused. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <sqlite3.h>

#include "base/text.h"
#include "cm.h"
#include "relay/state.h"

enum { NOW = 1700000000, PATH_CAP = 256 };
static const uint8_t alice[TOKEN_ID_BYTES] = {1};
static const char label_a[] = "aaaaaaaaaaaaaaaaaaaaaaaa";

struct fixture { char dir[64], state_dir[96]; };

static int make_dir(void **out) {
  struct fixture *f = calloc(1, sizeof *f);
  if (f == NULL)
    return -1;
  snprintf(f->dir, sizeof f->dir, "%s/adit-test-XXXXXX", "/tmp");
  if (mkdtemp(f->dir) == NULL)
    return -1;
  snprintf(f->state_dir, sizeof f->state_dir, "%s/a/state", f->dir);
  *out = f;
  return 0;
}

static int remove_dir(void **in) {
  struct fixture *f = *in;
  char command[128];
  snprintf(command, sizeof command, "rm -rf '%s'", f->dir);
  int rc = system(command);
  free(f);
  return rc;
}

static struct state *opened(const struct fixture *f) {
  struct state *s = NULL;
  struct err e = {0};
  if (state_open(f->state_dir, &s, &e) != 0)
    fail_msg("%s", e.text);
  return s;
}

static void one_relay_serves_from_a_folder_until_it_leaves(void **in) {
  struct state *first = opened(*in), *second = opened(*in);
  struct err e = {0};
  assert_int_equal(state_claim(first, &e), 0);
  assert_int_equal(state_claim(second, &e), ERR_CONFLICT);
  assert_non_null(strstr(e.text, "another relay serves from it (end that one"));
  state_unclaim(first);
  assert_int_equal(state_claim(second, &e), 0);
  state_close(second);
  assert_int_equal(state_claim(first, &e), 0);
  state_close(first);
}

static void path_in(const struct fixture *f, const char *name, char out[PATH_CAP]) {
  snprintf(out, PATH_CAP, "%s/%s", f->state_dir, name);
}

static void write_text(const struct fixture *f, const char *name, const char *text) {
  char path[PATH_CAP];
  path_in(f, name, path);
  int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
  assert_true(fd >= 0);
  assert_int_equal(write(fd, text, strlen(text)), (int)strlen(text));
  close(fd);
}

static mode_t mode_of(const struct fixture *f, const char *name) {
  char path[PATH_CAP];
  struct stat st;
  path_in(f, name, path);
  assert_int_equal(lstat(path, &st), 0);
  return st.st_mode & 07777;
}

static void execute(const struct fixture *f, const char *sql) {
  char path[PATH_CAP];
  sqlite3 *db;
  path_in(f, "state.db", path);
  assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
  assert_int_equal(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
  assert_int_equal(sqlite3_close(db), SQLITE_OK);
}

static void assert_refused(const struct fixture *f, int code, const char *part) {
  struct state *s = NULL;
  struct err e = {0};
  assert_int_equal(state_open(f->state_dir, &s, &e), code);
  assert_null(s);
  if (strstr(e.text, part) == NULL || strstr(e.text, "(") == NULL)
    fail_msg("text without \"%s\" or what to do: %s", part, e.text);
}

static struct certificate certificate_named(const char *name, uint8_t id) {
  struct certificate c = {.max_tunnels = 7, .issued_s = NOW, .id = {id}};
  snprintf(c.name, sizeof c.name, "%s", name);
  return c;
}

/* What a callback collects. */
struct seen { struct state_token tokens[8]; struct port_lease leases[8]; uint8_t ids[8][TOKEN_ID_BYTES]; size_t n; };

static int see_token(void *user, const struct state_token *t) {
  struct seen *seen = user;
  assert_true(seen->n < ARRAY_LEN(seen->tokens));
  seen->tokens[seen->n++] = *t;
  return 0;
}

static int see_lease(void *user, const struct port_lease *l) {
  struct seen *seen = user;
  assert_true(seen->n < ARRAY_LEN(seen->leases));
  seen->leases[seen->n++] = *l;
  return 0;
}

static int see_id(void *user, const uint8_t id[TOKEN_ID_BYTES]) {
  struct seen *seen = user;
  assert_true(seen->n < ARRAY_LEN(seen->ids));
  memcpy(seen->ids[seen->n++], id, TOKEN_ID_BYTES);
  return 0;
}

static struct seen revoked_in(struct state *s) {
  struct seen seen = {.n = 0};
  struct err e;
  assert_int_equal(state_revoked(s, see_id, &seen, &e), 0);
  return seen;
}

/* The folder and its keys. */

static void opening_makes_the_folder_and_its_keys_for_the_owner_only(void **in) {
  struct fixture *f = *in;
  mode_t before = umask(0);
  struct state *s = opened(f);
  umask(before);
  assert_int_equal(mode_of(f, "."), 0700);
  assert_int_equal(mode_of(f, ".."), 0700);
  assert_int_equal(mode_of(f, "state.db"), 0600);
  assert_int_equal(mode_of(f, "operator.key"), 0600);
  assert_int_equal(mode_of(f, "operator.pub"), 0644);
  struct ticket_key keys[2];
  size_t n;
  struct err e;
  assert_int_equal(state_ticket_keys(s, NOW, keys, &n, &e), 0);
  assert_int_equal(mode_of(f, "ticket.key"), 0600);
  state_close(s);
}

static void the_operator_key_stays_and_its_public_half_is_readable(void **in) {
  struct fixture *f = *in;
  uint8_t seed[ED25519_KEY_BYTES], again[ED25519_KEY_BYTES], key[ED25519_KEY_BYTES], derived[ED25519_KEY_BYTES],
      read[ED25519_KEY_BYTES];
  struct err e;
  struct state *s = opened(f);
  assert_int_equal(state_operator_seed(s, seed, &e), 0);
  state_close(s);
  s = opened(f);
  assert_int_equal(state_operator_seed(s, again, &e), 0);
  assert_memory_equal(seed, again, sizeof seed);
  assert_int_equal(state_operator_public(s, key, &e), 0);
  assert_int_equal(ed25519_public(seed, derived), 0);
  assert_memory_equal(key, derived, sizeof key);
  state_close(s);

  char path[PATH_CAP], text[OPERATOR_TEXT_MAX + 1];
  path_in(f, "operator.pub", path);
  int fd = open(path, O_RDONLY);
  assert_true(fd >= 0);
  ssize_t n = pread(fd, text, sizeof text, 0);
  close(fd);
  assert_true(n > 0);
  assert_int_equal(operator_key_decode(text, (size_t)n, read), 0);
  assert_memory_equal(key, read, sizeof key);
}

static void a_public_half_that_differs_is_made_again(void **in) {
  struct fixture *f = *in;
  state_close(opened(f));
  write_text(f, "operator.pub", "something else\n");
  state_close(opened(f));
  char path[PATH_CAP], text[32] = "";
  path_in(f, "operator.pub", path);
  int fd = open(path, O_RDONLY);
  assert_int_equal(read(fd, text, 15), 15);
  close(fd);
  assert_memory_equal(text, "adit-operator-1", 15);
}

static void a_secret_that_others_may_read_is_refused(void **in) {
  struct fixture *f = *in;
  char path[PATH_CAP];
  state_close(opened(f));
  path_in(f, "operator.key", path);
  assert_int_equal(chmod(path, 0640), 0);
  assert_refused(f, ERR_AUTH, "operator.key");
}

static void a_malformed_operator_key_is_refused_and_left_alone(void **in) {
  struct fixture *f = *in;
  static const char *const bad[] = {"", "\n", "adit-operator-key-1 short\n",
                                    "adit-operator-key-2 AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\n",
                                    "adit-operator-key-1 AAAAAAAAAAAAAAAAAAAAA!AAAAAAAAAAAAAAAAAAAAA\n"};
  state_close(opened(f));
  for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
    write_text(f, "operator.key", bad[i]);
    assert_refused(f, ERR_SYNTAX, "operator.key");
  }
}

static void a_link_or_a_pipe_in_place_of_a_key_is_refused(void **in) {
  struct fixture *f = *in;
  char path[PATH_CAP];
  state_close(opened(f));
  path_in(f, "operator.key", path);
  assert_int_equal(unlink(path), 0);
  assert_int_equal(symlink("/dev/zero", path), 0);
  assert_refused(f, ERR_IO, "operator.key");
  assert_int_equal(unlink(path), 0);
  assert_int_equal(mkfifo(path, 0600), 0);
  assert_refused(f, ERR_SYNTAX, "operator.key");
}

static void an_endless_key_file_is_not_read_to_its_end(void **in) {
  struct fixture *f = *in;
  char path[PATH_CAP];
  state_close(opened(f));
  path_in(f, "operator.key", path);
  assert_int_equal(truncate(path, 1 << 30), 0);
  assert_refused(f, ERR_LIMIT, "operator.key");
}

static void a_folder_that_others_may_write_is_refused(void **in) {
  struct fixture *f = *in;
  state_close(opened(f));
  assert_int_equal(chmod(f->state_dir, 0770), 0);
  assert_refused(f, ERR_AUTH, "other users may write");
}

static void a_file_in_place_of_the_folder_is_refused(void **in) {
  struct fixture *f = *in;
  assert_int_equal(mkdir(f->dir, 0700) == 0 || errno == EEXIST, 1);
  snprintf(f->state_dir, sizeof f->state_dir, "%s/file", f->dir);
  int fd = open(f->state_dir, O_WRONLY | O_CREAT, 0600);
  assert_true(fd >= 0);
  close(fd);
  assert_refused(f, ERR_IO, "not a folder");
  snprintf(f->state_dir, sizeof f->state_dir, "%s/file/below", f->dir);
  assert_refused(f, ERR_IO, "cannot make");
}

static void an_empty_folder_name_is_refused(void **unused) {
  (void)unused;
  struct state *s;
  struct err e;
  assert_int_equal(state_open("", &s, &e), ERR_USAGE);
}

/* In a child without root's rights: 0, or the number of the check that failed. */
static int as_nobody(int (*check)(const struct fixture *f), const struct fixture *f) {
  pid_t child = fork();
  assert_true(child >= 0);
  if (child == 0) {
    if (geteuid() == 0 && (setgid(65534) != 0 || setuid(65534) != 0))
      _exit(100);
    _exit(check(f));
  }
  int status = 0;
  assert_int_equal(waitpid(child, &status, 0), child);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 101;
}

static int check_foreign(const struct fixture *f) {
  (void)f;
  struct state *s;
  struct err e = {0};
  if (state_open("/usr", &s, &e) != ERR_AUTH)
    return 1;
  return strstr(e.text, "belongs to another user") != NULL ? 0 : 2;
}

static int check_not_writable(const struct fixture *f) {
  struct state *s;
  struct err e = {0};
  if (state_open(f->state_dir, &s, &e) != ERR_IO)
    return 1;
  return strstr(e.text, "not writable") != NULL ? 0 : 2;
}

static void a_folder_of_another_user_is_refused(void **in) { assert_int_equal(as_nobody(check_foreign, *in), 0); }

static void a_folder_that_cannot_be_written_is_refused(void **in) {
  struct fixture *f = *in;
  assert_int_equal(chmod(f->dir, 0711), 0);
  snprintf(f->state_dir, sizeof f->state_dir, "%s/readonly", f->dir);
  assert_int_equal(mkdir(f->state_dir, 0500), 0);
  if (geteuid() == 0)
    assert_int_equal(chown(f->state_dir, 65534, 65534), 0);
  assert_int_equal(as_nobody(check_not_writable, f), 0);
}

static void what_root_makes_in_the_folder_of_a_user_is_that_users(void **in) {
  struct fixture *f = *in;
  if (geteuid() != 0)
    return;                        /* only root could get this wrong */
  snprintf(f->state_dir, sizeof f->state_dir, "%s/theirs", f->dir);
  assert_int_equal(mkdir(f->state_dir, 0700), 0);
  assert_int_equal(chown(f->state_dir, 65534, 65534), 0);
  struct state *s = opened(f);
  static const char *const names[] = {"state.db", "operator.key", "operator.pub", "lock", "state.db-wal"};
  for (size_t i = 0; i < ARRAY_LEN(names); i++) {
    char path[PATH_CAP];
    struct stat st;
    path_in(f, names[i], path);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_uid, 65534);
  }
  state_close(s);
}

static int check_no_room(const struct fixture *f) {
  signal(SIGXFSZ, SIG_IGN);
  const struct rlimit none = {.rlim_cur = 100, .rlim_max = 100};
  struct state *s;
  struct err e = {0};
  if (setrlimit(RLIMIT_FSIZE, &none) != 0)
    return 1;
  if (state_open(f->state_dir, &s, &e) != ERR_IO)
    return 2;
  return strchr(e.text, '(') != NULL ? 0 : 3;
}

static void a_write_that_fails_is_told_and_leaves_what_was_there(void **in) {
  struct fixture *f = *in;
  snprintf(f->state_dir, sizeof f->state_dir, "%s/full", f->dir);
  pid_t child = fork();
  assert_true(child >= 0);
  if (child == 0)
    _exit(check_no_room(f));
  int status = 0;
  assert_int_equal(waitpid(child, &status, 0), child);
  assert_true(WIFEXITED(status));
  assert_int_equal(WEXITSTATUS(status), 0);
  state_close(opened(f));          /* with room again, it is made as if nothing had happened */
}

/* Ticket keys. */

static void ticket_keys_rotate_and_the_previous_one_still_verifies(void **in) {
  struct fixture *f = *in;
  struct state *s = opened(f);
  struct ticket_key first[2], same[2], second[2], third[2];
  size_t n;
  struct err e;
  assert_int_equal(state_ticket_keys(s, NOW, first, &n, &e), 0);
  assert_int_equal(n, 1);
  assert_int_equal(state_ticket_keys(s, NOW + TICKET_LIFE_S, same, &n, &e), 0);
  assert_int_equal(n, 1);
  assert_memory_equal(same[0].key, first[0].key, TICKET_KEY_BYTES);
  state_close(s);
  s = opened(f);
  assert_int_equal(state_ticket_keys(s, NOW + TICKET_LIFE_S + 1, second, &n, &e), 0);
  assert_int_equal(n, 2);
  assert_memory_not_equal(second[0].key, first[0].key, TICKET_KEY_BYTES);
  assert_int_not_equal(second[0].id, first[0].id);
  assert_memory_equal(second[1].key, first[0].key, TICKET_KEY_BYTES);
  assert_int_equal(second[1].id, first[0].id);
  assert_int_equal(state_ticket_keys(s, NOW + 2 * TICKET_LIFE_S + 2, third, &n, &e), 0);
  assert_int_equal(n, 2);
  assert_memory_equal(third[1].key, second[0].key, TICKET_KEY_BYTES);
  state_close(s);
}

static void a_clock_set_back_does_not_rotate_ticket_keys(void **in) {
  struct fixture *f = *in;
  struct state *s = opened(f);
  struct ticket_key keys[2];
  size_t n;
  struct err e;
  assert_int_equal(state_ticket_keys(s, NOW, keys, &n, &e), 0);
  assert_int_equal(state_ticket_keys(s, 1000, keys, &n, &e), 0);
  assert_int_equal(n, 1);
  state_close(s);
}

static void malformed_ticket_keys_are_refused(void **in) {
  struct fixture *f = *in;
  static const char *const bad[] = {
    "", "adit-ticket-key-1\n", "adit-ticket-key-1 1 2\n", "adit-ticket-key-1 1 2 AAAA\n",
    "adit-ticket-key-1 1 2 AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
    "adit-ticket-key-1 4294967296 2 AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\n",
    "adit-ticket-key-1 1 -2 AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\n",
    "adit-ticket-key-1 1 2 AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\nmore\n"};
  struct state *s = opened(f);
  for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
    struct ticket_key keys[2];
    size_t n;
    struct err e = {0};
    write_text(f, "ticket.key", bad[i]);
    assert_int_equal(state_ticket_keys(s, NOW, keys, &n, &e), ERR_SYNTAX);
    assert_int_equal(n, 0);
    assert_non_null(strstr(e.text, "ticket.key"));
  }
  state_close(s);
}

/* Authority. */

static size_t files_beginning_with(const struct fixture *f, const char *prefix) {
  char command[PATH_CAP + 64], count[16] = "";
  snprintf(command, sizeof command, "ls '%s' | grep -c '^%s'", f->state_dir, prefix);
  FILE *p = popen(command, "r");
  assert_non_null(p);
  assert_non_null(fgets(count, sizeof count, p));
  pclose(p);
  return (size_t)atoi(count);
}

static void pin_at(struct state *s, const char *domain, int64_t now_s, uint8_t pin[SHA256_BYTES]) {
  struct authority *a = NULL;
  struct err e = {0};
  if (state_authority(s, domain, now_s, &a, &e) != 0)
    fail_msg("%s", e.text);
  assert_true(authority_is_timely(a, now_s));
  assert_int_equal(authority_pin(a, pin), 0);
  authority_unref(a);
}

static void pin_of(struct state *s, const char *domain, uint8_t pin[SHA256_BYTES]) { pin_at(s, domain, NOW, pin); }

static void the_authoritys_key_stays_whatever_the_clock_says(void **in) {
  struct fixture *f = *in;
  static const int64_t at_s[] = {NOW + 30 * 365 * 24 * (int64_t)3600, NOW, 1000000, NOW};
  uint8_t first[SHA256_BYTES], again[SHA256_BYTES];
  struct state *s = opened(f);
  pin_of(s, "r1.example.com", first);
  for (size_t i = 0; i < ARRAY_LEN(at_s); i++) {
    pin_at(s, "r1.example.com", at_s[i], again);
    assert_memory_equal(first, again, sizeof first);
  }
  assert_int_equal(files_beginning_with(f, "authority"), 2);
  state_close(s);
}

static void the_authority_stays_for_its_domain(void **in) {
  struct fixture *f = *in;
  uint8_t first[SHA256_BYTES], again[SHA256_BYTES];
  struct state *s = opened(f);
  pin_of(s, "r1.example.com", first);
  state_close(s);
  s = opened(f);
  pin_of(s, "r1.example.com", again);
  assert_memory_equal(first, again, sizeof first);
  assert_int_equal(mode_of(f, "authority.key"), 0600);
  assert_int_equal(files_beginning_with(f, "authority"), 2);
  state_close(s);
}

static void another_domain_gets_another_authority_and_the_old_one_is_kept_aside(void **in) {
  struct fixture *f = *in;
  uint8_t first[SHA256_BYTES], second[SHA256_BYTES], third[SHA256_BYTES];
  struct state *s = opened(f);
  pin_of(s, "r1.example.com", first);
  pin_of(s, "r2.example.com", second);
  pin_of(s, "r3.example.com", third);
  assert_memory_not_equal(first, second, sizeof first);
  assert_memory_not_equal(second, third, sizeof first);
  assert_int_equal(files_beginning_with(f, "authority.pem"), 3);
  assert_int_equal(files_beginning_with(f, "authority.key"), 3);
  state_close(s);
}

static void what_a_crash_leaves_of_making_an_authority_is_put_aside(void **in) {
  struct fixture *f = *in;
  uint8_t pin[SHA256_BYTES];
  struct state *s = opened(f);
  write_text(f, "authority.key", "half\n");
  write_text(f, "authority.pem.new", "half\n");
  pin_of(s, "r1.example.com", pin);
  assert_int_equal(files_beginning_with(f, "authority.key"), 2);
  assert_int_equal(files_beginning_with(f, "authority.pem"), 1);
  state_close(s);
}

static void an_authority_without_its_key_is_refused_not_replaced(void **in) {
  struct fixture *f = *in;
  uint8_t pin[SHA256_BYTES];
  char path[PATH_CAP];
  struct state *s = opened(f);
  pin_of(s, "r1.example.com", pin);
  path_in(f, "authority.key", path);
  assert_int_equal(unlink(path), 0);
  struct authority *a;
  struct err e = {0};
  assert_int_equal(state_authority(s, "r1.example.com", NOW, &a, &e), ERR_NOT_NOW);
  assert_null(a);
  assert_non_null(strstr(e.text, "authority.key: missing"));
  write_text(f, "authority.key", "rubbish\n");
  assert_true(state_authority(s, "r1.example.com", NOW, &a, &e) < 0);
  assert_null(a);
  state_close(s);
}

/* What is lost or damaged. */

static void make_all_keys(struct state *s) {
  struct ticket_key keys[2];
  struct err e = {0};
  uint8_t pin[SHA256_BYTES];
  size_t n;
  assert_int_equal(state_ticket_keys(s, NOW, keys, &n, &e), 0);
  pin_of(s, "r1.example.com", pin);
}

static void remove_file(const struct fixture *f, const char *name) {
  char path[PATH_CAP];
  path_in(f, name, path);
  assert_int_equal(unlink(path), 0);
}

static bool file_exists(const struct fixture *f, const char *name) {
  char path[PATH_CAP];
  path_in(f, name, path);
  return access(path, F_OK) == 0;
}

static void assert_made_anew(const struct fixture *f, const char *expected) {
  struct state *s = NULL;
  struct err e = {0};
  char lost[STATE_LOST_CAP];
  if (state_open_anew(f->state_dir, lost, &s, &e) != 0) fail_msg("%s", e.text);
  assert_string_equal(lost, expected);
  make_all_keys(s);
  state_close(s);
  s = opened(f);
  make_all_keys(s);
  state_close(s);
}

static void a_database_that_was_lost_is_not_made_anew_unless_told(void **in) {
  struct fixture *f = *in;
  static const char *const manners[] = {"missing", "empty", "no tables"};
  uint8_t before[ED25519_KEY_BYTES], after[ED25519_KEY_BYTES];
  struct err e = {0};
  struct state *s = opened(f);
  assert_int_equal(state_operator_public(s, before, &e), 0);
  state_close(s);
  for (size_t i = 0; i < ARRAY_LEN(manners); i++) {
    remove_file(f, "state.db");
    if (i == 1) write_text(f, "state.db", "");
    if (i == 2) execute(f, "VACUUM");
    assert_refused(f, ERR_NOT_NOW, "state.db: missing or empty");
    assert_int_equal(file_exists(f, "state.db"), i != 0);
    assert_true(state_was_used(f->state_dir));
    assert_made_anew(f, "state.db");
    s = opened(f);
    assert_int_equal(state_operator_public(s, after, &e), 0);
    assert_memory_equal(before, after, sizeof before);
    state_close(s);
  }
  assert_made_anew(f, "");
}

static void a_key_that_was_lost_is_not_made_anew_unless_told(void **in) {
  struct fixture *f = *in;
  struct err e = {0};
  struct ticket_key keys[2];
  struct authority *a;
  size_t n;
  struct state *s = opened(f);
  make_all_keys(s);

  remove_file(f, "ticket.key");
  assert_int_equal(state_ticket_keys(s, NOW, keys, &n, &e), ERR_NOT_NOW);
  assert_non_null(strstr(e.text, "ticket.key: missing, though it has been used"));
  state_close(s);
  assert_made_anew(f, "ticket.key");

  s = opened(f);
  remove_file(f, "authority.pem");
  assert_int_equal(state_authority(s, "r1.example.com", NOW, &a, &e), ERR_NOT_NOW);
  assert_non_null(strstr(e.text, "missing, though it has been used"));
  remove_file(f, "authority.key");
  assert_int_equal(state_authority(s, "r1.example.com", NOW, &a, &e), ERR_NOT_NOW);
  state_close(s);
  assert_made_anew(f, "authority.key");
  remove_file(f, "authority.pem");
  assert_made_anew(f, "authority.pem");
  remove_file(f, "authority.key");
  assert_made_anew(f, "authority.key");

  remove_file(f, "operator.key");
  assert_refused(f, ERR_NOT_NOW, "operator.key: missing");
  assert_false(file_exists(f, "operator.key"));
  assert_made_anew(f, "operator.key");
  write_text(f, "operator.key", "");
  assert_refused(f, ERR_SYNTAX, "operator.key: damaged");
  assert_made_anew(f, "operator.key");
}

static void nothing_is_made_anew_under_a_relay_that_serves(void **in) {
  struct fixture *f = *in;
  static const char *const names[] = {"state.db", "operator.key"};
  struct err e = {0};
  char lost[STATE_LOST_CAP];
  struct state *s = opened(f), *other = NULL;
  make_all_keys(s);
  assert_int_equal(state_claim(s, &e), 0);
  for (size_t i = 0; i < ARRAY_LEN(names); i++) {
    char path[PATH_CAP], aside[PATH_CAP];
    path_in(f, names[i], path);
    snprintf(aside, sizeof aside, "%s/aside", f->dir);
    assert_int_equal(rename(path, aside), 0);
    assert_int_equal(state_open_anew(f->state_dir, lost, &other, &e), ERR_CONFLICT);
    assert_null(other);
    assert_false(file_exists(f, names[i]));
    assert_int_equal(rename(aside, path), 0);
  }
  assert_int_equal(state_open_anew(f->state_dir, lost, &other, &e), 0);
  assert_string_equal(lost, "");
  state_close(other);
  state_close(s);
}

static void the_operators_key_of_another_folder_is_not_taken_but_its_authority_is(void **in) {
  struct fixture *f = *in;
  char command[2 * PATH_CAP + 16];
  uint8_t theirs[SHA256_BYTES], ours[SHA256_BYTES];
  struct state *s = opened(f);
  make_all_keys(s);
  state_close(s);
  struct fixture other = *f;
  snprintf(other.state_dir, sizeof other.state_dir, "%s/other", f->dir);
  s = opened(&other);
  pin_of(s, "r1.example.com", theirs);
  state_close(s);
  snprintf(command, sizeof command, "cp '%s'/authority.* '%s'", other.state_dir, f->state_dir);
  assert_int_equal(system(command), 0);
  s = opened(f);
  pin_of(s, "r1.example.com", ours);
  assert_memory_equal(ours, theirs, sizeof ours);
  state_close(s);
  snprintf(command, sizeof command, "cp '%s'/operator.key '%s'", other.state_dir, f->state_dir);
  assert_int_equal(system(command), 0);
  assert_refused(f, ERR_SYNTAX, "not the key that state.db knows");
}

/* Before a key was noted in the database and had a checksum. */
static void make_old(const struct fixture *f) {
  static const char *const names[] = {"operator.key", "ticket.key", "authority.key"};
  for (size_t i = 0; i < ARRAY_LEN(names); i++) {
    char command[2 * PATH_CAP + 64], path[PATH_CAP];
    path_in(f, names[i], path);
    snprintf(command, sizeof command, "sed -i '/^adit-checksum-1 /d' '%s' && chmod 600 '%s'", path, path);
    assert_int_equal(system(command), 0);
  }
  execute(f, "DELETE FROM setting");
}

static void a_folder_of_earlier_times_is_brought_up_to_date(void **in) {
  struct fixture *f = *in;
  char command[PATH_CAP + 64];
  struct err e = {0};
  struct state *s = opened(f);
  make_all_keys(s);
  struct certificate a = certificate_named("a", 1);
  assert_int_equal(state_token_add(s, &a, &e), 0);
  state_close(s);
  make_old(f);
  s = opened(f);
  make_all_keys(s);
  state_close(s);
  snprintf(command, sizeof command, "test $(grep -l '^adit-checksum-1 ' '%s'/*.key | wc -l) = 3", f->state_dir);
  assert_int_equal(system(command), 0);
  remove_file(f, "ticket.key");
  s = opened(f);
  struct ticket_key keys[2];
  size_t n;
  assert_int_equal(state_ticket_keys(s, NOW, keys, &n, &e), ERR_NOT_NOW);
  state_close(s);
}

static void in_a_folder_of_earlier_times_a_token_tells_that_there_was_an_operators_key(void **in) {
  struct fixture *f = *in;
  struct err e = {0};
  struct state *s = opened(f);
  make_all_keys(s);
  state_close(s);
  make_old(f);
  remove_file(f, "operator.key");
  state_close(opened(f));                      /* nothing was promised */
  s = opened(f);
  struct certificate a = certificate_named("a", 1);
  assert_int_equal(state_token_add(s, &a, &e), 0);
  state_close(s);
  make_old(f);
  remove_file(f, "operator.key");
  assert_refused(f, ERR_NOT_NOW, "operator.key: missing");
}

static void flip(const struct fixture *f, const char *name, off_t at, int bit) {
  char path[PATH_CAP], byte;
  path_in(f, name, path);
  int fd = open(path, O_RDWR);
  assert_true(fd >= 0);
  assert_int_equal(pread(fd, &byte, 1, at), 1);
  byte = (char)(byte ^ 1 << bit);
  assert_int_equal(pwrite(fd, &byte, 1, at), 1);
  close(fd);
}

/* Everything that the keys are good for, as one text; empty when any of them is refused. */
static void use_keys(struct state *s, char out[256]) {
  uint8_t seed[ED25519_KEY_BYTES], pin[SHA256_BYTES];
  struct ticket_key keys[2];
  struct authority *a = NULL;
  size_t n;
  char *pem = NULL;
  out[0] = '\0';
  if (state_operator_seed(s, seed, NULL) != 0 || state_ticket_keys(s, NOW, keys, &n, NULL) != 0 ||
      state_authority(s, "r1.example.com", NOW, &a, NULL) != 0)
    return;
  assert_int_equal(authority_pin(a, pin), 0);
  assert_int_equal(authority_key_pem(a, &pem, NULL), 0);
  hex_encode(seed, sizeof seed, out);
  hex_encode(keys[0].key, sizeof keys[0].key, out + strlen(out));
  hex_encode(pin, sizeof pin, out + strlen(out));
  assert_int_equal(sha256(pem, strlen(pem), pin), 0);
  hex_encode(pin, 16, out + strlen(out));
  authority_pem_free(pem);
  authority_unref(a);
}

static void a_flipped_bit_in_a_key_file_is_noticed(void **in) {
  struct fixture *f = *in;
  static const char *const names[] = {"operator.key", "ticket.key", "authority.key", "authority.pem"};
  char want[256], have[256], command[2 * PATH_CAP + 16];
  unsigned tried = 0, refused = 0;
  struct state *s = opened(f);
  make_all_keys(s);
  use_keys(s, want);
  assert_true(want[0] != '\0');
  snprintf(command, sizeof command, "cp -a '%s' '%s'/good", f->state_dir, f->dir);
  assert_int_equal(system(command), 0);
  for (size_t i = 0; i < ARRAY_LEN(names); i++) {
    char path[PATH_CAP];
    struct stat st;
    path_in(f, names[i], path);
    assert_int_equal(stat(path, &st), 0);
    for (off_t at = 0; at < st.st_size; at++, tried++) {
      flip(f, names[i], at, (int)(at % 8));
      use_keys(s, have);
      refused += have[0] == '\0';
      if (have[0] != '\0' && strcmp(have, want) != 0) fail_msg("%s, byte %d: another key was taken", names[i], (int)at);
      if (have[0] == '\0') flip(f, names[i], at, (int)(at % 8));
      else {                       /* it was where nothing stands, and may have been written anew */
        snprintf(command, sizeof command, "cp -a '%s/good/%s' '%s'", f->dir, names[i], f->state_dir);
        assert_int_equal(system(command), 0);
      }
    }
  }
  assert_true(refused > tried * 9 / 10);
  state_close(s);
}

static void a_damaged_database_is_refused_at_the_start(void **in) {
  struct fixture *f = *in;
  char path[PATH_CAP];
  struct err e = {0};
  struct state *s = opened(f);
  for (uint8_t i = 0; i < 200; i++) {
    char name[16];
    snprintf(name, sizeof name, "token%d", i);
    struct certificate c = certificate_named(name, i);
    assert_int_equal(state_token_add(s, &c, &e), 0);
  }
  state_close(s);
  path_in(f, "state.db", path);
  struct stat st;
  assert_int_equal(stat(path, &st), 0);
  assert_int_equal(truncate(path, st.st_size / 2), 0);
  assert_refused(f, ERR_NOT_NOW, "state.db: damaged");
}

static void a_folder_that_is_moved_away_or_replaced_is_noticed(void **in) {
  struct fixture *f = *in;
  char path[PATH_CAP], aside[PATH_CAP];
  struct err e = {0};
  struct state *s = opened(f);
  assert_int_equal(state_claim(s, &e), 0);
  assert_int_equal(state_check_place(s, &e), 0);
  snprintf(aside, sizeof aside, "%s/aside", f->dir);
  assert_int_equal(rename(f->state_dir, aside), 0);
  assert_int_equal(state_check_place(s, &e), ERR_NOT_NOW);
  assert_non_null(strstr(e.text, "removed or replaced"));
  assert_int_equal(mkdir(f->state_dir, 0700), 0);
  assert_int_equal(state_check_place(s, &e), ERR_NOT_NOW);
  assert_int_equal(rmdir(f->state_dir), 0);
  assert_int_equal(rename(aside, f->state_dir), 0);
  assert_int_equal(state_check_place(s, &e), 0);
  static const char *const names[] = {"state.db", "state.db-wal", "relay.lock"};
  for (size_t i = 0; i < ARRAY_LEN(names); i++) {
    path_in(f, names[i], path);
    assert_int_equal(rename(path, aside), 0);
    assert_int_equal(state_check_place(s, &e), ERR_NOT_NOW);
    assert_non_null(strstr(e.text, names[i]));
    write_text(f, names[i], "");
    assert_int_equal(state_check_place(s, &e), ERR_NOT_NOW);
    assert_int_equal(rename(aside, path), 0);
    assert_int_equal(state_check_place(s, &e), 0);
  }
  state_close(s);
}

/* The database. */

static void settings_are_remembered_and_replaced(void **in) {
  struct fixture *f = *in;
  char value[16];
  struct err e = {0};
  struct state *s = opened(f);
  assert_int_equal(state_get(s, "domain", value, sizeof value, &e), ERR_NOT_NOW);
  assert_int_equal(state_set(s, "domain", "one", &e), 0);
  assert_int_equal(state_set(s, "domain", "two", &e), 0);
  state_close(s);
  s = opened(f);
  assert_int_equal(state_get(s, "domain", value, sizeof value, &e), 0);
  assert_string_equal(value, "two");
  assert_true(state_get(s, "domain", value, 3, &e) < 0);
  state_close(s);
}

static void tokens_are_listed_as_they_were_added(void **in) {
  struct fixture *f = *in;
  struct err e;
  struct seen seen = {.n = 0};
  struct state *s = opened(f);
  struct certificate b = certificate_named("b", 2), a = certificate_named("a", 1);
  a.expires_s = NOW + 5;
  a.limits = (struct token_limits){
      .max_streams = UINT32_MAX, .max_visitors_per_s = UINT32_MAX, .max_bytes_per_s = INT64_MAX};
  assert_int_equal(state_token_add(s, &b, &e), 0);
  assert_int_equal(state_token_add(s, &a, &e), 0);
  assert_int_equal(state_token_list(s, see_token, &seen, &e), 0);
  assert_int_equal(seen.n, 2);
  assert_string_equal(seen.tokens[0].name, "a");
  assert_int_equal(seen.tokens[0].expires_s, NOW + 5);
  assert_int_equal(seen.tokens[0].issued_s, NOW);
  assert_int_equal(seen.tokens[0].max_tunnels, 7);
  assert_int_equal(seen.tokens[0].revoked_s, 0);
  assert_memory_equal(&seen.tokens[0].limits, &a.limits, sizeof a.limits);
  assert_memory_equal(&seen.tokens[1].limits, &b.limits, sizeof b.limits);
  assert_memory_equal(seen.tokens[1].id, b.id, TOKEN_ID_BYTES);
  state_close(s);
}

static void a_name_is_taken_only_while_its_token_lives(void **in) {
  struct fixture *f = *in;
  struct err e = {0};
  struct state *s = opened(f);
  struct certificate first = certificate_named("laptop", 1), second = certificate_named("laptop", 2),
                     third = certificate_named("laptop", 3);
  assert_int_equal(state_token_add(s, &first, &e), 0);
  assert_int_equal(state_token_add(s, &second, &e), ERR_CONFLICT);
  assert_non_null(strstr(e.text, "laptop"));
  assert_int_equal(state_token_revoke(s, "laptop", NOW + 1, &e), 0);
  second.expires_s = NOW + 10;
  assert_int_equal(state_token_add(s, &second, &e), 0);
  third.issued_s = NOW + 9;
  assert_int_equal(state_token_add(s, &third, &e), ERR_CONFLICT);
  third.issued_s = NOW + 10;
  assert_int_equal(state_token_add(s, &third, &e), 0);
  state_close(s);
}

static void an_id_is_never_added_twice(void **in) {
  struct fixture *f = *in;
  struct err e;
  struct seen seen = {.n = 0};
  struct state *s = opened(f);
  struct certificate a = certificate_named("a", 1), b = certificate_named("b", 1);
  assert_int_equal(state_token_add(s, &a, &e), 0);
  assert_true(state_token_add(s, &b, &e) < 0);
  assert_int_equal(state_token_list(s, see_token, &seen, &e), 0);
  assert_int_equal(seen.n, 1);
  b.id[0] = 2;                     /* and the failure has left no transaction open */
  assert_int_equal(state_token_add(s, &b, &e), 0);
  state_close(s);
}

static void revoking_works_by_name_and_by_id_and_again(void **in) {
  struct fixture *f = *in;
  struct err e;
  struct state *s = opened(f);
  struct certificate a = certificate_named("a", 1), b = certificate_named("b", 2);
  char id[2 * TOKEN_ID_BYTES + 1];
  assert_int_equal(state_token_add(s, &a, &e), 0);
  assert_int_equal(state_token_add(s, &b, &e), 0);
  assert_int_equal(state_token_revoke(s, "a", NOW + 1, &e), 0);
  assert_int_equal(state_token_revoke(s, "a", NOW + 2, &e), 0);
  assert_int_equal(revoked_in(s).n, 1);
  hex_encode(b.id, sizeof b.id, id);
  assert_int_equal(state_token_revoke(s, id, NOW + 3, &e), 0);
  struct seen seen = {.n = 0};
  assert_int_equal(state_token_list(s, see_token, &seen, &e), 0);
  assert_int_equal(seen.tokens[0].revoked_s, NOW + 1);
  assert_int_equal(seen.tokens[1].revoked_s, NOW + 3);
  state_close(s);
}

static void a_revocation_needs_no_log_of_changes_beside_the_database(void **in) {
  struct fixture *f = *in;
  struct err e;
  struct state *relay = opened(f), *s = opened(f);
  struct certificate a = certificate_named("a", 1);
  char command[2 * PATH_CAP];
  assert_int_equal(state_token_add(s, &a, &e), 0);
  assert_int_equal(state_token_revoke(s, "a", NOW, &e), 0);
  state_close(s);
  snprintf(command, sizeof command, "cp -a '%s' '%s.copy' && rm '%s.copy'/state.db-*", f->state_dir, f->state_dir,
           f->state_dir);
  assert_int_equal(system(command), 0);
  state_close(relay);
  (void)strcat(f->state_dir, ".copy");
  s = opened(f);
  assert_int_equal(revoked_in(s).n, 1);
  state_close(s);
}

static void a_token_of_another_operator_is_revoked_by_its_id(void **in) {
  struct fixture *f = *in;
  struct err e;
  struct state *s = opened(f);
  assert_int_equal(state_token_revoke(s, "000102030405060708090a0b0c0d0e0f", NOW, &e), 0);
  struct seen seen = revoked_in(s), listed = {.n = 0};
  assert_int_equal(seen.n, 1);
  assert_int_equal(seen.ids[0][15], 15);
  struct certificate own = certificate_named("own", 1);
  assert_int_equal(state_token_add(s, &own, &e), 0);
  assert_int_equal(state_token_list(s, see_token, &listed, &e), 0);
  assert_int_equal(listed.n, 2);
  assert_string_equal(listed.tokens[0].name, "own");
  assert_string_equal(listed.tokens[1].name, "");
  assert_int_equal(listed.tokens[1].id[15], 15);
  assert_int_equal(listed.tokens[1].revoked_s, NOW);
  state_close(s);
}

struct narrowed { size_t n; struct revocation at[8]; };

static int see_narrowed(void *user, const struct revocation *r) {
  struct narrowed *seen = user;
  assert_true(seen->n < ARRAY_LEN(seen->at));
  seen->at[seen->n++] = *r;
  return 0;
}

static struct narrowed narrowed_in(struct state *s) {
  struct narrowed seen = {.n = 0};
  struct err e;
  assert_int_equal(state_narrowed_each(s, see_narrowed, &seen, &e), 0);
  return seen;
}

static void revocations_of_narrowed_tokens_are_kept_until_they_expire(void **in) {
  struct fixture *f = *in;
  struct err e;
  struct state *s = opened(f);
  struct revocation brief = {.root = {1}, .revoker = {1}, .id = {2}, .expires_s = NOW}, lasting = brief;
  lasting.id[0] = 3;
  lasting.expires_s = NOW + 1;
  assert_int_equal(state_narrowed_put(s, &brief, &e), 0);
  assert_int_equal(state_narrowed_put(s, &lasting, &e), 0);
  lasting.expires_s = 0;
  assert_int_equal(state_narrowed_put(s, &lasting, &e), 0);
  state_close(s);
  s = opened(f);
  assert_int_equal(narrowed_in(s).n, 2);
  assert_int_equal(state_narrowed_expire(s, NOW - 1, &e), 0);
  assert_int_equal(narrowed_in(s).n, 2);
  assert_int_equal(state_narrowed_expire(s, INT64_MAX, &e), 0);
  struct narrowed left = narrowed_in(s);
  assert_int_equal(left.n, 1);
  assert_memory_equal(&left.at[0], &lasting, sizeof lasting);
  assert_int_equal(revoked_in(s).n, 0);
  state_close(s);
}

static void with_a_token_that_its_root_revokes_go_those_that_it_has_revoked(void **in) {
  struct fixture *f = *in;
  struct err e;
  struct state *s = opened(f);
  struct revocation by_narrowed = {.root = {1}, .revoker = {2}, .id = {3}};
  struct revocation by_stranger = {.root = {9}, .revoker = {9}, .id = {2}};
  struct revocation by_root = {.root = {1}, .revoker = {1}, .id = {2}};
  assert_int_equal(state_narrowed_put(s, &by_narrowed, &e), 0);
  assert_int_equal(state_narrowed_put(s, &by_stranger, &e), 0);
  assert_int_equal(narrowed_in(s).n, 2);
  assert_int_equal(state_narrowed_put(s, &by_root, &e), 0);
  assert_int_equal(narrowed_in(s).n, 2);
  state_close(s);
}

static void revoking_an_unknown_name_is_refused(void **in) {
  struct fixture *f = *in;
  struct err e = {0};
  struct state *s = opened(f);
  assert_int_equal(state_token_revoke(s, "nobody", NOW, &e), ERR_NOT_NOW);
  assert_non_null(strstr(e.text, "nobody"));
  assert_int_equal(state_token_revoke(s, "", NOW, &e), ERR_NOT_NOW);
  assert_int_equal(state_token_revoke(s, "a' OR '1'='1", NOW, &e), ERR_NOT_NOW);
  assert_int_equal(revoked_in(s).n, 0);
  state_close(s);
}

static void the_version_changes_with_tokens_from_here_and_from_elsewhere_and_not_with_leases(void **in) {
  struct fixture *f = *in;
  struct err e;
  uint64_t before, same, own, other;
  struct state *s = opened(f), *second = opened(f);
  assert_int_equal(state_version(s, &before), 0);
  assert_int_equal(state_version(s, &same), 0);
  assert_true(before == same);
  struct certificate a = certificate_named("a", 1);
  assert_int_equal(state_token_add(s, &a, &e), 0);
  assert_int_equal(state_version(s, &own), 0);
  assert_true(own != before);
  const struct port_lease lease = {.port = 20000, .label = "aaaaaaaaaaaaaaaaaaaaaaaa"};
  assert_int_equal(state_lease_put(s, &lease, &e), 0);
  assert_int_equal(state_lease_drop(s, lease.port, &e), 0);
  assert_int_equal(state_version(s, &same), 0);
  assert_true(same == own);
  assert_int_equal(state_token_revoke(second, "a", NOW, &e), 0);
  assert_int_equal(state_version(s, &other), 0);
  assert_true(other != own);
  assert_int_equal(revoked_in(s).n, 1);
  state_close(second);
  state_close(s);
}

static void leases_are_put_replaced_and_dropped(void **in) {
  struct fixture *f = *in;
  struct err e;
  struct seen seen = {.n = 0};
  struct port_lease one = {.port = 20001}, two = {.port = 20000, .free_at_s = NOW};
  memcpy(one.owner, alice, sizeof alice);
  memcpy(one.label, label_a, sizeof label_a);
  struct state *s = opened(f);
  assert_int_equal(state_lease_put(s, &two, &e), 0);
  assert_int_equal(state_lease_put(s, &one, &e), 0);
  state_close(s);
  s = opened(f);
  assert_int_equal(state_lease_each(s, see_lease, &seen, &e), 0);
  assert_int_equal(seen.n, 2);
  assert_int_equal(seen.leases[0].port, 20001);
  assert_memory_equal(seen.leases[0].owner, alice, sizeof alice);
  assert_string_equal(seen.leases[0].label, label_a);
  assert_int_equal(seen.leases[1].free_at_s, NOW);
  one.free_at_s = NOW + 1;
  assert_int_equal(state_lease_put(s, &one, &e), 0);
  assert_int_equal(state_lease_drop(s, 20000, &e), 0);
  assert_int_equal(state_lease_drop(s, 20000, &e), 0);
  seen.n = 0;
  assert_int_equal(state_lease_each(s, see_lease, &seen, &e), 0);
  assert_int_equal(seen.n, 1);
  assert_int_equal(seen.leases[0].free_at_s, NOW + 1);
  state_close(s);
}

static int stop_at_once(void *user, const struct port_lease *l) {
  (void)l;
  ++*(int *)user;
  return ERR_LIMIT;
}

static void a_callback_that_fails_ends_the_walk(void **in) {
  struct fixture *f = *in;
  struct err e;
  int calls = 0;
  struct state *s = opened(f);
  for (uint16_t port = 20000; port < 20003; port++)
    assert_int_equal(state_lease_put(s, &(struct port_lease){.port = port}, &e), 0);
  assert_int_equal(state_lease_each(s, stop_at_once, &calls, &e), ERR_LIMIT);
  assert_int_equal(calls, 1);
  assert_int_equal(state_lease_drop(s, 20000, &e), 0);
  state_close(s);
}

static void a_damaged_row_is_told_not_used(void **in) {
  struct fixture *f = *in;
  struct err e = {0};
  struct seen seen = {.n = 0};
  state_close(opened(f));
  execute(f, "INSERT INTO port_lease VALUES(70000, x'00', 'label', 0)");
  struct state *s = opened(f);
  assert_int_equal(state_lease_each(s, see_lease, &seen, &e), ERR_NOT_NOW);
  assert_int_equal(seen.n, 0);
  assert_non_null(strstr(e.text, "damaged"));
  state_close(s);
}

/* As the first versions of adit made it. */
static const char first_schema[] =
  "CREATE TABLE token(id BLOB PRIMARY KEY, name TEXT NOT NULL, max_tunnels INTEGER NOT NULL, issued_s INTEGER NOT NULL,"
  " expires_s INTEGER NOT NULL) STRICT, WITHOUT ROWID;"
  "CREATE INDEX token_name ON token(name);"
  "CREATE TABLE revocation(id BLOB PRIMARY KEY, revoked_s INTEGER NOT NULL) STRICT, WITHOUT ROWID;"
  "CREATE TABLE port_lease(port INTEGER PRIMARY KEY, owner BLOB NOT NULL, label TEXT NOT NULL, free_at_s INTEGER NOT "
  "NULL) STRICT;CREATE TABLE setting(key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;"
  "PRAGMA application_id = 1633970548; PRAGMA user_version = 1;"
  "INSERT INTO token VALUES(x'000102030405060708090a0b0c0d0e0f', 'old', 7, 1700000000, 0);"
  "INSERT INTO revocation VALUES(x'000102030405060708090a0b0c0d0e0f', 1700000001);"
  "INSERT INTO setting VALUES('domain', 'r1.example.com');";

static void a_database_of_the_first_version_is_brought_up_and_keeps_what_it_has(void **in) {
  struct fixture *f = *in;
  struct err e = {0};
  char path[PATH_CAP], value[32];
  state_close(opened(f));
  path_in(f, "state.db", path);
  assert_int_equal(unlink(path), 0);
  execute(f, first_schema);
  for (int again = 0; again < 2; again++) {
    struct state *s = opened(f);
    struct seen seen = {.n = 0};
    assert_int_equal(state_token_list(s, see_token, &seen, &e), 0);
    assert_int_equal(seen.n, 1 + (size_t)again);
    assert_string_equal(seen.tokens[0].name, "old");
    assert_int_equal(seen.tokens[0].max_tunnels, 7);
    assert_int_equal(seen.tokens[0].revoked_s, NOW + 1);
    assert_memory_equal(&seen.tokens[0].limits, &(struct token_limits){0}, sizeof(struct token_limits));
    assert_int_equal(state_get(s, "domain", value, sizeof value, &e), 0);
    assert_int_equal(narrowed_in(s).n, 0);
    struct certificate c = certificate_named(again == 0 ? "new" : "newer", (uint8_t)(20 + again));
    c.issued_s = NOW + 1;
    c.limits.max_streams = 9;
    assert_int_equal(state_token_add(s, &c, &e), 0);
    state_close(s);
  }
}

static void a_newer_database_is_refused_with_its_version(void **in) {
  struct fixture *f = *in;
  state_close(opened(f));
  execute(f, "PRAGMA user_version = 1000");
  assert_refused(f, ERR_UNSUPPORTED, "newer adit");
}

static void a_database_of_something_else_is_refused_and_gets_no_keys(void **in) {
  struct fixture *f = *in;
  state_close(opened(f));
  char path[PATH_CAP];
  path_in(f, "state.db", path);
  assert_int_equal(unlink(path), 0);
  path_in(f, "operator.key", path);
  assert_int_equal(unlink(path), 0);
  execute(f, "CREATE TABLE other(x)");
  assert_refused(f, ERR_NOT_NOW, "not a state database");
  assert_int_equal(access(path, F_OK), -1);
  write_text(f, "state.db",
             "This is a text and not a database, whatever its name may say about it. It goes on for a while.\n");
  assert_refused(f, ERR_NOT_NOW, "not a state database");
}

/* Two at once. */

static int open_and_tell(const struct fixture *f, int out) {
  struct state *s;
  struct err e;
  uint8_t found[ED25519_KEY_BYTES + TICKET_KEY_BYTES];
  struct ticket_key keys[2];
  size_t n;
  if (state_open(f->state_dir, &s, &e) != 0)
    return 1;
  if (state_operator_seed(s, found, &e) != 0 || state_ticket_keys(s, NOW, keys, &n, &e) != 0)
    return 2;
  memcpy(found + ED25519_KEY_BYTES, keys[0].key, TICKET_KEY_BYTES);
  struct certificate c = certificate_named("same name", (uint8_t)getpid());
  random_bytes(c.id, sizeof c.id) == 0 ? (void)0 : abort();
  int added = state_token_add(s, &c, &e);
  if (added != 0 && added != ERR_CONFLICT)
    return 3;
  state_close(s);
  if (write(out, found, sizeof found) != (ssize_t)sizeof found)
    return 4;
  return added == 0 ? 50 : 0;
}

static void processes_that_open_at_once_agree_on_keys_and_names(void **in) {
  struct fixture *f = *in;
  enum { PROCESSES = 6 };
  int fds[2], winners = 0;
  pid_t children[PROCESSES];
  assert_int_equal(pipe(fds), 0);
  for (int i = 0; i < PROCESSES; i++) {
    children[i] = fork();
    assert_true(children[i] >= 0);
    if (children[i] == 0)
      _exit(open_and_tell(f, fds[1]));
  }
  close(fds[1]);
  uint8_t first[ED25519_KEY_BYTES + TICKET_KEY_BYTES], next[sizeof first];
  for (int i = 0; i < PROCESSES; i++) {
    int status = 0;
    assert_int_equal(waitpid(children[i], &status, 0), children[i]);
    assert_true(WIFEXITED(status));
    assert_true(WEXITSTATUS(status) == 0 || WEXITSTATUS(status) == 50);
    winners += WEXITSTATUS(status) == 50;
    assert_int_equal(read(fds[0], i == 0 ? first : next, sizeof first), sizeof first);
    if (i > 0)
      assert_memory_equal(first, next, sizeof first);
  }
  close(fds[0]);
  assert_int_equal(winners, 1);
}

#define WITH_DIR(test) cmocka_unit_test_setup_teardown(test, make_dir, remove_dir)

int main(void) {
  const struct CMUnitTest tests[] = {
    WITH_DIR(opening_makes_the_folder_and_its_keys_for_the_owner_only),
    WITH_DIR(the_operator_key_stays_and_its_public_half_is_readable),
    WITH_DIR(a_public_half_that_differs_is_made_again),
    WITH_DIR(a_secret_that_others_may_read_is_refused),
    WITH_DIR(a_malformed_operator_key_is_refused_and_left_alone),
    WITH_DIR(a_link_or_a_pipe_in_place_of_a_key_is_refused),
    WITH_DIR(an_endless_key_file_is_not_read_to_its_end),
    WITH_DIR(a_folder_that_others_may_write_is_refused),
    WITH_DIR(a_file_in_place_of_the_folder_is_refused),
    cmocka_unit_test(an_empty_folder_name_is_refused),
    WITH_DIR(one_relay_serves_from_a_folder_until_it_leaves),
    WITH_DIR(a_folder_of_another_user_is_refused),
    WITH_DIR(a_folder_that_cannot_be_written_is_refused),
    WITH_DIR(what_root_makes_in_the_folder_of_a_user_is_that_users),
    WITH_DIR(a_write_that_fails_is_told_and_leaves_what_was_there),
    WITH_DIR(ticket_keys_rotate_and_the_previous_one_still_verifies),
    WITH_DIR(a_clock_set_back_does_not_rotate_ticket_keys),
    WITH_DIR(malformed_ticket_keys_are_refused),
    WITH_DIR(the_authoritys_key_stays_whatever_the_clock_says),
    WITH_DIR(the_authority_stays_for_its_domain),
    WITH_DIR(another_domain_gets_another_authority_and_the_old_one_is_kept_aside),
    WITH_DIR(what_a_crash_leaves_of_making_an_authority_is_put_aside),
    WITH_DIR(an_authority_without_its_key_is_refused_not_replaced),
    WITH_DIR(settings_are_remembered_and_replaced),
    WITH_DIR(tokens_are_listed_as_they_were_added),
    WITH_DIR(a_name_is_taken_only_while_its_token_lives),
    WITH_DIR(an_id_is_never_added_twice),
    WITH_DIR(revoking_works_by_name_and_by_id_and_again),
    WITH_DIR(a_revocation_needs_no_log_of_changes_beside_the_database),
    WITH_DIR(a_token_of_another_operator_is_revoked_by_its_id),
    WITH_DIR(revocations_of_narrowed_tokens_are_kept_until_they_expire),
    WITH_DIR(with_a_token_that_its_root_revokes_go_those_that_it_has_revoked),
    WITH_DIR(revoking_an_unknown_name_is_refused),
    WITH_DIR(the_version_changes_with_tokens_from_here_and_from_elsewhere_and_not_with_leases),
    WITH_DIR(a_database_that_was_lost_is_not_made_anew_unless_told),
    WITH_DIR(a_key_that_was_lost_is_not_made_anew_unless_told),
    WITH_DIR(nothing_is_made_anew_under_a_relay_that_serves),
    WITH_DIR(the_operators_key_of_another_folder_is_not_taken_but_its_authority_is),
    WITH_DIR(a_folder_of_earlier_times_is_brought_up_to_date),
    WITH_DIR(in_a_folder_of_earlier_times_a_token_tells_that_there_was_an_operators_key),
    WITH_DIR(a_flipped_bit_in_a_key_file_is_noticed),
    WITH_DIR(a_damaged_database_is_refused_at_the_start),
    WITH_DIR(a_folder_that_is_moved_away_or_replaced_is_noticed),
    WITH_DIR(leases_are_put_replaced_and_dropped),
    WITH_DIR(a_callback_that_fails_ends_the_walk),
    WITH_DIR(a_damaged_row_is_told_not_used),
    WITH_DIR(a_database_of_the_first_version_is_brought_up_and_keeps_what_it_has),
    WITH_DIR(a_newer_database_is_refused_with_its_version),
    WITH_DIR(a_database_of_something_else_is_refused_and_gets_no_keys),
    WITH_DIR(processes_that_open_at_once_agree_on_keys_and_names),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
