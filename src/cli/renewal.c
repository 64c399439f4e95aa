/* See the header. The hard thing is the program that is no adit, or an older one, which would begin to forward
   by itself: so what is asked first has an option that only those know which can take over. */
#include "cli/renewal.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/own_program.h"
#include "base/secret.h"
#include "base/signals.h"
#include "base/words.h"
#include "lib/moving.h"

#define STATE_VARIABLE "ADIT_FORWARD_STATE_FD"
enum {
  MAGIC = 0x61646670,
  FORMAT = 1,                      /* of agent/move.h, and of what the host writes */
  PACKET_MAX_BYTES = 1024,
  NOT_STARTED_STATUS = 127
};

void renewal_begin(struct renewal *r, int argc, char **argv) {
  own_program_find(program_invocation_name, r->program, sizeof r->program);
  r->argv = argv;
  r->argv_n = (size_t)argc;
}

/* ---- the old program's side: asking the new one ---- */

struct asked {                     /* the program, as it is started to be asked */
  pid_t pid;
  int fd;                          /* our end */
  struct stat file;
};

static bool was_wiped(const char *argument) {
  bool is_option = strncmp(argument, "--", 2) == 0;
  const char *equals = is_option ? strchr(argument, '=') : NULL;
  return argument[0] == '\0' || (equals != NULL && equals[1] == '\0');
}

/* A value that was wiped from the arguments goes along with the state; in its place stands a word, since an empty one
   is refused. What belongs to the command behind "--" stays. NULL: out of memory. */
static char *argument_again(const char *argument, bool is_ours) {
  static const char instead[] = "wiped";
  size_t n = strlen(argument) + sizeof instead;
  char *again = malloc(n);
  if (again != NULL) (void)snprintf(again, n, "%s%s", argument, is_ours && was_wiped(argument) ? instead : "");
  return again;
}

static void arguments_free(char **list) {
  for (size_t i = 0; list != NULL && list[i] != NULL; i++) free(list[i]);
  free(list);
}

/* take_over: NULL, or an option that goes before all others. NULL: out of memory. */
static char **arguments(const struct renewal *r, const char *take_over) {
  const char *first[] = {program_invocation_name, "forward", take_over};
  char **list = calloc(r->argv_n + ARRAY_LEN(first) + 1, sizeof *list);
  bool is_ours = true, whole = list != NULL;
  size_t n = 0;
  for (size_t i = 0; whole && i < ARRAY_LEN(first) && first[i] != NULL; i++)
    whole = (list[n++] = strdup(first[i])) != NULL;
  for (size_t i = 0; whole && i < r->argv_n; i++) {
    is_ours = is_ours && strcmp(r->argv[i], "--") != 0;
    whole = (list[n++] = argument_again(r->argv[i], is_ours)) != NULL;
  }
  if (whole) return list;
  arguments_free(list);
  return NULL;
}

/* Between vfork and exec, where the memory is still the parent's. It says nothing but to us. */
_Noreturn static void become_asked(const struct renewal *r, char **argv, int fd, int state, const sigset_t *mask) {
  int null = open("/dev/null", O_RDWR | O_CLOEXEC);
  for (int i = STDIN_FILENO; null >= 0 && i <= STDERR_FILENO; i++) (void)dup2(null, i);
  (void)fcntl(fd, F_SETFD, 0);
  (void)fcntl(state, F_SETFD, 0);
  signals_give_back();
  (void)sigprocmask(SIG_SETMASK, mask, NULL);
  (void)execv(r->program, argv);
  _exit(NOT_STARTED_STATUS);
}

/* Zeros: there is none. */
static struct stat look_at(const char *program) {
  struct stat file;
  return stat(program, &file) == 0 ? file : (struct stat){0};
}

