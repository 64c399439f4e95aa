/* Landlock by its system calls: glibc has no wrappers for them, and the headers of the machine that builds may be older
   than the kernel of the one that runs. What this kernel knows is asked of it (the ABI's version), and no more is
   handled than that. A rule is of the file or folder that stands at a path now: what is replaced later, as files by
   their renewals, is reached through the rule of its folder. */
#include "relay/landlock.h"

#include <errno.h>
#include <fcntl.h>
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
  CHANGE = READ | WRITE_FILE | REMOVE_FILE | MAKE_REG | MAKE_SOCK | TRUNCATE
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

static int restrict_to(const struct rights_paths *p, int abi) {
  uint64_t known = handled(abi);
  long ruleset = syscall(CREATE_RULESET, &known, sizeof known, 0);
  if (ruleset < 0) return ERR_UNSUPPORTED;
  int fd = (int)ruleset;
  int rc = allow_all(fd, known, CHANGE, p->change, p->change_n);
  if (rc == 0) rc = allow_all(fd, known, REMOVE_FILE, p->unlink, p->unlink_n);
  if (rc == 0) rc = allow_all(fd, known, READ, p->read, p->read_n);
  if (rc == 0) rc = allow_all(fd, known, READ, of_the_system, ARRAY_LEN(of_the_system));
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
