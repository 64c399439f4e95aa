/* The list is an allow list. What is not on it is answered as a kernel would that has no such call (ENOSYS): so a later
   C library, which tries new calls first, goes on to the older ones, and a path that was overlooked fails as it would
   on an older machine instead of ending every tunnel. What nobody calls by mistake, starting programs, looking into
   others, loading code into the kernel, ends the process: there it is somebody else who acts.

   Tests set ADIT_SYSCALLS=strict: then the first call that is not on the list ends the process with its number. */
#include "relay/syscalls.h"

#include <stdio.h>

#ifdef ADIT_SECCOMP
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <sched.h>
#include <seccomp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <linux/sockios.h>
#include <unistd.h>

#include "base/text.h"
#include "base/words.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED true
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED true
#endif
#endif
#ifndef SANITIZED
#define SANITIZED false
#endif

static const char *const allowed[] = {
  /* memory */
  "brk", "madvise", "mlock", "mremap", "munmap", "munlock",
  /* threads and time */
  "clock_getres", "clock_gettime", "clock_gettime64", "clock_nanosleep", "clock_nanosleep_time64", "exit", "exit_group",
  "futex", "futex_time64", "get_robust_list", "getpid", "getppid", "gettid", "gettimeofday", "membarrier", "nanosleep",
  "restart_syscall", "rseq", "sched_getaffinity", "sched_yield", "set_robust_list", "tgkill", "time",
  /* signals */
  "rt_sigaction", "rt_sigpending", "rt_sigprocmask", "rt_sigreturn", "rt_sigtimedwait", "sigaltstack", "signalfd4",
  "wait4",
  /* what there is of it */
  "getegid", "geteuid", "getgid", "getrandom", "getrlimit", "getrusage", "getuid", "setrlimit", "sysinfo", "umask",
  "uname",
  /* files */
  "access", "chmod", "chown", "close", "close_range", "faccessat", "faccessat2", "fallocate", "fchmod", "fchmodat",
  "fchown", "fchownat", "fcntl", "fcntl64", "fdatasync", "flock", "fstat", "fstat64", "fstatfs", "fsync", "ftruncate",
  "ftruncate64", "getcwd", "getdents64", "lseek", "_llseek", "lstat", "lstat64", "mkdir", "mkdirat", "newfstatat",
  "fstatat64", "open", "openat", "pread64", "pwrite64", "read", "readlink", "readlinkat", "readv", "rename",
  "renameat", "renameat2", "rmdir", "stat", "stat64", "statfs", "statx", "unlink", "unlinkat", "utimensat", "write",
  "writev",
  /* standard error */
  "dup", "dup2", "dup3", "poll", "ppoll", "ppoll_time64"};

/* Sockets, and what waits for them. */
static const char *const of_the_net[] = {
  "accept", "accept4", "bind", "connect", "epoll_create1", "epoll_ctl", "epoll_pwait", "epoll_wait", "eventfd2",
  "getpeername", "getsockname", "getsockopt", "listen", "pipe2", "pselect6", "recvfrom", "recvmmsg", "recvmsg",
  "select", "sendmmsg", "sendmsg", "sendto", "setsockopt", "shutdown", "splice", "tee", "timerfd_create",
  "timerfd_settime",
  /* what libevent tries instead when it is out of descriptors */
  "epoll_create", "eventfd", "pipe"};

static const char *const fatal[] = {
  "execve", "execveat", "fork", "vfork", "ptrace", "process_vm_readv", "process_vm_writev", "process_madvise",
  "pidfd_getfd", "kcmp", "bpf", "perf_event_open", "userfaultfd", "io_uring_setup", "keyctl", "add_key", "request_key",
  "init_module", "finit_module", "delete_module", "kexec_load", "kexec_file_load", "mount", "umount2", "pivot_root",
  "chroot", "unshare", "setns", "open_by_handle_at", "personality", "reboot", "swapon", "setuid", "setgid",
  "setresuid", "setresgid", "setreuid", "setregid", "setgroups", "capset"};

/* For LeakSanitizer, which stops and looks through all threads at the end. */
static const char *const of_sanitizers[] = {"clone", "ptrace", "prctl", "mmap", "mprotect", "sched_getscheduler",
                                            "kill", "setitimer", "process_vm_readv", "prlimit64", "getdents"};

static bool is_of_sanitizers(const char *name) {
  for (size_t i = 0; SANITIZED && i < ARRAY_LEN(of_sanitizers); i++)
    if (strcmp(name, of_sanitizers[i]) == 0) return true;
  return false;
}

/* Names that this architecture does not have are left out. */
static int add(scmp_filter_ctx c, uint32_t action, const char *name) {
  int number = seccomp_syscall_resolve_name(name);
  return number == __NR_SCMP_ERROR ? 0 : seccomp_rule_add(c, action, number, 0);
}

static int add_if(scmp_filter_ctx c, uint32_t action, const char *name, struct scmp_arg_cmp test) {
  int number = seccomp_syscall_resolve_name(name);
  return number == __NR_SCMP_ERROR || is_of_sanitizers(name) ? 0 : seccomp_rule_add(c, action, number, 1, test);
}

static struct scmp_arg_cmp equals(unsigned argument, unsigned long value) {
  return (struct scmp_arg_cmp){.arg = argument, .op = SCMP_CMP_EQ, .datum_a = value};
}

/* Of these bits the argument has just those. */
static struct scmp_arg_cmp has_of(unsigned argument, unsigned long bits, unsigned long those) {
  return (struct scmp_arg_cmp){.arg = argument, .op = SCMP_CMP_MASKED_EQ, .datum_a = bits, .datum_b = those};
}

