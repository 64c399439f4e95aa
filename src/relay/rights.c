/* Giving up rights, in an order that matters: capabilities leave the bounding set while we may still say so; the user
   comes before the first file, so that none is found at the start which could not be read at a renewal; and what binds
   needs of capabilities is kept across that by PR_SET_KEEPCAPS. */
#include "relay/rights.h"

#include <errno.h>
#include <grp.h>
#include <linux/capability.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/log.h"
#include "relay/landlock.h"
#include "relay/syscalls.h"

#if defined(__SANITIZE_ADDRESS__)
#define IS_LOOKED_INTO true
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define IS_LOOKED_INTO true
#endif
#endif
#ifndef IS_LOOKED_INTO
#define IS_LOOKED_INTO false       /* by LeakSanitizer, from a child */
#endif

enum { CAPABILITIES_MAX = 64, PASSWD_CAP = 16384 };
static const char yes[] = "yes";

struct unix_user { uid_t uid; gid_t gid; char name[64]; };

/* ERR_NOT_NOW: there is none of that name. */
static int unix_user_find(const char *name, struct unix_user *out) {
  char text[PASSWD_CAP];
  struct passwd entry, *found = NULL;
  if (getpwnam_r(name, &entry, text, sizeof text, &found) != 0 || found == NULL) return ERR_NOT_NOW;
  *out = (struct unix_user){.uid = entry.pw_uid, .gid = entry.pw_gid};
  (void)snprintf(out->name, sizeof out->name, "%s", name);
  return 0;
}

static void identity_name(uid_t uid, char *out, size_t cap) {
  char text[PASSWD_CAP];
  struct passwd entry, *found = NULL;
  if (getpwuid_r(uid, &entry, text, sizeof text, &found) == 0 && found != NULL)
    (void)snprintf(out, cap, "%s", entry.pw_name);
  else (void)snprintf(out, cap, "%u", (unsigned)uid);
}

static void unix_user_of_folder(const struct stat *folder, struct unix_user *out) {
  *out = (struct unix_user){.uid = folder->st_uid, .gid = folder->st_gid};
  identity_name(out->uid, out->name, sizeof out->name);
}

/* Who a relay that was started by root is to be; root himself, where there is nobody else. */
static int choose(const char *user, const char *state_dir, struct unix_user *out, struct err *e) {
  struct stat folder;
  *out = (struct unix_user){.name = "root"};
  if (user != NULL && unix_user_find(user, out) != 0)
    return err_set(e, ERR_USAGE, "user %.60s: there is no such user (make it: useradd --system %.60s)", user, user);
  if (user != NULL) return 0;
  if (stat(state_dir, &folder) == 0 && folder.st_uid != 0) unix_user_of_folder(&folder, out);
  else (void)!unix_user_find(RIGHTS_USER_DEFAULT, out);
  return 0;
}

/* The folder that root makes, or has made as root's own at an earlier start. */
static int give_state(const struct unix_user *to, const char *dir, struct err *e) {
  struct stat folder;
  char owner[64];
  if (mkdir(dir, 0700) == 0 && chown(dir, to->uid, to->gid) != 0)
    return err_set_errno(e, "state folder %s: it cannot be given to user %s", dir, to->name);
  if (stat(dir, &folder) != 0 || folder.st_uid == to->uid) return 0;    /* what is wrong, who opens it says */
  identity_name(folder.st_uid, owner, sizeof owner);
  return err_set(e, ERR_AUTH,
                 "state folder %s: it belongs to %s, and the relay is to run as user %s (chown -R %s: %s, or go on "
                 "with --user %s)",
                 dir, owner, to->name, to->name, dir, owner);
}

/* Capabilities */

static int capabilities_set(uint64_t bits) {
  struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
  struct __user_cap_data_struct data[2] = {{.effective = (uint32_t)bits, .permitted = (uint32_t)bits},
                                           {.effective = (uint32_t)(bits >> 32), .permitted = (uint32_t)(bits >> 32)}};
  (void)prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
  return syscall(SYS_capset, &header, data) == 0 ? 0 : ERR_AUTH;
}

static uint64_t capabilities_permitted(void) {
  struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
  struct __user_cap_data_struct data[2] = {{0, 0, 0}, {0, 0, 0}};
  if (syscall(SYS_capget, &header, data) != 0) return 0;
  return data[0].permitted | (uint64_t)data[1].permitted << 32;
}

static const uint64_t binding = 1ULL << CAP_NET_BIND_SERVICE;

static void bounding_set_empty(void) {
  for (unsigned long i = 0; i < CAPABILITIES_MAX && prctl(PR_CAPBSET_READ, i, 0, 0, 0) >= 0; i++)
    (void)prctl(PR_CAPBSET_DROP, i, 0, 0, 0);
}

static unsigned bounding_set_count(void) {
  unsigned n = 0;
  for (unsigned long i = 0; i < CAPABILITIES_MAX; i++) n += prctl(PR_CAPBSET_READ, i, 0, 0, 0) == 1;
  return n;
}

/* User */

