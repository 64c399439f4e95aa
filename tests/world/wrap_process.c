/* Processes, signals, users, limits, the environment and names of hosts. There is one user, nothing is inherited, and
   no process starts another but by the world's own hand. */
#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <pthread.h>
#include <pwd.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/base.h"
#include "disk.h"
#include "kernel.h"
#include "wrap.h"

enum { DESCRIPTORS_MAX = 4096, CORES = 2 };

static int refuse(int why) {
  errno = why;
  return -1;
}

/* Who we are */

WRAP(pid_t, getpid, (void)) { return task_current() == NULL ? __real_getpid() : process_current()->id; }
WRAP(uid_t, geteuid, (void)) { return task_current() == NULL ? __real_geteuid() : DISK_USER; }

WRAP(int, getpwuid_r, (uid_t user, struct passwd *restrict entry, char *restrict text, size_t cap,
                       struct passwd **restrict found)) {
  if (task_current() == NULL) return __real_getpwuid_r(user, entry, text, cap, found);
  *found = NULL;
  return 0;
}

static char *environment(const char *name) {
  static char home[] = "/home";
  struct process *p = process_current();
  if (p->variable != NULL && strcmp(name, p->variable) == 0) return p->value;
  return strcmp(name, "HOME") == 0 ? home : NULL;
}

WRAP(char *, getenv, (const char *name)) { return task_current() == NULL ? __real_getenv(name) : environment(name); }
WRAP(char *, secure_getenv, (const char *name)) {
  return task_current() == NULL ? __real_secure_getenv(name) : environment(name);
}
WRAP(int, unsetenv, (const char *name)) {
  if (task_current() == NULL) return __real_unsetenv(name);
  struct process *p = process_current();
  if (p->variable != NULL && strcmp(name, p->variable) == 0) p->variable = NULL;
  return 0;
}

WRAP(char *, getcwd, (char *out, size_t cap)) {
  if (task_current() == NULL) return __real_getcwd(out, cap);
  ASSERT(out == NULL);
  return strdup("/");
}

WRAP(long, sysconf, (int what)) {
  return task_current() != NULL && what == _SC_NPROCESSORS_ONLN ? CORES : __real_sysconf(what);
}

WRAP(int, getrlimit64, (__rlimit_resource_t what, struct rlimit *out)) {
  if (task_current() == NULL) return __real_getrlimit64(what, out);
  *out = (struct rlimit){.rlim_cur = DESCRIPTORS_MAX, .rlim_max = DESCRIPTORS_MAX};
  return 0;
}

WRAP(int, setrlimit64, (__rlimit_resource_t what, const struct rlimit *limit)) {
  return task_current() == NULL ? __real_setrlimit64(what, limit) : 0;
}

/* Whoever asks for a right, a name or a table of its own does without. */
WRAP(int, prctl, (int what, ...)) {
  va_list args;
  va_start(args, what);
  unsigned long first = va_arg(args, unsigned long);
  va_end(args);
  return task_current() == NULL ? __real_prctl(what, first, 0, 0, 0) : 0;
}

WRAP(long, syscall, (long number, ...)) {
  long a[6];
  va_list args;
  va_start(args, number);
  for (size_t i = 0; i < ARRAY_LEN(a); i++) a[i] = va_arg(args, long);
  va_end(args);
  return task_current() == NULL ? __real_syscall(number, a[0], a[1], a[2], a[3], a[4], a[5]) : refuse(ENOSYS);
}

/* Other processes */

static _Noreturn void not_simulated(const char *what) { world_fail("%s is not simulated", what); }

WRAP(pid_t, fork, (void)) {
  if (task_current() != NULL) not_simulated("fork");
  return __real_fork();
}

WRAP(int, posix_spawn, (pid_t *restrict id, const char *restrict program,
                        const posix_spawn_file_actions_t *restrict files, const posix_spawnattr_t *restrict attr,
                        char *const argv[restrict], char *const env[restrict])) {
  if (task_current() != NULL) not_simulated("posix_spawn");
  return __real_posix_spawn(id, program, files, attr, argv, env);
}

WRAP(int, chdir, (const char *path)) {
  if (task_current() != NULL) not_simulated("chdir");
  return __real_chdir(path);
}

WRAP(pid_t, setsid, (void)) {
  if (task_current() != NULL) not_simulated("setsid");
  return __real_setsid();
}

WRAP(void, _exit, (int status)) {
  if (task_current() != NULL) process_exit(status);
  __real__exit(status);
  __builtin_unreachable();
}

WRAP(pid_t, waitpid, (pid_t id, int *status, int options)) {
  return task_current() == NULL ? __real_waitpid(id, status, options) : refuse(ECHILD);
}

