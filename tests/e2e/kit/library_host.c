/* A host program of the library, led by a test over stdin and stdout.
 *
 *     library-host [allow=N] [embedded=PROGRAM] [keep=FILE] CLIENT...
 *
 * CLIENT: the app ports of its tunnels, joined by commas; each allows N blocks, and has its address in FILE.
 *
 * Opens them all, then obeys a word a line: `fork` makes a child that tries every call, `silent` one that makes none
 * and lives until `gone`, `finish I` waits until the visitors of its first tunnel have left and closes that, `wait I`
 * waits until its first tunnel has ended by itself, `again I` forwards that tunnel's app once more, `close I` closes a
 * client, `exit` ends the program without closing any. `takeover` closes every descriptor from 3 on and has others
 * under their numbers at once, `untouched` tells whether these are as they were, `ask I` what a client says to that. At
 * end of input it closes what is left. What a library must leave alone is compared with how it was before the first
 * call. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <adit.h>

enum { TAKEN = 64, CLIENTS_MAX = 8, TUNNELS_MAX = 512, ALLOW_MAX = 64, OPEN_MS = 30000 };

static struct {
  struct adit_client *client;
  struct adit_tunnel *tunnels[TUNNELS_MAX];
  int n;
} hosts[CLIENTS_MAX];
static int hosts_n;
static size_t allow_n;
static const char *program;        /* for relays of their own */
static const char *keep_file;
static pid_t silent;
static int silent_pipe[2];

#ifndef __has_feature
#define __has_feature(x) 0
#endif

extern char **environ;

struct surroundings {
  void (*handlers[65])(int);
  int flags[65];
  sigset_t mask;
  char folder[4096];
  size_t environment;
};

static void on_signal(int number) { (void)number; }

static void look(struct surroundings *s) {
  memset(s, 0, sizeof *s);
  for (int i = 1; i < 65; i++) {
    struct sigaction action = {.sa_flags = 0};
    if (sigaction(i, NULL, &action) != 0) continue;
    s->handlers[i] = action.sa_handler;
    s->flags[i] = action.sa_flags;
  }
  sigprocmask(SIG_SETMASK, NULL, &s->mask);
  if (getcwd(s->folder, sizeof s->folder) == NULL) s->folder[0] = '?';
  for (char **e = environ; *e != NULL; e++)
    for (const char *c = *e; *c != '\0'; c++) s->environment = s->environment * 31 + (unsigned char)*c;
}

static int die(const char *what, const struct adit_client *client) {
  fprintf(stderr, "library-host: %s: %s\n", what, adit_error(client));
  return 1;
}

/* By the descriptor alone, as a program with a poll loop would. */
static int wait_open_by_poll(struct adit_client *client, int n) {
  struct pollfd p = {.fd = adit_event_fd(client), .events = POLLIN};
  struct adit_event event;
  while (n > 0) {
    if (poll(&p, 1, OPEN_MS) != 1) return 1;
    if (adit_next_event(client, &event, 0) != 1) return 1;
    n -= event.kind == ADIT_EVENT_OPEN;
  }
  return poll(&p, 1, 0);             /* 0: nothing waits, and the descriptor says so */
}

static struct adit_tunnel *open_tunnel(struct adit_client *client, const char *port) {
  char text[ALLOW_MAX][32];
  const char *allow[ALLOW_MAX];
  for (size_t i = 0; i < allow_n; i++) {
    snprintf(text[i], sizeof text[i], "2001:db8:%zx::/48", i);
    allow[i] = text[i];
  }
  struct adit_options options = ADIT_OPTIONS_INIT;
  options.allow = allow;
  options.allow_n = allow_n;
  options.keep_file = keep_file;
  return adit_forward(client, port, &options);
}

static int open_client(char *ports) {
  struct adit_config *config = adit_config_new();
  if (config == NULL || adit_config_load(config, NULL) != 0) return die("configuration", NULL);
  if (program != NULL && adit_config_set_embedded(config, program) != 0) return die("configuration", NULL);
  int h = hosts_n++;
  hosts[h].client = adit_client_new(config);
  adit_config_free(config);
  if (hosts[h].client == NULL) return die("client", NULL);
  for (char *save = NULL, *port = strtok_r(ports, ",", &save); port != NULL; port = strtok_r(NULL, ",", &save)) {
    struct adit_tunnel *t = open_tunnel(hosts[h].client, port);
    if (t == NULL || hosts[h].n == TUNNELS_MAX) return die(port, hosts[h].client);
    hosts[h].tunnels[hosts[h].n++] = t;
  }
  if (wait_open_by_poll(hosts[h].client, hosts[h].n) != 0) return die("events", hosts[h].client);
  for (int i = 0; i < hosts[h].n; i++) {
    if (adit_wait_open(hosts[h].tunnels[i], 0) != 0) return die("open", hosts[h].client);
    printf("open %d %s\n", h, adit_tunnel_host(hosts[h].tunnels[i]));
  }
  return 0;
}

