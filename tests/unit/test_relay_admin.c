/* The admin port as its clients see it: over loopback, with requests as they are written on the wire. */
#include <netinet/in.h>
#include <pthread.h>
#include <sched.h>
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
#include "relay/rights.h"

struct world {
  bool draining, out_of_memory;
  size_t tunnels, tokens, narrowed;  /* how many there are */
  size_t streams;                    /* atomic, as the next */
  size_t numbers, walks, walks_ended, batches;   /* how often it was asked; atomic */
  pthread_t asked_by;
  sigset_t blocked;
};

static void count(size_t *n) { (void)__atomic_add_fetch(n, 1, __ATOMIC_RELAXED); }
static size_t counted(size_t *n) { return __atomic_load_n(n, __ATOMIC_RELAXED); }

static bool is_draining(void *user) {
  struct world *w = user;
  w->asked_by = pthread_self();
  (void)pthread_sigmask(SIG_SETMASK, NULL, &w->blocked);
  return w->draining;
}

static const struct rights no_rights;

static void numbers(void *user, struct status *s) {
  struct world *w = user;
  memset(s, 0, sizeof *s);
  s->domain = "r1.example.com";
  s->version = "test";
  s->rights = &no_rights;
  s->sum.streams_total = counted(&w->streams);
  count(&w->numbers);
}

static void *walk_begin(void *user) {
  struct world *w = user;
  if (w->out_of_memory) return NULL;
  count(&w->walks);
  return calloc(3, sizeof(size_t));              /* how many of each were met */
}

static size_t walk_next(void *user, void *walk, struct status_tunnel out[STATUS_BATCH_MAX]) {
  struct world *w = user;
  size_t *met = walk, n = size_min(STATUS_BATCH_MAX, w->tunnels - *met);
  memset(out, 0, n * sizeof *out);
  for (size_t i = 0; i < n; i++) snprintf(out[i].host, sizeof out[i].host, "t%zu.r1.example.com", (*met)++);
  count(&w->batches);
  return n;
}

static size_t walk_tokens(void *user, void *walk, struct status_token out[STATUS_BATCH_MAX]) {
  struct world *w = user;
  size_t *met = (size_t *)walk + 1, n = size_min(STATUS_BATCH_MAX, w->tokens - *met);
  memset(out, 0, n * sizeof *out);
  for (size_t i = 0; i < n; i++) snprintf(out[i].name, sizeof out[i].name, "token-%zu", (*met)++);
  return n;
}

static size_t walk_narrowed(void *user, void *walk, struct status_token out[STATUS_BATCH_MAX]) {
  struct world *w = user;
  size_t *met = (size_t *)walk + 2, n = size_min(STATUS_BATCH_MAX, w->narrowed - *met);
  memset(out, 0, n * sizeof *out);
  for (size_t i = 0; i < n; i++) snprintf(out[i].name, sizeof out[i].name, "token/%zu", (*met)++);
  return n;
}

static void walk_end(void *user, void *walk) {
  struct world *w = user;
  count(&w->walks_ended);
  free(walk);
}

static struct admin_source source_of(struct world *w) {
  return (struct admin_source){.user = w, .draining = is_draining, .numbers = numbers, .walk_begin = walk_begin,
                               .walk_next = walk_next, .walk_tokens = walk_tokens,
                               .walk_narrowed = walk_narrowed, .walk_end = walk_end};
}

static struct admin *start(struct world *w) {
  struct addr at;
  struct err e = {0};
  struct admin *a = NULL;
  assert_int_equal(addr_parse("127.0.0.1:1", &at, &e), 0);
  addr_set_port(&at, 0);
  const struct admin_source source = source_of(w);
  int fd = admin_listen(&at, &e);
  if (fd < 0 || admin_start(fd, &at, &source, &a, &e) != 0)
    fail_msg("%s", e.text);
  assert_int_not_equal(admin_port(a), 0);
  return a;
}

static int dial(const struct admin *a) {
  struct sockaddr_in to = {
      .sin_family = AF_INET, .sin_port = htons(admin_port(a)), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  const struct timeval patience = {.tv_sec = 20};
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  assert_true(fd >= 0);
  assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience), 0);
  assert_int_equal(connect(fd, (const struct sockaddr *)&to, sizeof to), 0);
  return fd;
}

/* To the end of the connection. */
static void read_all(int fd, char *answer, size_t cap) {
  size_t n = 0;
  for (ssize_t got; (got = recv(fd, answer + n, cap - 1 - n, 0)) > 0; n += (size_t)got) continue;
  answer[n] = '\0';
  close(fd);
}

static void reset(int fd) {
  const struct linger l = {.l_onoff = 1};
  assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_LINGER, &l, sizeof l), 0);
  close(fd);
}

