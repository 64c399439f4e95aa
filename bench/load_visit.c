/* What visitors do, a thread for each stream, so that what is measured is the other side. Each result says how much
   processor time this process had meanwhile: where that is most of the machine's, visitors are what was measured. */
#include "load_visitor.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct took {
  double seconds, cpu_s;
};

static void run_down(struct visitor *v) {
  uint8_t buf[LOAD_CHUNK_BYTES];
  visitor_ask(v, 'D');
  for (uint64_t left = v->bytes; left > 0;) left -= visitor_read(v, buf, left < sizeof buf ? (size_t)left : sizeof buf);
}

static void run_up(struct visitor *v) {
  static const uint8_t buf[LOAD_CHUNK_BYTES];
  char answer[3];
  visitor_ask(v, 'U');
  for (uint64_t left = v->bytes; left > 0;) {
    size_t n = left < sizeof buf ? (size_t)left : sizeof buf;
    visitor_write(v, buf, n);
    left -= n;
  }
  for (size_t n = 0; n < sizeof answer;) n += visitor_read(v, answer + n, sizeof answer - n);
  if (memcmp(answer, "OK\n", 3) != 0) load_die("up", "wrong answer");
}

/* From before connect() to the answer's first byte. */
static void run_connect(struct visitor *v) {
  for (unsigned i = 0; i < v->count; i++) {
    char answer;
    uint64_t start = load_now_ns();
    visitor_open(v);
    visitor_write(v, "B\n", 2);
    (void)visitor_read(v, &answer, 1);
    v->ns[i] = load_now_ns() - start;
    visitor_close(v);
  }
}

static void *visitor_thread(void *arg) {
  struct visitor *v = arg;
  bool streams = v->run != run_connect;
  if (streams) visitor_open(v);
  (void)pthread_barrier_wait(v->ready);
  v->run(v);
  (void)pthread_barrier_wait(v->ready);
  if (streams) visitor_close(v);
  return NULL;
}

/* From when all were ready to when all were done. */
static struct took visitors_run(const struct load_options *o, void (*run)(struct visitor *), uint64_t *ns) {
  struct visitor *all = calloc(o->streams, sizeof *all);
  pthread_t *threads = calloc(o->streams, sizeof *threads);
  pthread_barrier_t ready;
  if (all == NULL || threads == NULL || pthread_barrier_init(&ready, NULL, o->streams + 1) != 0)
    load_die("start", "out of memory");
  visitor_init(&all[0], o);
  for (unsigned i = 0; i < o->streams; i++) {
    all[i].o = o;
    all[i].ctx = all[0].ctx;
    all[i].to = all[0].to;
    all[i].run = run;
    all[i].ready = &ready;
    all[i].bytes = o->bytes / o->streams;
    all[i].count = o->count / o->streams;
    if (ns != NULL) all[i].ns = ns + (size_t)i * all[i].count;
    if (pthread_create(&threads[i], NULL, visitor_thread, &all[i]) != 0) load_die("start", "no thread");
  }
  (void)pthread_barrier_wait(&ready);
  uint64_t start = load_now_ns(), cpu = load_cpu_ns();
  (void)pthread_barrier_wait(&ready);
  struct took took = {(double)(load_now_ns() - start) / 1e9, (double)(load_cpu_ns() - cpu) / 1e9};
  for (unsigned i = 0; i < o->streams; i++) (void)pthread_join(threads[i], NULL);
  return took;
}

static void print_took(const char *mode, struct took took) {
  (void)printf("{\"mode\":\"%s\",\"seconds\":%.6f,\"cpu_s\":%.4f,", mode, took.seconds, took.cpu_s);
}

static int load_stream(const struct load_options *o, const char *name, void (*run)(struct visitor *)) {
  struct took took = visitors_run(o, run, NULL);
  uint64_t bytes = o->bytes / o->streams * o->streams;
  print_took(name, took);
  (void)printf("\"bytes\":%llu,\"gb_per_s\":%.4f}\n", (unsigned long long)bytes, (double)bytes / 1e9 / took.seconds);
  return 0;
}

int load_down(const struct load_options *o) { return load_stream(o, "down", run_down); }

