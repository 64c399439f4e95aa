/* The hard thing is whom to believe. A relay that was taken over may tell its starter anything, and the starter may
   have more rights than the relay: so what is started is what the starter itself was given at its birth, or what a
   user asks for of whom the kernel says that he has the starter's rights. */
#include "relay/starter.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/limits.h"
#include "base/own_program.h"
#include "base/signals.h"
#include "relay/carrier.h"
#include "relay/upgrade_door.h"

enum starter_order { STARTER_START = 1, STARTER_KILL, STARTER_LET_GO };
enum { START_FDS_MAX = 2 };
/* CMSG_SPACE rounds up, so for an odd number the kernel would bring one more than there is room for. */
_Static_assert(START_FDS_MAX % 2 == 0, "a control message has room for an even number of descriptors");

struct starter_answer {
  int code;                        /* 0 or ERR_... */
  int status;                      /* of waitpid, for STARTER_KILL */
  char text[160];
};

/* The starter's side */

struct birth {                     /* what it was given */
  int relay;
  char arguments[STARTER_ARGUMENTS_MAX_BYTES + 1];
  char *argv[STARTER_ARGUMENTS_MAX + 1];
  char program[STARTER_PATH_MAX_BYTES + 1];
  sigset_t mask;
  pid_t child;                     /* 0: none */
};

static int read_arguments(struct birth *b) {
  size_t n = 0, argc = 0;
  ssize_t got;
  int fd = open("/proc/self/cmdline", O_RDONLY | O_CLOEXEC);
  if (fd < 0) return ERR_IO;
  while ((got = read(fd, b->arguments + n, sizeof b->arguments - n)) > 0) n += (size_t)got;
  close(fd);
  if (got < 0 || n == 0 || n == sizeof b->arguments) return ERR_LIMIT;
  for (char *at = b->arguments; at < b->arguments + n; at += strlen(at) + 1) {
    if (argc == STARTER_ARGUMENTS_MAX) return ERR_LIMIT;
    b->argv[argc++] = at;
  }
  return 0;
}

/* In the new process, in which all is as it was given to the starter, but for the carrier. */
static void become_program(const struct birth *b, const char *program, int carrier) {
  char number[16], why[STARTER_PATH_MAX_BYTES + 128];
  int fd = dup(carrier);           /* without CLOEXEC */
  (void)snprintf(number, sizeof number, "%d", fd);
  if (fd >= 0 && setenv(STARTER_VARIABLE, number, 1) == 0) {
    signals_give_back();
    (void)sigprocmask(SIG_SETMASK, &b->mask, NULL);
    (void)execv(program, b->argv);
  }
  int n = snprintf(why, sizeof why, "%s: %s", program, strerror(errno));
  (void)!carrier_send(carrier, CARRIER_REFUSED, why, (size_t)n, NULL, 0);
  _exit(EXIT_FAILURE);
}

/* The program that is asked for, or ours. */
static int read_request(const struct birth *b, int asked, char path[STARTER_PATH_MAX_BYTES + 1],
                        struct starter_answer *a) {
  struct ucred peer;
  socklen_t n = sizeof peer;
  strcpy(path, b->program);
  if (asked < 0) return 0;
  if (upgrade_door_read(asked, path) != 0) {
    (void)snprintf(a->text, sizeof a->text, "malformed request");
    return ERR_SYNTAX;
  }
  if (path[0] == '\0') {
    strcpy(path, b->program);
    return 0;
  }
  if (getsockopt(asked, SOL_SOCKET, SO_PEERCRED, &peer, &n) == 0 && (peer.uid == 0 || peer.uid == geteuid())) return 0;
  (void)snprintf(a->text, sizeof a->text, "--exec: only root and the user that started the relay may name a program");
  return ERR_AUTH;
}

static int start_here(struct birth *b, int carrier, int asked, struct starter_answer *a) {
  char path[STARTER_PATH_MAX_BYTES + 1];
  int rc = b->child != 0 || carrier < 0 ? ERR_SYNTAX : read_request(b, asked, path, a);
  if (rc != 0) return rc;
  b->child = fork();
  if (b->child == 0) become_program(b, path, carrier);
  if (b->child > 0) return 0;
  b->child = 0;
  (void)snprintf(a->text, sizeof a->text, "cannot start a process: %s", strerror(errno));
  return ERR_LIMIT;
}

/* One that is about to end by itself may do so: how it does says more than that we have killed it. */
static void kill_here(struct birth *b, struct starter_answer *a) {
  const struct timespec pause = {.tv_nsec = STARTER_LOOK_MS * 1000000L};
  if (b->child == 0) return;
  for (int left = STARTER_GRACE_MS / STARTER_LOOK_MS; left > 0; left--) {
    if (waitpid(b->child, &a->status, WNOHANG) != 0) {
      b->child = 0;
      return;
    }
    (void)nanosleep(&pause, NULL);
  }
  (void)kill(b->child, SIGKILL);
  (void)waitpid(b->child, &a->status, 0);
  b->child = 0;
}