/* In the child: the number of calls that were not answered as they must be. */
static int try_all(void) {
  int wrong = 0;
  struct adit_event event;
  struct adit_tunnel_stats stats;
  for (int h = 0; h < hosts_n; h++) {
    struct adit_client *c = hosts[h].client;
    wrong += adit_forward(c, "1", NULL) != NULL || adit_errno_last() != ADIT_EFORKED;
    wrong += adit_next_event(c, &event, -1) != ADIT_EFORKED;
    wrong += adit_event_fd(c) != ADIT_EFORKED;
    wrong += adit_client_relay(c) != NULL || adit_client_ca_file(c) != NULL;
    wrong += strstr(adit_error(c), "fork") == NULL;
    for (int i = 0; i < hosts[h].n; i++) {
      struct adit_tunnel *t = hosts[h].tunnels[i];
      wrong += adit_wait_open(t, -1) != ADIT_EFORKED;
      wrong += adit_tunnel_url(t) != NULL || adit_tunnel_port(t) != 0;
      adit_tunnel_stats(t, &stats);
      wrong += stats.visitors_total != 0;
      wrong += adit_tunnel_finish(t, -1) != ADIT_EFORKED;
      wrong += adit_tunnel_wait(t, -1) != ADIT_EFORKED || adit_tunnel_reason(t) != NULL;
      adit_tunnel_close(t, 1000);
    }
    adit_client_close(c, 1000);
  }
  return wrong;
}

static void fork_and_try(void) {
  fflush(stdout);
  pid_t pid = fork();
  if (pid == 0) {
    int wrong = try_all();
#if __has_feature(address_sanitizer)
    _exit(wrong);                    /* what the parent's thread holds looks leaked here */
#endif
    exit(wrong);                     /* not _exit: what runs at exit must not disturb the parent either */
  }
  int status = -1;
  waitpid(pid, &status, 0);
  if (WIFEXITED(status)) printf("child exited %d\n", WEXITSTATUS(status));
  else printf("child killed %d\n", WTERMSIG(status));
}

static void fork_silent(void) {
  char byte;
  if (pipe(silent_pipe) != 0) return;
  fflush(stdout);
  silent = fork();
  if (silent == 0) {
    close(silent_pipe[1]);
    printf("silent %d\n", (int)getpid());     /* from here, so that the child is known to have begun */
    fflush(stdout);
    _exit(read(silent_pipe[0], &byte, 1) == 0 ? 0 : 1);
  }
  close(silent_pipe[0]);
}

static void end_silent(void) {
  close(silent_pipe[1]);
  waitpid(silent, NULL, 0);
  printf("gone\n");
}

/* What takes the numbers over: of each kind of descriptor that may be written to, read, waited on or shut down by
   mistake. */
static const char untouched[] = "as it was";
static struct { int file, sockets[2], dead_pipe, event, epoll; struct stat stats[6]; } taken[TAKEN];

static void look_at(int i, struct stat stats[6]) {
  const int fds[6] = {taken[i].file, taken[i].sockets[0], taken[i].sockets[1], taken[i].dead_pipe, taken[i].event,
      taken[i].epoll};
  for (int k = 0; k < 6; k++) {
    if (fstat(fds[k], &stats[k]) != 0) memset(&stats[k], 0, sizeof stats[k]);
    memset(&stats[k].st_atim, 0, sizeof stats[k].st_atim);
  }
}

static void take_over(void) {
  syscall(SYS_close_range, 3, ~0U, 0);
  for (int i = 0; i < TAKEN; i++) {
    int pipe_fds[2] = {-1, -1};
    taken[i].file = memfd_create("host", 0);
    if (write(taken[i].file, untouched, sizeof untouched) != (ssize_t)sizeof untouched) abort();
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, taken[i].sockets) != 0 || pipe(pipe_fds) != 0) abort();
    close(pipe_fds[0]);              /* who writes to the other gets a SIGPIPE */
    taken[i].dead_pipe = pipe_fds[1];
    taken[i].event = eventfd(0, EFD_NONBLOCK);
    taken[i].epoll = epoll_create1(0);
    look_at(i, taken[i].stats);
  }
  printf("taken\n");
}

static bool is_untouched(int i) {
  struct stat now[6];
  char byte;
  uint64_t count;
  look_at(i, now);
  if (memcmp(now, taken[i].stats, sizeof now) != 0) return false;
  for (int k = 0; k < 2; k++)
    if (recv(taken[i].sockets[k], &byte, 1, 0) != -1 || errno != EAGAIN) return false;
  return read(taken[i].event, &count, sizeof count) == -1 && errno == EAGAIN;
}

static void tell_untouched(void) {
  int wrong = 0;
  for (int i = 0; i < TAKEN; i++) wrong += !is_untouched(i);
  printf("touched %d\n", wrong);
}