static int start_asked(const struct renewal *r, int state, const sigset_t *mask, struct asked *a, struct err *e) {
  int ends[2];
  char option[64];
  a->file = look_at(r->program);
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0) return err_set_errno(e, "socketpair");
  (void)snprintf(option, sizeof option, "--take-over=%d,%d", ends[1], state);
  char **argv = arguments(r, option);
  a->fd = ends[0];
  a->pid = argv == NULL ? -1 : vfork();
  if (a->pid == 0) become_asked(r, argv, ends[1], state, mask);
  if (a->pid < 0) (void)err_set_errno(e, "%s", r->program);
  close(ends[1]);
  arguments_free(argv);
  if (a->pid < 0) close(a->fd);
  return a->pid < 0 ? ERR_IO : 0;
}

/* For a moment. */
static void await_end(pid_t pid) {
  struct pollfd p = {.fd = (int)syscall(SYS_pidfd_open, pid, 0), .events = POLLIN};
  if (p.fd < 0) return;            /* before Linux 5.3 */
  (void)poll(&p, 1, STARTER_GRACE_MS);
  close(p.fd);
}

/* Takes it out of the world. ends: it has let go of us; then text is how it has ended, if it has by itself. */
static void end_asked(struct asked *a, bool ends, char text[64]) {
  int how = 0;
  text[0] = '\0';
  if (ends) await_end(a->pid);
  (void)kill(a->pid, SIGKILL);     /* which changes nothing about one that has ended */
  if (waitpid(a->pid, &how, 0) != a->pid) how = 0;
  if (WIFEXITED(how)) (void)snprintf(text, 64, "it ended with status %d", WEXITSTATUS(how));
  else if (WTERMSIG(how) != SIGKILL) (void)snprintf(text, 64, "it was ended by signal %d", WTERMSIG(how));
  close(a->fd);
}

/* A packet: its length, 0: there will be none. ERR_TIMEOUT. */
static ssize_t hear(int fd, uint8_t bytes[PACKET_MAX_BYTES], int within_ms) {
  uint64_t until_ms = clock_ms() + (uint64_t)within_ms;
  for (;;) {
    uint64_t now_ms = clock_ms();
    struct pollfd p = {.fd = fd, .events = POLLIN};
    int n = poll(&p, 1, until_ms > now_ms ? (int)(until_ms - now_ms) : 0);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return ERR_TIMEOUT;
    ssize_t got = recv(fd, bytes, PACKET_MAX_BYTES, 0);
    return got < 0 ? 0 : got;
  }
}

/* It is one that can take over, and knows our format. */
static int hear_hello(struct asked *a, struct err *e) {
  uint8_t bytes[PACKET_MAX_BYTES];
  ssize_t n = hear(a->fd, bytes, MOVE_START_MS);
  if (n <= 0) return err_set(e, n == 0 ? ERR_CLOSED : ERR_TIMEOUT, "%s", n == 0 ? "" : "it does not start");
  struct reader r = reader_of(bytes, (size_t)n);
  bool known = read_u32(&r) == MAGIC;
  unsigned from = read_u16(&r), to = read_u16(&r);
  if (r.bad || !known) return err_set(e, ERR_SYNTAX, "it is no adit");
  if (from <= FORMAT && FORMAT <= to) return 0;
  return err_set(e, ERR_SYNTAX, "it takes over in the formats %u to %u, and not %u", from, to, FORMAT);
}

/* It has looked at the state. */
static int hear_verdict(struct asked *a, struct err *e) {
  uint8_t bytes[PACKET_MAX_BYTES], go[2];
  struct writer w = writer_of(go, sizeof go);
  write_u16(&w, FORMAT);
  ssize_t n = send(a->fd, go, w.len, MSG_NOSIGNAL) < 0 ? 0 : hear(a->fd, bytes, MOVE_CHECK_MS);
  if (n <= 0) return err_set(e, n == 0 ? ERR_CLOSED : ERR_TIMEOUT, "%s", n == 0 ? "" : "it gives no answer");
  return bytes[0] == 1 ? 0 : err_set(e, ERR_SYNTAX, "%.*s", (int)(n - 1), (const char *)bytes + 1);
}

