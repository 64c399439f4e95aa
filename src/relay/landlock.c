/* Landlock by its system calls: glibc has no wrappers for them, and the headers of the machine that builds may be older
   than the kernel of the one that runs. What this kernel knows is asked of it (the ABI's version), and no more is
   handled than that. A rule is of the file or folder that stands at a path now: what is replaced later, as files by
   their renewals, is reached through the rule of its folder. */
#include "relay/landlock.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/text.h"

enum { CREATE_RULESET = 444, ADD_RULE = 445, RESTRICT_SELF = 446 };    /* the same on all architectures */
enum { RULESET_VERSION = 1, RULE_PATH_BENEATH = 1 };

/* include/uapi/linux/landlock.h */
enum {
  EXECUTE = 1 << 0, WRITE_FILE = 1 << 1, READ_FILE = 1 << 2, READ_DIR = 1 << 3, REMOVE_DIR = 1 << 4,
  REMOVE_FILE = 1 << 5, MAKE_REG = 1 << 8, MAKE_SOCK = 1 << 9, FIRST = (1 << 13) - 1, REFER = 1 << 13,
  TRUNCATE = 1 << 14, IOCTL_DEV = 1 << 15,
  OF_FILES = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEV,
  READ = READ_FILE | READ_DIR,
  USE = READ_FILE | WRITE_FILE | TRUNCATE,
  NAMES = READ_DIR | REMOVE_FILE | MAKE_REG | MAKE_SOCK,
  CHANGE = READ | USE | NAMES
};

struct path_beneath { uint64_t allowed; int32_t fd; } __attribute__((packed));

/* What libraries open late: names and addresses (/etc, /run for what resolv.conf leads to), time zones, authorities,
   modules of the resolver; and what the kernel tells of this process and machine. */
static const char *const of_the_system[] = {"/etc", "/usr", "/lib", "/lib64", "/run", "/proc", "/sys/devices/system",
                                            "/dev/null", "/dev/urandom", "/var/lib/ca-certificates"};

static uint64_t handled(int abi) {
  uint64_t rights = FIRST;
  if (abi >= 2) rights |= REFER;
  if (abi >= 3) rights |= TRUNCATE;
  if (abi >= 5) rights |= IOCTL_DEV;
  return rights;
}

/* What is not there needs no rule. */
static int allow(int ruleset, uint64_t known, uint64_t rights, const char *path) {
  struct stat st;
  struct path_beneath rule = {.fd = open(path, O_PATH | O_CLOEXEC)};
  if (rule.fd < 0) return 0;
  rule.allowed = rights & known;
  if (fstat(rule.fd, &st) == 0 && !S_ISDIR(st.st_mode)) rule.allowed &= OF_FILES;
  long rc = syscall(ADD_RULE, ruleset, RULE_PATH_BENEATH, &rule, 0);
  (void)close(rule.fd);
  return rc == 0 ? 0 : ERR_UNSUPPORTED;
}

static int allow_all(int ruleset, uint64_t known, uint64_t rights, const char *const *paths, size_t n) {
  int rc = 0;
  for (size_t i = 0; rc == 0 && i < n; i++) rc = allow(ruleset, known, rights, paths[i]);
  return rc;
}

static bool is_below(const char *path, const char *folder) {
  size_t n = strlen(folder);
  return strncmp(path, folder, n) == 0 && path[n] == '/';
}

static bool has_hidden(const struct rights_paths *p, const char *path) {
  for (size_t i = 0; i < p->hide_n; i++)
    if (is_below(p->hide[i], path) || strcmp(p->hide[i], path) == 0) return true;
  return false;
}

/* What is to be hidden makes its folder one whose entries are allowed each by itself, but for the one that leads
   there. */
static int allow_to_read(int ruleset, uint64_t known, const struct rights_paths *p, const char *path) {
  char entry[PATH_MAX];
  int rc = 0;
  if (!has_hidden(p, path)) return allow(ruleset, known, READ, path);
  DIR *d = opendir(path);
  for (const struct dirent *at; d != NULL && rc == 0 && (at = readdir(d)) != NULL;) {
    if (strcmp(at->d_name, ".") == 0 || strcmp(at->d_name, "..") == 0) continue;
    int n = snprintf(entry, sizeof entry, "%s/%s", path, at->d_name);
    if (n > 0 && (size_t)n < sizeof entry && !has_hidden(p, entry)) rc = allow(ruleset, known, READ, entry);
  }
  if (d != NULL) (void)closedir(d);
  return rc;
}

static int restrict_to(const struct rights_paths *p, int abi) {
  uint64_t known = handled(abi);
  long ruleset = syscall(CREATE_RULESET, &known, sizeof known, 0);
  if (ruleset < 0) return ERR_UNSUPPORTED;
  int fd = (int)ruleset;
  int rc = allow_all(fd, known, CHANGE, p->change, p->change_n);
  if (rc == 0) rc = allow_all(fd, known, USE, p->use, p->use_n);
  if (rc == 0) rc = allow_all(fd, known, NAMES, p->unlink, p->unlink_n);
  if (rc == 0) rc = allow_all(fd, known, READ, p->read, p->read_n);
  for (size_t i = 0; rc == 0 && i < ARRAY_LEN(of_the_system); i++)
    rc = allow_to_read(fd, known, p, of_the_system[i]);
  if (rc == 0) rc = allow(fd, known, READ_FILE | WRITE_FILE, "/dev/null");
  if (rc == 0 && syscall(RESTRICT_SELF, fd, 0) != 0) rc = ERR_UNSUPPORTED;
  int error = errno;
  (void)close(fd);
  errno = error;
  return rc;
}

void landlock_restrict(const struct rights_paths *paths, char *text, size_t cap) {
  char reason[64];
  long abi = syscall(CREATE_RULESET, NULL, 0, RULESET_VERSION);
  if (abi < 0 && (errno == ENOSYS || errno == EOPNOTSUPP))
    (void)snprintf(text, cap, "no: %s (Linux 5.13 and later have it, with landlock among lsm=)",
                   errno == ENOSYS ? "not in this kernel" : "switched off in this kernel");
  else if (abi < 0 || restrict_to(paths, (int)abi) != 0)
    (void)snprintf(text, cap, "no: %s", strerror_r(errno, reason, sizeof reason));
  else
    (void)snprintf(text, cap, "yes, version %ld%s", abi,
                   abi < 3 ? ": files elsewhere can still be cut (Linux 6.2)" : "");
}