int load_up(const struct load_options *o) { return load_stream(o, "up", run_up); }

int load_connect(const struct load_options *o) {
  size_t n = o->count / o->streams * o->streams;
  uint64_t *ns = calloc(n + 1, sizeof *ns);
  if (ns == NULL || n == 0) load_die("connect", "wrong count");
  struct took took = visitors_run(o, run_connect, ns);
  print_took("connect", took);
  (void)printf("\"count\":%zu,\"per_s\":%.1f,", n, (double)n / took.seconds);
  load_print_percentiles(ns, n);
  (void)puts("}");
  return 0;
}

static uint64_t ping_once(struct visitor *v) {
  uint8_t message[LOAD_PING_BYTES] = {0};
  uint64_t start = load_now_ns();
  visitor_write(v, message, sizeof message);
  for (size_t n = 0; n < sizeof message;) n += visitor_read(v, message + n, sizeof message - n);
  return load_now_ns() - start;
}

int load_ping(const struct load_options *o) {
  struct visitor v;
  uint64_t *ns = calloc(o->count, sizeof *ns);
  if (ns == NULL) load_die("ping", "out of memory");
  visitor_init(&v, o);
  visitor_open(&v);
  visitor_write(&v, "P\n", 2);
  uint64_t start = load_now_ns(), cpu = load_cpu_ns();
  for (unsigned i = 0; i < o->count; i++) ns[i] = ping_once(&v);
  print_took("ping", (struct took){(double)(load_now_ns() - start) / 1e9, (double)(load_cpu_ns() - cpu) / 1e9});
  (void)printf("\"count\":%u,", o->count);
  load_print_percentiles(ns, o->count);
  (void)puts("}");
  visitor_close(&v);
  return 0;
}

/* Bulk that goes on until the program ends. */
static void *__attribute__((noreturn)) endless_thread(void *arg) {
  struct visitor *v = arg;
  uint8_t buf[LOAD_CHUNK_BYTES];
  visitor_open(v);
  visitor_ask(v, 'D');
  for (;;) atomic_fetch_add_explicit(&v->got, visitor_read(v, buf, sizeof buf), memory_order_relaxed);
}

static uint64_t endless_got(struct visitor *all, unsigned n) {
  uint64_t got = 0;
  for (unsigned i = 0; i < n; i++) got += atomic_load_explicit(&all[i].got, memory_order_relaxed);
  return got;
}

/* The first quarter of the time is for bulk to come up to speed, and is not measured. */
int load_under(const struct load_options *o) {
  enum { PINGS_MAX = 1000000 };
  struct visitor *all = calloc(o->streams + 1, sizeof *all), *v = &all[o->streams];
  uint64_t *ns = calloc(PINGS_MAX, sizeof *ns);
  pthread_t thread;
  if (all == NULL || ns == NULL) load_die("under", "out of memory");
  visitor_init(v, o);
  for (unsigned i = 0; i < o->streams; i++) {
    all[i].o = o;
    all[i].ctx = v->ctx;
    all[i].to = v->to;
    all[i].bytes = UINT64_C(1) << 50;
    if (pthread_create(&thread, NULL, endless_thread, &all[i]) != 0) load_die("start", "no thread");
  }
  visitor_open(v);
  visitor_write(v, "P\n", 2);
  uint64_t all_ns = o->millis * UINT64_C(1000000), begun = load_now_ns();
  while (load_now_ns() - begun < all_ns / 4) (void)ping_once(v);
  uint64_t start = load_now_ns(), cpu = load_cpu_ns(), got = endless_got(all, o->streams);
  unsigned n = 0;
  while (n == 0 || (n < PINGS_MAX && load_now_ns() - start < all_ns)) ns[n++] = ping_once(v);
  struct took took = {(double)(load_now_ns() - start) / 1e9, (double)(load_cpu_ns() - cpu) / 1e9};
  got = endless_got(all, o->streams) - got;
  print_took("under", took);
  (void)printf("\"count\":%u,\"gb_per_s\":%.4f,", n, (double)got / 1e9 / took.seconds);
  load_print_percentiles(ns, n);
  (void)puts("}");
  (void)fflush(stdout);
  _exit(0);                      /* with the streams as they are */
}