/* ---- the old program's side: becoming the new one ---- */

static int write_state(struct moving *m, const struct renewal_host *host, int state, struct err *e) {
  uint8_t bytes[RENEWAL_HOST_MAX_BYTES];
  struct writer w = writer_of(bytes, sizeof bytes);
  host->writes(host->user, &w);
  ASSERT(!w.bad);
  return moving_write(m, bytes, w.len, state, e);
}

/* That it can take over is known of the program that was asked, and of no other. */
static bool was_replaced(const struct renewal *r, const struct asked *a) {
  struct stat now = look_at(r->program);
  return now.st_dev != a->file.st_dev || now.st_ino != a->file.st_ino || now.st_ctim.tv_sec != a->file.st_ctim.tv_sec ||
         now.st_ctim.tv_nsec != a->file.st_ctim.tv_nsec;
}

/* Returns on failure only. */
static int become(const struct renewal *r, const struct moving *m, int state, struct err *e) {
  char number[16];
  char **argv = arguments(r, NULL);
  (void)snprintf(number, sizeof number, "%d", state);
  if (argv == NULL || setenv(STATE_VARIABLE, number, 1) != 0) {
    arguments_free(argv);
    return err_set(e, ERR_NOMEM, "out of memory");
  }
  words_settle();
  moving_keep_open(m, true);
  (void)fcntl(state, F_SETFD, 0);
  (void)execv(r->program, argv);
  (void)err_set(e, ERR_IO, "%s", strerror(errno));
  (void)fcntl(state, F_SETFD, FD_CLOEXEC);
  moving_keep_open(m, false);
  (void)unsetenv(STATE_VARIABLE);
  arguments_free(argv);
  return e->code;
}

/* With the agent standing still. */
static int hand_over(const struct renewal *r, struct adit_client *client, const struct renewal_host *host,
                     struct asked *a, int state, struct err *e) {
  char how[64];
  struct moving *m = moving_out(client, e);
  if (m == NULL) return e->code;
  int rc = 0;
  bool wanted = host->drains(host->user);
  if (wanted) rc = write_state(m, host, state, e);
  if (wanted && rc == 0) rc = hear_verdict(a, e);
  if (wanted && rc == 0) {
    end_asked(a, true, how);
    a->pid = 0;
    rc = was_replaced(r, a) ? err_set(e, ERR_CONFLICT, "it was replaced while it was asked (try again)")
                            : become(r, m, state, e);
  }
  moving_back(client, m);
  return rc;
}

/* A file in memory alone, which goes with its last descriptor. Before Linux 6.3 none can be kept from being
   executed. */
static int open_state(void) {
  enum { NOEXEC_SEAL = 8 };        /* MFD_NOEXEC_SEAL of linux/memfd.h */
  int fd = memfd_create("adit-forward", MFD_CLOEXEC | NOEXEC_SEAL);
  return fd >= 0 || errno != EINVAL ? fd : memfd_create("adit-forward", MFD_CLOEXEC);
}

/* What stands in the file is keys. */
static void wipe_file(int state) {
  (void)!ftruncate(state, 0);
  close(state);
}

int renewal_go(const struct renewal *r, struct adit_client *client, const struct renewal_host *host, struct err *e) {
  struct asked a;
  char how[64] = "";
  *e = (struct err){0};
  int state = open_state();
  if (state < 0) return err_set_errno(e, "memfd_create");
  int rc = start_asked(r, state, host->mask, &a, e);
  if (rc == 0) {
    rc = hear_hello(&a, e);
    if (rc == 0) rc = hand_over(r, client, host, &a, state, e);
    if (a.pid > 0) end_asked(&a, rc == ERR_CLOSED, how);
  }
  wipe_file(state);
  if (rc != 0 && e->text[0] == '\0')
    (void)err_set(e, rc, "%s (is it adit, and can it take over?)", how[0] != '\0' ? how : "it does not answer");
  return rc == 0 ? 0 : err_prefix(e, "%s", r->program);
}

