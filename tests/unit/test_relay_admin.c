/* The admin port as its clients see it: over loopback, with requests as they are written on the wire. */
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/limits.h"
#include "cm.h"
#include "relay/admin.h"

struct world {
  bool draining, failing;
  pthread_t asked_by;
  sigset_t blocked;
};

static int snapshot(void *user, struct status *s) {
  struct world *w = user;
  w->asked_by = pthread_self();
  (void)pthread_sigmask(SIG_SETMASK, NULL, &w->blocked);
  if (w->failing)
    return ERR_NOMEM;
  s->domain = "r1.example.com";
  s->version = "test";
  s->draining = w->draining;
  s->tunnels = calloc(1, sizeof *s->tunnels);
  if (s->tunnels == NULL)
    return ERR_NOMEM;
  s->tunnels_n = 1;
  snprintf(s->tunnels->host, sizeof s->tunnels->host, "abc.r1.example.com");
  return 0;
}

static struct admin *start(struct world *w) {
  struct addr at;
  struct err e = {0};
  struct admin *a = NULL;
  assert_int_equal(addr_parse("127.0.0.1:1", &at, &e), 0);
  addr_set_port(&at, 0);
  if (admin_start(&at, snapshot, w, &a, &e) != 0)
    fail_msg("%s", e.text);
  assert_int_not_equal(admin_port(a), 0);
  return a;
}

static int dial(const struct admin *a) {
  struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(admin_port(a)), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  const struct timeval patience = {.tv_sec = 20};
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  assert_true(fd >= 0);
  assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience), 0);
  assert_int_equal(connect(fd, (const struct sockaddr *)&to, sizeof to), 0);
  return fd;
}

/* Sends the request and reads to the end of the connection. */
static void ask(const struct admin *a, const char *request, char *answer, size_t cap) {
  int fd = dial(a);
  size_t n = 0;
  assert_int_equal(send(fd, request, strlen(request), MSG_NOSIGNAL), (int)strlen(request));
  for (;;) {
    ssize_t got = recv(fd, answer + n, cap - 1 - n, 0);
    if (got <= 0)
      break;
    n += (size_t)got;
  }
  answer[n] = '\0';
  close(fd);
}

static void assert_answer(const struct admin *a, const char *request, const char *status, const char *part) {
  char answer[32768];
  ask(a, request, answer, sizeof answer);
  if (strncmp(answer, status, strlen(status)) != 0 || strstr(answer, part) == NULL)
    fail_msg("%.40s... was answered: %s", request, answer);
}

#define GET(path) "GET " path " HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"

static void health_says_ok_and_then_draining(void **unused) {
  (void)unused;
  struct world w = {0};
  struct admin *a = start(&w);
  assert_answer(a, GET("/healthz"), "HTTP/1.1 200 ", "\r\n\r\nok\n");
  w.draining = true;
  assert_answer(a, GET("/healthz"), "HTTP/1.1 503 ", "\r\n\r\ndraining\n");
  w.failing = true;
  assert_answer(a, GET("/healthz"), "HTTP/1.1 503 ", "no snapshot");
  admin_stop(a);
}

static void metrics_and_status_have_their_types_and_close_the_connection(void **unused) {
  (void)unused;
  struct world w = {0};
  struct admin *a = start(&w);
  assert_answer(a, GET("/metrics"), "HTTP/1.1 200 ", "\nadit_streams_total 0\n");
  assert_answer(a, GET("/metrics"), "HTTP/1.1 200 ", "Content-Type: text/plain; version=0.0.4");
  assert_answer(a, GET("/metrics?x=y"), "HTTP/1.1 200 ", "Connection: close\r\n");
  assert_answer(a, GET("/status"), "HTTP/1.1 200 ", "Content-Type: application/json\r\n");
  assert_answer(a, GET("/status"), "HTTP/1.1 200 ", "\"host\":\"abc.r1.example.com\"");
  admin_stop(a);
}

static void other_paths_are_not_found(void **unused) {
  (void)unused;
  struct world w = {0};
  struct admin *a = start(&w);
  assert_answer(a, GET("/"), "HTTP/1.1 404 ", "/healthz");
  assert_answer(a, GET("/statusx"), "HTTP/1.1 404 ", "");
  assert_answer(a, GET("/healthz/"), "HTTP/1.1 404 ", "");
  admin_stop(a);
}

static void other_methods_are_refused(void **unused) {
  (void)unused;
  struct world w = {0};
  struct admin *a = start(&w);
  assert_answer(a, "POST /status HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 0\r\n\r\n", "HTTP/1.1 501 ", "");
  assert_answer(a, "DELETE /status HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", "HTTP/1.1 501 ", "");
  admin_stop(a);
}