static int become(const struct unix_user *to, struct err *e) {
  if (prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) == 0 && initgroups(to->name, to->gid) == 0 &&
      setresgid(to->gid, to->gid, to->gid) == 0 && setresuid(to->uid, to->uid, to->uid) == 0) {
    (void)prctl(PR_SET_KEEPCAPS, 0, 0, 0, 0);
    return 0;
  }
  return err_set_errno_remedy(e, "start it as that user, or leave --user out", "relay: cannot become user %s",
                              to->name);
}

static int take_user_of_root(const char *user, const char *state_dir, struct rights *r, struct err *e) {
  struct unix_user to;
  int rc = choose(user, state_dir, &to, e);
  if (rc == 0 && to.uid != 0) rc = give_state(&to, state_dir, e);
  if (rc != 0) return rc;
  bounding_set_empty();
  if (to.uid != 0) rc = become(&to, e);
  (void)snprintf(r->user, sizeof r->user, "%s%s", to.name,
                 to.uid != 0 || user != NULL ? ""
                                             : ": there is no user " RIGHTS_USER_DEFAULT
                                               " (useradd --system " RIGHTS_USER_DEFAULT ", or name one with --user)");
  return rc;
}

int rights_take_user(const char *user, const char *state_dir, struct rights *r, struct err *e) {
  int rc = 0;
  if (geteuid() == 0) rc = take_user_of_root(user, state_dir, r, e);
  else identity_name(geteuid(), r->user, sizeof r->user);
  if (rc == 0 && geteuid() != 0 && user != NULL && strcmp(user, r->user) != 0)
    rc = err_set(e, ERR_USAGE, "user %.60s: only root can start a relay as somebody else (this is %s)", user, r->user);
  if (rc == 0) (void)!capabilities_set(capabilities_permitted() & binding);
  return rc;
}

/* The rest */

static void drop_capabilities(struct rights *r) {
  char reason[64];
  unsigned left = bounding_set_count();
  if (capabilities_set(0) != 0 && capabilities_permitted() != 0)
    (void)snprintf(r->capabilities, sizeof r->capabilities,
                   "%#jx stay: %s (a unit's SystemCallFilter= must have capset)",
                   (uintmax_t)capabilities_permitted(), strerror_r(errno, reason, sizeof reason));
  else if (left == 0 || geteuid() != 0)          /* a bound is for programs that are started, and none is */
    (void)snprintf(r->capabilities, sizeof r->capabilities, "none");
  else
    (void)snprintf(r->capabilities, sizeof r->capabilities, "none, %u within bounds (no CAP_SETPCAP at the start)",
                   left);
}

static void refuse_new_privileges(struct rights *r) {
  char reason[64];
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0)
    (void)snprintf(r->no_new_privileges, sizeof r->no_new_privileges, "%s", yes);
  else
    (void)snprintf(r->no_new_privileges, sizeof r->no_new_privileges, "no: %s",
                   strerror_r(errno, reason, sizeof reason));
}

static void refuse_looks(struct rights *r) {
  if (IS_LOOKED_INTO) (void)snprintf(r->dumpable, sizeof r->dumpable, "yes: a sanitizer looks into it");
  else
    (void)snprintf(r->dumpable, sizeof r->dumpable, "%s",
                   prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) == 0 ? "no" : "yes: the kernel refused");
}

void rights_drop(const struct rights_paths *paths, struct rights *r) {
  static const char embedded[] = "no: it is one of its user's programs";
  refuse_new_privileges(r);
  if (paths != NULL) {
    drop_capabilities(r);
    refuse_looks(r);
    landlock_restrict(paths, r->landlock, sizeof r->landlock);
  } else {
    identity_name(geteuid(), r->user, sizeof r->user);
    (void)snprintf(r->capabilities, sizeof r->capabilities, "%s", embedded);
    (void)snprintf(r->dumpable, sizeof r->dumpable, "%s", embedded);
    (void)snprintf(r->landlock, sizeof r->landlock, "%s", embedded);
    (void)snprintf(r->key_process, sizeof r->key_process, "%s", embedded);
  }
  syscalls_restrict(SYSCALLS_OF_RELAY, r->seccomp, sizeof r->seccomp);
}

/* What is wanting is said; the rest is what the word key process stands for. */
void rights_drop_keys(const struct rights_paths *paths, char *text, size_t cap) {
  struct rights r;
  memset(&r, 0, sizeof r);
  drop_capabilities(&r);
  refuse_new_privileges(&r);
  refuse_looks(&r);
  landlock_restrict(paths, r.landlock, sizeof r.landlock);
  syscalls_restrict(SYSCALLS_OF_KEYS, r.seccomp, sizeof r.seccomp);
  bool bounded = strncmp(r.seccomp, yes, 3) == 0, enclosed = strncmp(r.landlock, yes, 3) == 0;
  (void)snprintf(text, cap, "yes%s%s%s%s", bounded ? "" : "; seccomp ", bounded ? "" : r.seccomp,
                 enclosed ? "" : "; landlock ", enclosed ? "" : r.landlock);
}

void rights_log(const struct rights *r) {
  log_event(LOG_INFO, "rights", "user", r->user, "no_new_privileges", r->no_new_privileges, "capabilities",
            r->capabilities, "dumpable", r->dumpable, "seccomp", r->seccomp, "landlock", r->landlock, "key_process",
            r->key_process, NULL);
}
