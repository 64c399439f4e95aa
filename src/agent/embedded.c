/* The embedded relay. The hard thing: it is started from a thread with all signals blocked, in somebody else's process:
   the child must inherit neither that mask, nor the host's descriptors, nor the terminal's Ctrl-C, which is the host's
   to handle; nor may the thread read the environment, which the host may be changing. And when it ends it must not stay
   a zombie, nor the host wait for one that hangs. */
#include "agent/embedded.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "agent/detached.h"
#include "base/secret.h"
#include "base/text.h"
#include "loop/net.h"

extern char **environ;

enum { EMBEDDED_TEXT_MAX = TOKEN_TEXT_MAX_CHARS + 4096 + 32, EMBEDDED_END_MS = 1000, EMBEDDED_LOOK_MS = 5 };
enum { EMBEDDED_RESTARTS_MAX = 3, EMBEDDED_STOOD_MS = 10000 };     /* so many in a row, none of which stood so long */

struct embedded {
  struct adit_client *client;
  const char *program;
  pid_t pid;                       /* of the child; it may hand us over to another process, and end */
  int fd;
  struct loop_io io;
  struct loop_timer deadline;
  bool ready;
  unsigned restarts;
  uint64_t ready_ms;
  unsigned looked_ms;              /* for how long its end has been waited for */
  size_t n;
  char text[EMBEDDED_TEXT_MAX];
};

static void embedded_again(struct loop_timer *t);

char **embedded_environment(void) {
  size_t n = 0;
  while (environ != NULL && environ[n] != NULL) n++;
  char **copy = calloc(n + 1, sizeof *copy);
  for (size_t i = 0; copy != NULL && i < n; i++) {
    if ((copy[i] = strdup(environ[i])) != NULL) continue;
    embedded_environment_free(copy);
    copy = NULL;
  }
  return copy;
}

void embedded_environment_free(char **environment) {
  for (size_t i = 0; environment != NULL && environment[i] != NULL; i++) free(environment[i]);
  free(environment);
}

/* The host's descriptors, which may be without FD_CLOEXEC. */
static void embedded_close_from(posix_spawn_file_actions_t *files, int first) {
#if __GLIBC_PREREQ(2, 34)
  posix_spawn_file_actions_addclosefrom_np(files, first);
#else
  DIR *open_fds = opendir("/proc/thread-self/fd");
  struct dirent *entry;
  while (open_fds != NULL && (entry = readdir(open_fds)) != NULL) {
    int fd = atoi(entry->d_name);
    if (fd >= first) posix_spawn_file_actions_addclose(files, fd);
  }
  if (open_fds != NULL) closedir(open_fds);
#endif
}

static int embedded_spawn(struct embedded *m, const char *program, int child_fd) {
  posix_spawn_file_actions_t files;
  posix_spawnattr_t attr;
  posix_spawn_file_actions_init(&files);
  posix_spawnattr_init(&attr);
  posix_spawn_file_actions_adddup2(&files, child_fd, 3);   /* first: child_fd may be 0 or 1 in a host without stdio */
  posix_spawn_file_actions_addopen(&files, 0, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_addopen(&files, 1, "/dev/null", O_WRONLY, 0);
  embedded_close_from(&files, 4);
  sigset_t none, all;
  sigemptyset(&none);
  sigfillset(&all);
  posix_spawnattr_setsigmask(&attr, &none);
  posix_spawnattr_setsigdefault(&attr, &all);
  posix_spawnattr_setpgroup(&attr, 0);
  posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETPGROUP);
  char relay[] = "relay", option[] = "--embedded", number[] = "3", *path = strdup(program);
  char *argv[] = {path, relay, option, number, NULL};
  int r = path == NULL ? ENOMEM : posix_spawn(&m->pid, program, &files, &attr, argv, m->client->environment);
  free(path);
  posix_spawnattr_destroy(&attr);
  posix_spawn_file_actions_destroy(&files);
  return r;
}

/* Whether it is gone. A host may reap all children itself. */
static bool embedded_has_ended(struct embedded *m) {
  if (m->pid > 0) {
    pid_t r = waitpid(m->pid, NULL, WNOHANG);
    if (r == m->pid || (r < 0 && errno == ECHILD)) m->pid = -1;
  }
  return m->pid < 0;
}

/* It ends by itself when its descriptor does; if not within a second it is made to. False: `again` looks once more. */
static bool embedded_is_buried(struct embedded *m, loop_timer_fn *again) {
  if (embedded_has_ended(m)) return true;
  if (m->looked_ms == EMBEDDED_END_MS) kill(m->pid, SIGKILL);
  m->looked_ms += EMBEDDED_LOOK_MS;
  (void)loop_timer_set(m->client->loop, &m->deadline,
                       m->looked_ms <= 2 * EMBEDDED_END_MS ? EMBEDDED_LOOK_MS : EMBEDDED_END_MS, again);
  return false;
}