/* All that a host may ask of a client that has lost its descriptors. */
static void ask(int h) {
  struct adit_client *c = hosts[h].client;
  struct adit_event event = {.kind = ADIT_EVENT_OPEN};
  while (event.kind != ADIT_EVENT_CLOSED && adit_next_event(c, &event, OPEN_MS) == 1) {}
  printf("event %d %s\n", event.error, event.text);
  int r = adit_wait_open(hosts[h].tunnels[0], OPEN_MS);
  printf("wait %d %s\n", r, adit_error(c));
  r = adit_event_fd(c);
  printf("descriptor %d %s\n", r, adit_error(c));
  struct adit_tunnel *t = adit_forward(c, "9", NULL);
  r = t == NULL ? adit_errno_last() : adit_wait_open(t, OPEN_MS);
  printf("forward %d %s\n", r, adit_error(c));
  if (t != NULL) adit_tunnel_close(t, 1000);
  printf("asked %d\n", h);
}

static void close_client(int h) {
  adit_client_close(hosts[h].client, 1000);
  hosts[h].client = NULL;
  hosts[h].n = 0;
  printf("closed %d\n", h);
}

/* Looks up now and then, as a program does that takes signals. */
static void finish_tunnel(int h) {
  unsigned looks = 0;
  while (adit_tunnel_finish(hosts[h].tunnels[0], 10) == ADIT_ETIMEDOUT) {
    if (looks++ > 0) continue;
    printf("waiting %d\n", h);
    fflush(stdout);
  }
  adit_tunnel_close(hosts[h].tunnels[0], 0);
  hosts[h].tunnels[0] = hosts[h].tunnels[--hosts[h].n];
  printf("finished %d\n", h);
}

static void wait_for_end(int h) {
  struct adit_tunnel *t = hosts[h].tunnels[0];
  if (adit_tunnel_reason(t) == NULL && adit_tunnel_wait(t, 1) == ADIT_ETIMEDOUT) printf("waiting %d\n", h);
  fflush(stdout);
  int waited = adit_tunnel_wait(t, OPEN_MS), opened = adit_wait_open(t, 0);
  printf("ended %d %s %d %s\n", waited, adit_tunnel_reason(t), opened, adit_error(NULL));
}

static void forward_again(int h) {
  char port[8];
  snprintf(port, sizeof port, "%u", adit_tunnel_app_port(hosts[h].tunnels[0]));
  struct adit_tunnel *t = open_tunnel(hosts[h].client, port);
  int r = t == NULL ? adit_errno_last() : adit_wait_open(t, OPEN_MS);
  printf("again %d %s\n", r, r == 0 ? adit_tunnel_host(t) : adit_error(NULL));
  if (t != NULL) hosts[h].tunnels[hosts[h].n++] = t;
}

static void obey(const char *word) {
  if (strcmp(word, "fork\n") == 0) fork_and_try();
  else if (strcmp(word, "silent\n") == 0) fork_silent();
  else if (strcmp(word, "gone\n") == 0) end_silent();
  else if (strcmp(word, "exit\n") == 0) exit(3);
  else if (strcmp(word, "takeover\n") == 0) take_over();
  else if (strcmp(word, "untouched\n") == 0) tell_untouched();
  else if (strncmp(word, "ask ", 4) == 0) ask(atoi(word + 4));
  else if (strncmp(word, "finish ", 7) == 0) finish_tunnel(atoi(word + 7));
  else if (strncmp(word, "wait ", 5) == 0) wait_for_end(atoi(word + 5));
  else if (strncmp(word, "again ", 6) == 0) forward_again(atoi(word + 6));
  else if (strncmp(word, "close ", 6) == 0) close_client(atoi(word + 6));
  fflush(stdout);
}

int main(int argc, char **argv) {
  static struct surroundings before, after;
  sigset_t blocked;
  char word[64];
  signal(SIGUSR1, on_signal);
  signal(SIGHUP, SIG_IGN);
  sigemptyset(&blocked);
  sigaddset(&blocked, SIGUSR2);
  sigprocmask(SIG_BLOCK, &blocked, NULL);
  look(&before);
  for (int i = 1; i < argc && hosts_n < CLIENTS_MAX; i++) {
    if (strncmp(argv[i], "allow=", 6) == 0) allow_n = strtoul(argv[i] + 6, NULL, 10) % (ALLOW_MAX + 1);
    else if (strncmp(argv[i], "embedded=", 9) == 0) program = argv[i] + 9;
    else if (strncmp(argv[i], "keep=", 5) == 0) keep_file = argv[i] + 5;
    else if (open_client(argv[i]) != 0) return 1;
  }
  look(&after);
  printf("surroundings %s\n", memcmp(&before, &after, sizeof before) == 0 ? "same" : "changed");
  fflush(stdout);
  while (fgets(word, sizeof word, stdin) != NULL) obey(word);
  for (int h = 0; h < hosts_n; h++)
    if (hosts[h].client != NULL) close_client(h);
  look(&after);
  printf("at the end %s\n", memcmp(&before, &after, sizeof before) == 0 ? "same" : "changed");
  return 0;
}