WRAP(int, kill, (pid_t id, int number)) {
  if (task_current() == NULL) return __real_kill(id, number);
  struct process *p = process_find(id);
  if (p == NULL || p->host != process_current()->host) return refuse(ESRCH);
  process_signal(p, number);
  return 0;
}

WRAP(int, raise, (int number)) {
  if (task_current() == NULL) return __real_raise(number);
  process_signal(process_current(), number);
  return 0;
}

/* Signals. Whoever takes one takes it by a descriptor. */

static uint64_t bits_of(const sigset_t *set) {
  uint64_t bits = 0;
  for (int number = 1; number <= 64; number++)
    if (sigismember(set, number) == 1) bits |= UINT64_C(1) << (number - 1);
  return bits;
}

static void set_of(uint64_t bits, sigset_t *out) {
  (void)sigemptyset(out);
  for (int number = 1; number <= 64; number++)
    if ((bits >> (number - 1) & 1) != 0) (void)sigaddset(out, number);
}

WRAP(int, pthread_sigmask, (int how, const sigset_t *restrict set, sigset_t *restrict before)) {
  if (task_current() == NULL) return __real_pthread_sigmask(how, set, before);
  uint64_t *blocked = task_blocked(task_current());
  if (before != NULL) set_of(*blocked, before);
  if (set == NULL) return 0;
  uint64_t bits = bits_of(set);
  *blocked = how == SIG_SETMASK ? bits : how == SIG_BLOCK ? *blocked | bits : *blocked & ~bits;
  return 0;
}

WRAP(int, sigprocmask, (int how, const sigset_t *restrict set, sigset_t *restrict before)) {
  return task_current() == NULL ? __real_sigprocmask(how, set, before) : __wrap_pthread_sigmask(how, set, before);
}

WRAP(int, sigaction, (int number, const struct sigaction *restrict set, struct sigaction *restrict before)) {
  if (task_current() == NULL) return __real_sigaction(number, set, before);
  struct process *p = process_current();
  uint64_t bit = UINT64_C(1) << (number - 1);
  if (before != NULL) *before = (struct sigaction){.sa_handler = (p->ignored & bit) != 0 ? SIG_IGN : SIG_DFL};
  if (set != NULL) p->ignored = set->sa_handler == SIG_IGN ? p->ignored | bit : p->ignored & ~bit;
  return 0;
}

WRAP(sighandler_t, signal, (int number, sighandler_t handler)) {
  if (task_current() == NULL) return __real_signal(number, handler);
  struct sigaction before;
  (void)__wrap_sigaction(number, &(struct sigaction){.sa_handler = handler}, &before);
  return before.sa_handler;
}

WRAP(unsigned, if_nametoindex, (const char *name)) {
  return task_current() == NULL ? __real_if_nametoindex(name) : 0;
}

/* Names of hosts: every host has one, and one address. */

struct answer {
  struct addrinfo info;
  struct sockaddr_in address;
};

static bool find_address(const char *name, const struct addrinfo *hints, uint32_t *ip) {
  struct in_addr in;
  if (inet_pton(AF_INET, name, &in) == 1) {
    *ip = ntohl(in.s_addr);
    return true;
  }
  const struct host *h = hints != NULL && (hints->ai_flags & AI_NUMERICHOST) != 0 ? NULL : host_find(name);
  if (h != NULL) *ip = h->ip;
  return h != NULL;
}

WRAP(int, getaddrinfo, (const char *restrict name, const char *restrict port, const struct addrinfo *restrict hints,
                        struct addrinfo **restrict out)) {
  uint32_t ip;
  if (task_current() == NULL) return __real_getaddrinfo(name, port, hints, out);
  while (task_sleep(world_now_ns() + world_below(WORLD_NS_PER_MS))) continue;
  if (name == NULL || !find_address(name, hints, &ip)) return EAI_NONAME;
  struct answer *a = world_alloc(sizeof *a);
  a->address = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(ip),
                                    .sin_port = htons(port == NULL ? 0 : (uint16_t)strtoul(port, NULL, 10))};
  a->info = (struct addrinfo){.ai_family = AF_INET, .ai_socktype = SOCK_STREAM, .ai_protocol = IPPROTO_TCP,
                              .ai_addrlen = sizeof a->address, .ai_addr = (struct sockaddr *)(void *)&a->address};
  *out = &a->info;
  return 0;
}

WRAP(void, freeaddrinfo, (struct addrinfo * list)) {
  if (task_current() == NULL) __real_freeaddrinfo(list);
  else world_free(CONTAINER_OF(list, struct answer, info));
}