static void embedded_bury(struct loop_timer *t) {
  (void)embedded_is_buried(CONTAINER_OF(t, struct embedded, deadline), embedded_bury);
}

/* A child that has handed us over to a shared relay is to leave no zombie; one that is our relay lives on. */
static void embedded_reap(struct loop_timer *t) {
  struct embedded *m = CONTAINER_OF(t, struct embedded, deadline);
  if (embedded_has_ended(m) || m->looked_ms >= EMBEDDED_END_MS) return;
  m->looked_ms += EMBEDDED_LOOK_MS;
  (void)loop_timer_set(m->client->loop, t, EMBEDDED_LOOK_MS, embedded_reap);
}

static void embedded_let_go(struct embedded *m) {
  if (m->fd < 0) return;
  loop_io_del(&m->io);
  descriptors_remove(&m->client->descriptors, m->fd);
  close(m->fd);
  m->fd = -1;
}

static void embedded_fail(struct embedded *m, int code, const char *why, const char *remedy) {
  struct err e = {0};
  err_set(&e, ERR_IO, "embedded relay: %.400s%s", why, remedy);
  embedded_let_go(m);
  (void)loop_timer_set(m->client->loop, &m->deadline, 0, embedded_bury);
  client_embedded_failed(m->client, code, &e);
}

/* The next one listens where it did, and takes the same token: our link and our tunnels come back as after any loss.
   False: it has been tried often enough. */
static bool embedded_restart(struct embedded *m) {
  if (m->ready && loop_now_ms(m->client->loop) - m->ready_ms >= EMBEDDED_STOOD_MS) m->restarts = 0;
  if (m->restarts++ >= EMBEDDED_RESTARTS_MAX) return false;
  embedded_let_go(m);
  m->looked_ms = 0;
  return loop_timer_set(m->client->loop, &m->deadline, 0, embedded_again) == 0;
}

/* What it said before it ended, if it said why; with a remedy where it has none of its own. */
static void embedded_ended(struct embedded *m) {
  char why[ERR_TEXT_MAX];
  char *end = memchr(m->text, '\n', m->n);
  if (m->n == 0 && embedded_restart(m)) return;
  if (m->ready) {
    embedded_fail(m, ADIT_EUNREACHABLE, "it has ended", " (start again)");
  } else if (end == NULL || strncmp(m->text, "ERROR ", 6) != 0) {
    embedded_fail(m, ADIT_EUNREACHABLE, "it ended before it listened", " (run `adit relay` by hand to see why)");
  } else {
    text_escape(m->text + 6, (size_t)(end - m->text) - 6, why, sizeof why);
    embedded_fail(
        m, ADIT_ECONFIG, why,
        strchr(why, '(') != NULL ? "" : " (set XDG_STATE_HOME to a folder that you may write to, or give a token)");
  }
}

/* What stands behind the word in the next line; NULL: it is another. */
static char *embedded_line(char **at, const char *word) {
  char *line = *at, *end = strchr(line, '\n');
  size_t n = strlen(word);
  *end = '\0';
  *at = end + 1;
  return strncmp(line, word, n) == 0 ? line + n : NULL;
}

static bool embedded_is_complete(const struct embedded *m) {
  size_t lines = 0;
  for (size_t i = 0; i < m->n; i++) lines += m->text[i] == '\n';
  return lines >= 3;
}

/* Once all lines are there: hands them over. The descriptor stays open: the child lives until ours is closed, and we
   learn by it that the child has ended. */
static void embedded_parse(struct embedded *m) {
  if (!embedded_is_complete(m)) return;
  char *at = m->text, *token = embedded_line(&at, "TOKEN "), *ca = embedded_line(&at, "CA "),
       *agents = embedded_line(&at, "AGENTS ");
  m->ready = true;
  m->ready_ms = loop_now_ms(m->client->loop);
  (void)loop_timer_set(m->client->loop, &m->deadline, 0, embedded_reap);
  if (token == NULL || ca == NULL || agents == NULL)
    embedded_fail(m, ADIT_ECONFIG, "its first words are not understood",
                  " (is the program adit, and of this version?)");
  else client_embedded_ready(m->client, token, ca, agents);
  wipe(m->text, sizeof m->text);
  m->n = 0;
}

static void embedded_readable(struct loop_io *io, uint32_t events) {
  (void)events;
  struct embedded *m = CONTAINER_OF(io, struct embedded, io);
  ssize_t n = read(m->fd, m->text + m->n, sizeof m->text - 1 - m->n);
  if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (n <= 0) {
    embedded_ended(m);
    return;
  }
  if (m->ready) return;            /* it has nothing more to say */
  m->n += (size_t)n;
  embedded_parse(m);
}