/* One order and the descriptors that come with it; the number of these, or negative at the relay's end. */
static int hear(int fd, uint8_t *order, int fds[START_FDS_MAX]) {
  union {
    struct cmsghdr header;
    char bytes[CMSG_SPACE(START_FDS_MAX * sizeof(int))];
  } control;
  struct iovec iov = {.iov_base = order, .iov_len = 1};
  struct msghdr m = {
      .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof control.bytes};
  if (recvmsg(fd, &m, MSG_CMSG_CLOEXEC) != 1) return -1;
  const struct cmsghdr *c = CMSG_FIRSTHDR(&m);
  if (c == NULL || c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS) return 0;
  int n = (int)((c->cmsg_len - CMSG_LEN(0)) / sizeof(int));
  memcpy(fds, CMSG_DATA(c), (size_t)n * sizeof(int));
  return n;
}

/* Until the relay's end. A new program is not left behind without the relay that it was to follow. */
static void serve_relay(struct birth *b) {
  struct starter_answer unheard;
  uint8_t order;
  for (int fds[START_FDS_MAX], n; (n = hear(b->relay, &order, fds)) >= 0;) {
    struct starter_answer a = {.code = 0};
    if (order == STARTER_START) a.code = start_here(b, n > 0 ? fds[0] : -1, n > 1 ? fds[1] : -1, &a);
    if (order == STARTER_KILL) kill_here(b, &a);
    if (order == STARTER_LET_GO) return;
    for (int i = 0; i < n; i++) close(fds[i]);
    (void)!send(b->relay, &a, sizeof a, MSG_NOSIGNAL);
  }
  kill_here(b, &unheard);
}

/* It is stopped by nothing but the relay's end: whoever ends all processes of a terminal or a service means the
   relay. */
static void be_starter(int relay) {
  static struct birth b;
  sigset_t all;
  b.relay = relay;
  (void)prctl(PR_SET_NAME, "adit-starter");
  (void)sigfillset(&all);
  (void)sigprocmask(SIG_SETMASK, &all, &b.mask);
  signals_change(SIGCHLD, SIG_DFL);    /* ignored, the kernel would keep how a program ended from us */
  if (read_arguments(&b) == 0) {
    own_program_find(b.argv[0], b.program, sizeof b.program);
    serve_relay(&b);
  }
  _exit(EXIT_SUCCESS);
}

/* The relay's side */

int starter_begin(struct starter *s, int not_its, struct err *e) {
  int fds[2];
  s->fd = -1;
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) != 0) return err_set_errno(e, "upgrade");
  pid_t pid = fork();
  if (pid == 0) {
    close(fds[0]);
    if (not_its >= 0) close(not_its);
    be_starter(fds[1]);
  }
  close(fds[1]);
  if (pid > 0) s->fd = fds[0];
  else close(fds[0]);
  s->pid = pid;
  return pid > 0 ? 0 : err_set_errno(e, "upgrade: cannot start a process");
}

/* ERR_CLOSED when there is no starter, or no longer. */
static int ask(struct starter *s, enum starter_order order, const int *fds, size_t n, struct starter_answer *a) {
  uint8_t byte = (uint8_t)order;
  union {
    struct cmsghdr header;
    char bytes[CMSG_SPACE(START_FDS_MAX * sizeof(int))];
  } control;
  struct iovec iov = {.iov_base = &byte, .iov_len = 1};
  struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};
  memset(&control, 0, sizeof control);
  if (n > 0) {
    m.msg_control = control.bytes;
    m.msg_controllen = CMSG_SPACE(n * sizeof(int));
    *CMSG_FIRSTHDR(&m) = (struct cmsghdr){
        .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(n * sizeof(int))};
    memcpy(CMSG_DATA(CMSG_FIRSTHDR(&m)), fds, n * sizeof(int));
  }
  if (s->fd < 0 || sendmsg(s->fd, &m, MSG_NOSIGNAL) != 1) return ERR_CLOSED;
  return recv(s->fd, a, sizeof *a, 0) == (ssize_t)sizeof *a ? 0 : ERR_CLOSED;
}

int starter_start(struct starter *s, int carrier, int asked, struct err *e) {
  struct starter_answer a = {.code = 0};
  const int fds[START_FDS_MAX] = {carrier, asked};
  if (ask(s, STARTER_START, fds, asked >= 0 ? 2 : 1, &a) != 0)
    return err_set(e, ERR_CLOSED, "the relay's starter is gone (restart the relay)");
  a.text[sizeof a.text - 1] = '\0';
  return a.code == 0 ? 0 : err_set(e, a.code, "%s", a.text);
}

void starter_kill(struct starter *s, char how[STARTER_HOW_CAP]) {
  struct starter_answer a = {.code = 0};
  how[0] = '\0';
  if (ask(s, STARTER_KILL, NULL, 0, &a) != 0) return;
  if (WIFEXITED(a.status)) (void)snprintf(how, STARTER_HOW_CAP, "it ended with status %d", WEXITSTATUS(a.status));
  else if (WIFSIGNALED(a.status) && WTERMSIG(a.status) != SIGKILL)
    (void)snprintf(how, STARTER_HOW_CAP, "it died of signal %d", WTERMSIG(a.status));
}

void starter_let_go(struct starter *s) {
  struct starter_answer a;
  if (s->fd < 0) return;
  (void)ask(s, STARTER_LET_GO, NULL, 0, &a);     /* the answer is its end */
  starter_end(s);
  /* What a process has open is closed before its children are given away. */
  while (waitpid(s->pid, NULL, 0) < 0 && errno == EINTR) continue;
}

void starter_end(struct starter *s) {
  if (s->fd >= 0) close(s->fd);
  s->fd = -1;
}
