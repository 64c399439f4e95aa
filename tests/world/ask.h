/* Asking Linux and the simulated kernel the same: a script of plain calls runs outside of the world and inside, where
   each call leads to the simulation, and says what it sees. Both must have said the same. */
#ifndef WORLD_ASK_H
#define WORLD_ASK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

typedef void script(void);

/* Inside with packets that arrive as they are sent, and by some seeds with packets that take their time. NULL: the same
   was said; else what, one after the other. */
const char *ask_both(script *s);

/* A test of that name: ask_NAME is said to be the same. */
#define SAME(name)                              \
  static void name(void **state) {              \
    const char *differs = ask_both(ask_##name); \
    (void)state;                                \
    if (differs != NULL) fail_msg("%s", differs); \
  }

/* For scripts: */

void say(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* The result of a call: a number, or the name of its errno, which is to be the call's still. */
void say_result(const char *what, ssize_t r);
#define SAY(call) say_result(#call, (ssize_t)(call))
void say_error(int fd);            /* SO_ERROR */
void say_events(const char *what, uint32_t events);
void say_poll(const char *what, int fd);             /* all events that are there now */
void say_bytes(const char *what, const void *p, ssize_t n);    /* or the error */
void say_recv(const char *what, int fd, size_t n, int flags);

void settle(void);                 /* whatever is on its way arrives */
/* Waits until one of them is there, settles, and says all. */
void await(const char *what, int fd, short events);

int tcp_socket(void);              /* non-blocking */
int tcp_listener(int backlog, uint16_t *port);       /* at 127.0.0.1 */
int tcp_dial(uint16_t port);       /* a non-blocking socket that connects there; errno as after connect */
void tcp_pair(int fds[2]);         /* connected, non-blocking */
int tcp_bind_to(int fd, uint32_t ip, uint16_t port);
uint16_t tcp_port(int fd);
void set_option(int fd, int level, int name, int value);
void set_linger(int fd, bool on, int seconds);
void close_both(int fds[2]);
void local_pair_of(int type, int fds[2]);            /* a non-blocking socketpair */

#endif