static void embedded_late(struct loop_timer *t) {
  embedded_fail(CONTAINER_OF(t, struct embedded, deadline), ADIT_EUNREACHABLE, "it does not start to listen",
                " (run `adit relay` by hand to see why)");
}

static int embedded_launch(struct embedded *m, struct err *e) {
  struct adit_client *c = m->client;
  int fds[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds) != 0)
    return err_set_errno(e, "embedded relay");
  m->fd = fds[0];
  descriptors_add(&c->descriptors, m->fd);
  (void)fcntl(fds[1], F_SETFL, 0);   /* the child reads and writes it in its own time */
  int r = embedded_spawn(m, m->program, fds[1]);
  close(fds[1]);
  if (r != 0) {
    m->pid = -1;
    errno = r;
    return err_set_errno(e, "embedded relay: %s", m->program);
  }
  m->ready = false;
  m->n = 0;
  m->looked_ms = 0;
  if (loop_io_add(c->loop, &m->io, m->fd, EPOLLIN, embedded_readable) == 0 &&
      loop_timer_set(c->loop, &m->deadline, EMBEDDED_START_MS, embedded_late) == 0)
    return 0;
  return err_set(e, ERR_NOMEM, "embedded relay: out of memory");
}

static void embedded_again(struct loop_timer *t) {
  struct embedded *m = CONTAINER_OF(t, struct embedded, deadline);
  struct err e = {0};
  if (!embedded_is_buried(m, embedded_again) || embedded_launch(m, &e) == 0) return;
  embedded_let_go(m);
  (void)loop_timer_set(m->client->loop, t, 0, embedded_bury);
  client_embedded_failed(m->client, ADIT_ESYSTEM, &e);
}

bool embedded_is_ready(const struct embedded *m) { return m->ready && m->fd >= 0; }

int embedded_fd(const struct embedded *m) { return m->fd; }

enum { EXPORT_VERSION = 1 };

void embedded_export(const struct embedded *m, struct writer *w) {
  write_u8(w, EXPORT_VERSION);
  write_u32(w, m->pid > 0 ? (uint32_t)m->pid : 0);
  write_u32(w, m->restarts);
  write_u64(w, loop_now_ms(m->client->loop) - m->ready_ms);
}

int embedded_import(struct adit_client *c, const char *program, struct reader *r, int fd, struct embedded **out) {
  bool known = read_u8(r) == EXPORT_VERSION;
  uint32_t pid = read_u32(r), restarts = read_u32(r);
  uint64_t age_ms = read_u64(r), now_ms = loop_now_ms(c->loop);
  if (!known || !reader_done(r) || pid > INT32_MAX || restarts > EMBEDDED_RESTARTS_MAX || program == NULL)
    return ERR_SYNTAX;
  struct embedded *m = calloc(1, sizeof *m);
  if (m == NULL) return ERR_NOMEM;
  *m = (struct embedded){.client = c, .program = program, .pid = pid > 0 ? (pid_t)pid : -1, .fd = fd, .ready = true,
                         .restarts = restarts, .ready_ms = age_ms < now_ms ? now_ms - age_ms : 0};
  int rc = loop_io_add(c->loop, &m->io, fd, EPOLLIN, embedded_readable);
  if (rc == 0) *out = m;
  else free(m);
  return rc;
}

struct embedded *embedded_start(struct adit_client *c, const char *program, struct err *e) {
  struct embedded *m = calloc(1, sizeof *m);
  if (m == NULL) {
    err_set(e, ERR_NOMEM, "embedded relay: out of memory");
    return NULL;
  }
  m->client = c;
  m->program = program;
  m->pid = m->fd = -1;
  if (embedded_launch(m, e) == 0) return m;
  embedded_stop(m);
  return NULL;
}

static bool embedded_ends_soon(struct embedded *m) {
  const struct timespec pause = {.tv_nsec = EMBEDDED_LOOK_MS * 1000000};
  for (int waited = 0; waited < EMBEDDED_END_MS; waited += EMBEDDED_LOOK_MS) {
    if (embedded_has_ended(m)) return true;
    nanosleep(&pause, NULL);
  }
  return false;
}

/* In a thread of its own, since even SIGKILL has to wait for a child that hangs in the kernel, on a disk say; whoever
   closes the client does not. */
static void *embedded_wait_thread(void *pid) {
  while (waitpid((pid_t)(intptr_t)pid, NULL, 0) < 0 && errno == EINTR) {}
  return NULL;
}

void embedded_stop(struct embedded *m) {
  if (m == NULL) return;
  embedded_let_go(m);
  loop_timer_stop(&m->deadline);
  if (!embedded_ends_soon(m)) {
    kill(m->pid, SIGKILL);
    if (!embedded_ends_soon(m)) (void)!detached_start("adit-reap", embedded_wait_thread, (void *)(intptr_t)m->pid);
  }
  wipe(m->text, sizeof m->text);
  free(m);
}