static void ask(const struct admin *a, const char *request, char *answer, size_t cap) {
  int fd = dial(a);
  assert_int_equal(send(fd, request, strlen(request), MSG_NOSIGNAL), (int)strlen(request));
  read_all(fd, answer, cap);
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

static void health_and_metrics_ask_for_nothing_that_they_do_not_show(void **unused) {
  (void)unused;
  struct world w = {.tunnels = 1000};
  struct admin *a = start(&w);
  assert_answer(a, GET("/healthz"), "HTTP/1.1 200 ", "ok\n");
  assert_int_equal(w.numbers, 0);
  assert_answer(a, GET("/metrics"), "HTTP/1.1 200 ", "\nadit_tunnels_now 0\n");
  assert_int_equal(w.numbers, 1);
  assert_int_equal(w.walks, 0);
  admin_stop(a);
}

static void the_status_lists_every_tunnel_and_token_over_many_batches(void **unused) {
  (void)unused;
  enum { CAP = 1 << 20 };
  struct world w = {.tunnels = 10 * STATUS_BATCH_MAX + 1, .tokens = 2 * STATUS_BATCH_MAX + 1,
                    .narrowed = STATUS_BATCH_MAX + 1};
  struct admin *a = start(&w);
  char *answer = malloc(CAP);
  assert_non_null(answer);
  ask(a, "GET /status HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n", answer, CAP);
  assert_null(strstr(answer, "chunked"));
  char *at = strstr(answer, "\"tunnels\":[");
  assert_non_null(at);
  for (size_t i = 0; i < w.tunnels; i++) {
    char host[64];
    snprintf(host, sizeof host, "%s{\"host\":\"t%zu.r1.example.com\"", i == 0 ? "[" : ",", i);
    at = strstr(at, host);
    assert_non_null(at);
  }
  at = strstr(at, "}],\"tokens\":[");
  assert_non_null(at);
  for (size_t i = 0; i < w.tokens; i++) {
    char name[64];
    snprintf(name, sizeof name, "%s{\"name\":\"token-%zu\"", i == 0 ? "[" : ",", i);
    at = strstr(at, name);
    assert_non_null(at);
  }
  at = strstr(at, "}],\"narrowed\":[");
  assert_non_null(at);
  for (size_t i = 0; i < w.narrowed; i++) {
    char name[64];
    snprintf(name, sizeof name, "%s{\"name\":\"token/%zu\"", i == 0 ? "[" : ",", i);
    at = strstr(at, name);
    assert_non_null(at);
  }
  assert_non_null(strstr(at, "}]}\n"));
  assert_int_equal(w.batches, 12);
  assert_int_equal(w.walks_ended, 1);
  w.tunnels = w.tokens = w.narrowed = 0;
  ask(a, "GET /status HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n", answer, CAP);
  assert_non_null(strstr(answer, "\"tunnels\":[],\"tokens\":[],\"narrowed\":[]}\n"));
  w.out_of_memory = true;
  assert_answer(a, GET("/status"), "HTTP/1.1 503 ", "out of memory");
  admin_stop(a);
  free(answer);
}

static void wait_for(size_t *n, size_t value) {
  while (counted(n) != value) sched_yield();
}

/* Who does not read is given no more than the sockets hold, and his walk ends with him or with us. */
static void a_client_that_does_not_read_the_status_holds_nothing_for_ever(void **unused) {
  (void)unused;
  struct world w = {.tunnels = 1000000};
  struct admin *a = start(&w);
  int leaves = dial(a), stays = dial(a);
  assert_int_equal(send(leaves, GET("/status"), strlen(GET("/status")), MSG_NOSIGNAL), (int)strlen(GET("/status")));
  wait_for(&w.walks, 1);
  reset(leaves);
  wait_for(&w.walks_ended, 1);
  assert_int_equal(send(stays, GET("/status"), strlen(GET("/status")), MSG_NOSIGNAL), (int)strlen(GET("/status")));
  wait_for(&w.walks, 2);
  assert_answer(a, GET("/healthz"), "HTTP/1.1 200 ", "ok\n");
  assert_int_equal(w.walks_ended, 1);
  admin_stop(a);
  assert_int_equal(w.walks_ended, 2);
  assert_true(w.batches < w.tunnels / STATUS_BATCH_MAX);
  close(stays);
}

static void head_is_get_without_its_body(void **unused) {
  (void)unused;
  struct world w = {.tunnels = 10};
  struct admin *a = start(&w);
  static const struct { const char *path, *type; } cases[] = {
      {"/healthz", "text/plain; charset"}, {"/metrics", "text/plain; version=0.0.4"}, {"/status", "application/json"}};
  for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
    char request[128], got[32768], head[4096];
    for (int minor = 0; minor <= 1; minor++) {
      snprintf(request, sizeof request, "GET %s HTTP/1.%d\r\nHost: 127.0.0.1\r\n\r\n", cases[i].path, minor);
      ask(a, request, got, sizeof got);
      snprintf(request, sizeof request, "HEAD %s HTTP/1.%d\r\nHost: 127.0.0.1\r\n\r\n", cases[i].path, minor);
      ask(a, request, head, sizeof head);
      assert_int_equal(strncmp(head, got, strlen("HTTP/1.1 200 ")), 0);
      assert_non_null(strstr(head, cases[i].type));
      char *end = strstr(head, "\r\n\r\n"), *length = strstr(head, "Content-Length: ");
      assert_non_null(end);
      assert_string_equal(end + 4, "");
      if (strcmp(cases[i].path, "/status") == 0) assert_null(length);
      else
        assert_int_equal(strtoul(length + strlen("Content-Length: "), NULL, 10), strlen(strstr(got, "\r\n\r\n") + 4));
    }
  }
  assert_int_equal(w.walks, 2);                  /* for GET only */
  w.draining = true;
  assert_answer(a, "HEAD /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", "HTTP/1.1 503 ", "");
  assert_answer(a, "HEAD /nothing HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", "HTTP/1.1 404 ", "");
  admin_stop(a);
}