static void a_page_elsewhere_cannot_read_it_through_a_name_of_its_own(void **unused) {
  (void)unused;
  struct world w = {0};
  struct admin *a = start(&w);
  assert_answer(a, "GET /status HTTP/1.1\r\nHost: evil.example:9000\r\n\r\n", "HTTP/1.1 403 ", "");
  assert_answer(a, "GET /status HTTP/1.1\r\nHost: evil.example.127.0.0.1.nip.io\r\n\r\n", "HTTP/1.1 403 ", "");
  assert_answer(a, "GET /status HTTP/1.1\r\nHost: localhost.evil.example\r\n\r\n", "HTTP/1.1 403 ", "");
  assert_answer(a, "GET http://evil.example/status HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", "HTTP/1.1 403 ", "");
  assert_answer(a, "GET /status HTTP/1.1\r\nHost: localhost:9000\r\n\r\n", "HTTP/1.1 200 ", "");
  assert_answer(a, "GET /status HTTP/1.1\r\nHost: 127.0.0.1:9000\r\n\r\n", "HTTP/1.1 200 ", "");
  assert_answer(a, "GET /status HTTP/1.1\r\nHost: [::1]:9000\r\n\r\n", "HTTP/1.1 200 ", "");
  assert_answer(a, "GET /healthz HTTP/1.0\r\n\r\n", "HTTP/1.", "ok\n");
  admin_stop(a);
}

static void long_headers_and_bodies_are_refused(void **unused) {
  (void)unused;
  struct world w = {0};
  struct admin *a = start(&w);
  char *request = malloc(ADMIN_HEADERS_MAX_BYTES * 2), answer[4096];
  assert_non_null(request);
  int n = snprintf(request, 128, "GET /status HTTP/1.1\r\nHost: 127.0.0.1\r\nX: ");
  memset(request + n, 'x', ADMIN_HEADERS_MAX_BYTES);
  memcpy(request + n + ADMIN_HEADERS_MAX_BYTES, "\r\n\r\n", 5);
  ask(a, request, answer, sizeof answer);
  assert_null(strstr(answer, " 200 "));
  assert_answer(a, "GET /status HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 99999999\r\n\r\n", "", "");
  ask(a, "GET /status HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 99999999\r\n\r\n", answer, sizeof answer);
  assert_null(strstr(answer, " 200 "));
  ask(a, "\x16\x03\x01rubbish\r\n\r\n", answer, sizeof answer);
  assert_null(strstr(answer, " 200 "));
  assert_answer(a, GET("/healthz"), "HTTP/1.1 200 ", "ok\n");
  free(request);
  admin_stop(a);
}

static void its_thread_takes_no_signals(void **unused) {
  (void)unused;
  struct world w = {0};
  sigset_t before, after;
  assert_int_equal(pthread_sigmask(SIG_SETMASK, NULL, &before), 0);
  struct admin *a = start(&w);
  assert_int_equal(pthread_sigmask(SIG_SETMASK, NULL, &after), 0);
  assert_int_equal(sigismember(&after, SIGTERM), sigismember(&before, SIGTERM));
  assert_answer(a, GET("/healthz"), "HTTP/1.1 200 ", "ok\n");
  admin_stop(a);
  assert_false(pthread_equal(w.asked_by, pthread_self()));
  assert_int_equal(sigismember(&w.blocked, SIGTERM), 1);
  assert_int_equal(sigismember(&w.blocked, SIGHUP), 1);
}

static void it_stops_at_once_with_connections_open(void **unused) {
  (void)unused;
  struct world w = {0};
  struct admin *a = start(&w);
  int idle = dial(a), half = dial(a);
  assert_int_equal(send(half, "GET /sta", 8, MSG_NOSIGNAL), 8);
  assert_answer(a, GET("/healthz"), "HTTP/1.1 200 ", "ok\n");
  struct timespec from, to;
  clock_gettime(CLOCK_MONOTONIC, &from);
  admin_stop(a);
  clock_gettime(CLOCK_MONOTONIC, &to);
  assert_true(to.tv_sec - from.tv_sec < ADMIN_TIMEOUT_S);
  char byte;
  assert_true(recv(idle, &byte, 1, 0) <= 0);
  assert_true(recv(half, &byte, 1, 0) <= 0);
  close(idle);
  close(half);
}

static void more_connections_than_it_accepts_in_a_second_wait_and_are_answered(void **unused) {
  (void)unused;
  struct world w = {0};
  struct admin *a = start(&w);
  for (int i = 0; i < ADMIN_ACCEPTS_PER_S + 2; i++)
    assert_answer(a, GET("/healthz"), "HTTP/1.1 200 ", "ok\n");
  admin_stop(a);
}

static void an_address_in_use_is_told(void **unused) {
  (void)unused;
  struct world w = {0};
  struct admin *a = start(&w), *second = NULL;
  struct addr at;
  struct err e = {0};
  assert_int_equal(addr_parse("127.0.0.1:1", &at, &e), 0);
  addr_set_port(&at, admin_port(a));
  assert_true(admin_start(&at, snapshot, &w, &second, &e) < 0);
  assert_null(second);
  assert_non_null(strstr(e.text, "admin port"));
  admin_stop(a);
  admin_stop(NULL);
}

int main(void) {
  const struct CMUnitTest tests[] = {
    cmocka_unit_test(health_says_ok_and_then_draining),
    cmocka_unit_test(metrics_and_status_have_their_types_and_close_the_connection),
    cmocka_unit_test(other_paths_are_not_found),
    cmocka_unit_test(other_methods_are_refused),
    cmocka_unit_test(a_page_elsewhere_cannot_read_it_through_a_name_of_its_own),
    cmocka_unit_test(long_headers_and_bodies_are_refused),
    cmocka_unit_test(its_thread_takes_no_signals),
    cmocka_unit_test(it_stops_at_once_with_connections_open),
    cmocka_unit_test(more_connections_than_it_accepts_in_a_second_wait_and_are_answered),
    cmocka_unit_test(an_address_in_use_is_told),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