/* ---- the next program's side ---- */

static void say_hello(int asker) {
  uint8_t bytes[PACKET_MAX_BYTES];
  struct writer w = writer_of(bytes, sizeof bytes);
  write_u32(&w, MAGIC);
  write_u16(&w, FORMAT);
  write_u16(&w, FORMAT);
  write_text8(&w, ADIT_VERSION);
  (void)!send(asker, bytes, w.len, MSG_NOSIGNAL);
}

static int take_number(const char **at, char end) {
  char *stop;
  errno = 0;
  long number = strtol(*at, &stop, 10);
  if (errno != 0 || stop == *at || *stop != end || number <= STDERR_FILENO || number > INT32_MAX) return -1;
  *at = *stop == '\0' ? stop : stop + 1;
  return fcntl((int)number, F_SETFD, FD_CLOEXEC) == 0 ? (int)number : -1;
}

/* Until all is written: whoever ends the asking ends us. */
static int await_state(int asker, struct err *e) {
  uint8_t bytes[PACKET_MAX_BYTES];
  ssize_t n = recv(asker, bytes, sizeof bytes, 0);
  struct reader r = reader_of(bytes, n > 0 ? (size_t)n : 0);
  return read_u16(&r) == FORMAT ? 0 : err_set(e, ERR_CLOSED, "it is not asked any more");
}

/* Asked: take_over is "SOCKET,FILE". */
static int open_asked(struct heritage *h, const char *take_over, int *state, struct err *e) {
  h->asker = take_number(&take_over, ',');
  *state = h->asker < 0 ? -1 : take_number(&take_over, '\0');
  if (*state < 0) return err_set(e, ERR_USAGE, "--take-over: it is for adit itself (leave it out)");
  say_hello(h->asker);
  return await_state(h->asker, e);
}

/* Executed: its number stands in the environment, and children are not to find it there. */
static int open_executed(int *state, struct err *e) {
  const char *number = getenv(STATE_VARIABLE);
  if (number == NULL) return 0;
  *state = take_number(&number, '\0');
  (void)unsetenv(STATE_VARIABLE);
  return *state >= 0 ? 0 : err_set(e, ERR_USAGE, STATE_VARIABLE ": it is for adit itself (unset it)");
}

int heritage_open(struct heritage *h, const char *take_over, struct err *e) {
  int state = -1;
  *h = (struct heritage){.asker = -1};
  int rc = take_over != NULL ? open_asked(h, take_over, &state, e) : open_executed(&state, e);
  if (rc != 0 || state < 0) return rc;
  h->agent = moving_read(state, h->asker >= 0, e);
  if (h->asker < 0) wipe_file(state);
  if (h->agent == NULL) return e->code;
  h->host = moving_host(h->agent);
  return 0;
}

int heritage_config(const struct heritage *h, struct adit_config *config, struct err *e) {
  return moving_config(h->agent, config, e);
}

int heritage_agent(struct heritage *h, struct adit_client *client, struct err *e) {
  struct moving *agent = h->agent;
  h->agent = NULL;
  return moving_in(client, agent, h->asker >= 0, e);
}

void heritage_answer(const struct heritage *h, int rc, const struct err *e) {
  uint8_t bytes[PACKET_MAX_BYTES];
  struct writer w = writer_of(bytes, sizeof bytes);
  if (h->asker < 0) return;
  write_u8(&w, rc == 0);
  if (rc != 0) write_bytes(&w, e->text, strlen(e->text));
  (void)!send(h->asker, bytes, w.len, MSG_NOSIGNAL);
  _exit(rc == 0 ? EXIT_SUCCESS : EXIT_FAILURE);
}