static void every_path_says_what_may_be_asked_of_it(void **unused) {
  (void)unused;
  struct world w = {0};
  struct admin *a = start(&w);
  static const char *const paths[] = {"/healthz", "/metrics", "/status"};
  static const char *const others[] = {"POST", "PUT", "DELETE", "TRACE", "PATCH"};
  char request[128];
  for (size_t i = 0; i < ARRAY_LEN(paths); i++) {
    snprintf(request, sizeof request, "OPTIONS %s HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", paths[i]);
    assert_answer(a, request, "HTTP/1.1 204 ", "Allow: GET, HEAD, OPTIONS\r\n");
    for (size_t j = 0; j < ARRAY_LEN(others); j++) {
      snprintf(request, sizeof request, "%s %s HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 0\r\n\r\n", others[j],
               paths[i]);
      assert_answer(a, request, "HTTP/1.1 405 ", "Allow: GET, HEAD, OPTIONS\r\n");
    }
  }
  assert_answer(a, "OPTIONS /nothing HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", "HTTP/1.1 404 ", "");
  assert_answer(a, "OPTIONS /status HTTP/1.1\r\nHost: evil.example\r\n\r\n", "HTTP/1.1 403 ", "");
  assert_answer(a, "CONNECT example.com:443 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", "HTTP/1.1 4", "");
  assert_answer(a, "BREW /status HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", "HTTP/1.1 ", "");
  assert_int_equal(w.numbers + w.walks, 0);
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

/* A successor has what was counted, and goes on from there: no counter that he has told goes back. */
static void who_comes_when_the_door_is_closed_is_a_successors_and_who_was_in_is_told_what_was_then(void **unused) {
  static const char half[] = "GET /metrics HTTP/1.1\r\n", rest[] = "Host: 127.0.0.1\r\n\r\n";
  (void)unused;
  struct world w = {.streams = 7};
  struct admin *a = start(&w);
  enum { CAP = 1 << 16 };
  char *answer = malloc(CAP);
  int in = dial(a);
  assert_int_equal(send(in, half, sizeof half - 1, MSG_NOSIGNAL), sizeof half - 1);
  assert_answer(a, GET("/metrics"), "HTTP/1.1 200 ", "adit_streams_total 7\n");          /* he was accepted before */
  admin_close_door(a);
  int late = dial(a), his = accept(admin_descriptor(a), NULL, NULL);
  assert_true(his >= 0);
  __atomic_store_n(&w.streams, 9, __ATOMIC_RELAXED);
  assert_int_equal(send(in, rest, sizeof rest - 1, MSG_NOSIGNAL), sizeof rest - 1);
  read_all(in, answer, CAP);
  assert_non_null(strstr(answer, "adit_streams_total 7\n"));
  admin_leave(a);
  close(late);
  close(his);
  free(answer);
}

static void an_address_in_use_is_told(void **unused) {
  (void)unused;
  struct world w = {0};
  struct admin *a = start(&w);
  struct addr at;
  struct err e = {0};
  assert_int_equal(addr_parse("127.0.0.1:1", &at, &e), 0);
  addr_set_port(&at, admin_port(a));
  assert_int_equal(admin_listen(&at, &e), ERR_CONFLICT);
  assert_non_null(strstr(e.text, "admin port"));
  admin_stop(a);
  admin_stop(NULL);
}

int main(void) {
  const struct CMUnitTest tests[] = {
    cmocka_unit_test(health_says_ok_and_then_draining),
    cmocka_unit_test(metrics_and_status_have_their_types_and_close_the_connection),
    cmocka_unit_test(other_paths_are_not_found),
    cmocka_unit_test(health_and_metrics_ask_for_nothing_that_they_do_not_show),
    cmocka_unit_test(the_status_lists_every_tunnel_and_token_over_many_batches),
    cmocka_unit_test(a_client_that_does_not_read_the_status_holds_nothing_for_ever),
    cmocka_unit_test(head_is_get_without_its_body),
    cmocka_unit_test(every_path_says_what_may_be_asked_of_it),
    cmocka_unit_test(a_page_elsewhere_cannot_read_it_through_a_name_of_its_own),
    cmocka_unit_test(long_headers_and_bodies_are_refused),
    cmocka_unit_test(its_thread_takes_no_signals),
    cmocka_unit_test(it_stops_at_once_with_connections_open),
    cmocka_unit_test(more_connections_than_it_accepts_in_a_second_wait_and_are_answered),
    cmocka_unit_test(who_comes_when_the_door_is_closed_is_a_successors_and_who_was_in_is_told_what_was_then),
    cmocka_unit_test(an_address_in_use_is_told),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