/* clone: threads, and no processes. (glibc starts threads by clone3, whose flags a filter cannot see; refused that, it
   falls back on clone.) Memory: none that becomes executable, and none that is but where it
   cannot be written: the resolver's modules are loaded late. */
static int add_those_with_arguments(scmp_filter_ctx c) {
  enum { SET_VMA = 0x53564d41 };   /* PR_SET_VMA: glibc names its areas */
  int rc = add_if(c, SCMP_ACT_ALLOW, "clone", has_of(0, CLONE_THREAD, CLONE_THREAD));
  if (rc == 0) rc = add_if(c, SCMP_ACT_KILL_PROCESS, "clone", has_of(0, CLONE_THREAD, 0));
  if (rc == 0) rc = add_if(c, SCMP_ACT_ALLOW, "mprotect", has_of(2, PROT_EXEC, 0));
  if (rc == 0) rc = add_if(c, SCMP_ACT_ALLOW, "mmap", has_of(2, PROT_EXEC, 0));
  if (rc == 0) rc = add_if(c, SCMP_ACT_ALLOW, "mmap", has_of(2, PROT_EXEC | PROT_WRITE, PROT_EXEC));
  if (rc == 0) rc = add_if(c, SCMP_ACT_ALLOW, "prctl", equals(0, PR_SET_NAME));
  if (rc == 0) rc = add_if(c, SCMP_ACT_ALLOW, "prctl", equals(0, SET_VMA));
  if (rc == 0) rc = add_if(c, SCMP_ACT_ALLOW, "prlimit64", equals(0, 0));
  return rc;
}

static int add_sockets(scmp_filter_ctx c) {
  static const int families[] = {AF_UNIX, AF_INET, AF_INET6, AF_NETLINK};
  static const unsigned long requests[] = {SIOCINQ, SIOCOUTQ, FIONBIO, FIONREAD, SIOCGIFINDEX, SIOCGIFNAME, TCGETS};
  int rc = 0;
  for (size_t i = 0; rc == 0 && i < ARRAY_LEN(families); i++)
    rc = add_if(c, SCMP_ACT_ALLOW, "socket", equals(0, (unsigned long)families[i]));
  if (rc == 0) rc = add_if(c, SCMP_ACT_ALLOW, "socketpair", equals(0, AF_UNIX));
  for (size_t i = 0; rc == 0 && i < ARRAY_LEN(requests); i++)
    rc = add_if(c, SCMP_ACT_ALLOW, "ioctl", equals(1, requests[i]));
  return rc;
}

static int add_list(scmp_filter_ctx c, uint32_t action, const char *const *names, size_t n) {
  int rc = 0;
  for (size_t i = 0; rc == 0 && i < n; i++)
    if (action == SCMP_ACT_ALLOW || !is_of_sanitizers(names[i])) rc = add(c, action, names[i]);
  return rc;
}

static int fill(scmp_filter_ctx c, enum syscalls_kind kind) {
  int rc = seccomp_attr_set(c, SCMP_FLTATR_CTL_TSYNC, 1);
  if (rc == 0) rc = seccomp_attr_set(c, SCMP_FLTATR_CTL_OPTIMIZE, 2);    /* a tree: the list is long */
  if (rc == 0) rc = add_list(c, SCMP_ACT_ALLOW, allowed, ARRAY_LEN(allowed));
  if (rc == 0 && kind == SYSCALLS_OF_RELAY) rc = add_list(c, SCMP_ACT_ALLOW, of_the_net, ARRAY_LEN(of_the_net));
  if (rc == 0 && SANITIZED) rc = add_list(c, SCMP_ACT_ALLOW, of_sanitizers, ARRAY_LEN(of_sanitizers));
  if (rc == 0) rc = add_list(c, SCMP_ACT_KILL_PROCESS, fatal, ARRAY_LEN(fatal));
  if (rc == 0) rc = add_those_with_arguments(c);
  return rc == 0 && kind == SYSCALLS_OF_RELAY ? add_sockets(c) : rc;
}

/* Of a test. Nothing but write may be called here. */
static void on_refused(int number, siginfo_t *info, void *context) {
  char text[] = "adit: system call 0000 is not among those of a relay\n";
  (void)number;
  (void)context;
  for (int i = 21, n = info->si_syscall; i >= 18; i--, n /= 10) text[i] = (char)('0' + n % 10);
  (void)!write(STDERR_FILENO, text, sizeof text - 1);
  _exit(99);
}

static bool is_strict(void) {
  const char *how = getenv("ADIT_SYSCALLS");
  if (how == NULL || strcmp(how, "strict") != 0) return false;
  const struct sigaction act = {.sa_sigaction = on_refused, .sa_flags = SA_SIGINFO};
  return sigaction(SIGSYS, &act, NULL) == 0;
}

void syscalls_restrict(enum syscalls_kind kind, char *text, size_t cap) {
  char reason[64];
  bool strict = is_strict();
  scmp_filter_ctx c = seccomp_init(strict ? SCMP_ACT_TRAP : SCMP_ACT_ERRNO(ENOSYS));
  int rc = c == NULL ? -ENOMEM : fill(c, kind);
  if (rc == 0 && strict) rc = add(c, SCMP_ACT_ERRNO(ENOSYS), "clone3");
  if (rc == 0) rc = seccomp_load(c);
  if (c != NULL) seccomp_release(c);
  if (rc != 0) (void)snprintf(text, cap, "no: %s", strerror_r(-rc, reason, sizeof reason));
  else
    (void)snprintf(text, cap, "yes%s%s", strict ? ", strict" : "",
                   SANITIZED ? ": with what a sanitizer calls besides" : "");
}
#else
void syscalls_restrict(enum syscalls_kind kind, char *text, size_t cap) {
  (void)kind;
  (void)snprintf(text, cap, "no: this build is without libseccomp");
}
#endif
