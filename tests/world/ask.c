#include "ask.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/base.h"
#include "kernel.h"

enum {
  SAID_CAP = 256 * 1024,
  SHOWN_CAP = 4096,
  SEEDS = 12,
  SETTLE_LINUX_NS = 1000000,
  SETTLE_NS = 20000000,
  AWAIT_MS = 10000,
  SLOW_PACKET_MAX_NS = 300000,
  HOST_IP = 0x0a000001
};

static struct said { char text[SAID_CAP]; size_t n; } by_linux, by_world, *saying;

/* Saying */

void say(const char *format, ...) {
  va_list args;
  va_start(args, format);
  int n = vsnprintf(saying->text + saying->n, SAID_CAP - saying->n, format, args);
  va_end(args);
  ASSERT(n >= 0 && (size_t)n + 1 < SAID_CAP - saying->n);
  saying->n += (size_t)n;
  saying->text[saying->n++] = '\n';
  saying->text[saying->n] = '\0';
}

void say_result(const char *what, ssize_t r) {
  if (r < 0) say("%s: %s", what, strerrorname_np(errno));
  else say("%s: %zd", what, r);
}

void say_error(int fd) {
  int error = 0;
  socklen_t n = sizeof error;
  ssize_t r = getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &n);
  if (r < 0) say_result("SO_ERROR", r);
  else say("SO_ERROR: %s", error == 0 ? "0" : strerrorname_np(error));
}

void say_events(const char *what, uint32_t events) {
  static const struct { uint32_t bit; const char *name; } names[] = {
      {EPOLLIN, "IN"},   {EPOLLOUT, "OUT"}, {EPOLLRDHUP, "RDHUP"},
      {EPOLLHUP, "HUP"}, {EPOLLERR, "ERR"}, {POLLNVAL, "NVAL"}};
  char text[64] = "";
  for (size_t i = 0; i < ARRAY_LEN(names); i++) {
    if ((events & names[i].bit) == 0) continue;
    (void)snprintf(text + strlen(text), sizeof text - strlen(text), " %s", names[i].name);
  }
  say("%s:%s", what, text);
}

static uint32_t events_of(int fd) {
  struct pollfd p = {.fd = fd, .events = POLLIN | POLLOUT | POLLRDHUP};
  return poll(&p, 1, 0) == 1 ? (uint32_t)(uint16_t)p.revents : 0;
}

void say_poll(const char *what, int fd) { say_events(what, events_of(fd)); }

void say_bytes(const char *what, const void *p, ssize_t n) {
  const uint8_t *bytes = p;
  uint32_t sum = 0;
  if (n < 0) {
    say_result(what, n);
    return;
  }
  for (ssize_t i = 0; i < n; i++) sum = sum * 31 + bytes[i];
  if (n <= 16) say("%s: \"%.*s\"", what, (int)n, (const char *)bytes);
  else say("%s: %zd bytes, %08x", what, n, sum);
}

void say_recv(const char *what, int fd, size_t n, int flags) {
  static uint8_t bytes[1 << 20];
  ssize_t got = recv(fd, bytes, size_min(n, sizeof bytes), flags);
  say_bytes(what, bytes, got);
}

/* Waiting */

/* Linux does at once what there is to do within a host, nearly always. */
void settle(void) {
  long ns = task_current() == NULL ? SETTLE_LINUX_NS : SETTLE_NS;
  (void)nanosleep(&(struct timespec){.tv_nsec = ns}, NULL);
}

void await(const char *what, int fd, short events) {
  struct pollfd p = {.fd = fd, .events = events};
  if (poll(&p, 1, AWAIT_MS) == 0) say("%s: nothing came", what);
  settle();
  say_poll(what, fd);
}

/* Sockets */

int tcp_socket(void) { return socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0); }

static struct sockaddr_in address(uint32_t ip, uint16_t port) {
  return (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(ip), .sin_port = htons(port)};
}

int tcp_bind_to(int fd, uint32_t ip, uint16_t port) {
  struct sockaddr_in a = address(ip, port);
  return bind(fd, (const struct sockaddr *)&a, sizeof a);
}

uint16_t tcp_port(int fd) {
  struct sockaddr_in a = {0};
  socklen_t n = sizeof a;
  return getsockname(fd, (struct sockaddr *)&a, &n) == 0 ? ntohs(a.sin_port) : 0;
}

int tcp_listener(int backlog, uint16_t *port) {
  int fd = tcp_socket();
  if (tcp_bind_to(fd, INADDR_LOOPBACK, 0) != 0 || listen(fd, backlog) != 0) say_result("no listener", -1);
  *port = tcp_port(fd);
  return fd;
}

int tcp_dial(uint16_t port) {
  struct sockaddr_in a = address(INADDR_LOOPBACK, port);
  int fd = tcp_socket();
  errno = 0;
  (void)connect(fd, (const struct sockaddr *)&a, sizeof a);
  return fd;
}

void tcp_pair(int fds[2]) {
  uint16_t port;
  int listener = tcp_listener(1, &port);
  struct pollfd p = {.fd = listener, .events = POLLIN};
  fds[0] = tcp_dial(port);
  if (poll(&p, 1, AWAIT_MS) != 1) say("no connection");
  fds[1] = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
  close(listener);
}

void local_pair_of(int type, int fds[2]) {
  if (socketpair(AF_UNIX, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) != 0) say("no pair");
}

void close_both(int fds[2]) {
  close(fds[0]);
  close(fds[1]);
}

void set_option(int fd, int level, int name, int value) {
  if (setsockopt(fd, level, name, &value, sizeof value) != 0) say_result("an option", -1);
}

void set_linger(int fd, bool on, int seconds) {
  const struct linger l = {.l_onoff = on, .l_linger = seconds};
  if (setsockopt(fd, SOL_SOCKET, SO_LINGER, &l, sizeof l) != 0) say_result("SO_LINGER", -1);
}

/* Asking */

static void ask(struct said *who, script *s) {
  saying = who;
  saying->n = 0;
  saying->text[0] = '\0';
  (void)signal(SIGPIPE, SIG_IGN);
  s();
}

static int ask_world(void *arg) {
  ask(&by_world, *(script **)arg);
  return 0;
}

static const char *difference(uint64_t seed) {
  static char text[2 * SHOWN_CAP + 128];
  size_t at = 0;
  while (by_linux.text[at] == by_world.text[at]) at++;
  while (at > 0 && by_linux.text[at - 1] != '\n') at--;
  size_t from = at;                /* a few lines before */
  for (int lines = 0; from > 0 && lines < 12; lines += by_linux.text[from - 1] == '\n') from--;
  (void)snprintf(text, sizeof text, "seed %llu, after\n%.*s\nLinux says\n%.160s\nand the world\n%.160s\n",
                 (unsigned long long)seed, (int)(at - from), by_linux.text + from, by_linux.text + at,
                 by_world.text + at);
  return text;
}

const char *ask_both(script *s) {
  ask(&by_linux, s);
  for (uint64_t seed = 0; seed < SEEDS; seed++) {
    world_begin(&(struct world_options){.seed = seed});
    if (seed > 0) {
      weather.loopback_delay_max_ns = SLOW_PACKET_MAX_NS;
      weather.tiny_chunk_one_in = 4;
    }
    const struct process *p = process_start(host_new("host", HOST_IP), "script", ask_world, &s);
    (void)world_run();
    if (!p->exited || p->status != 0) return "the world's script has not come to its end";
    if (strcmp(by_linux.text, by_world.text) != 0) return difference(seed);
  }
  return NULL;
}
