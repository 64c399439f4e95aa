/* Visitors that stay. Both print how many there are once all are, and end when their input does: `idle` say nothing
   after their first byte, `slow` have asked for more than they will ever take and take a little now and then. */
#include "load_visitor.h"

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <unistd.h>

enum { OPENERS = 8, SLOW_PAUSE_MS = 100, SLOW_BYTES = 4096 };

static void run_idle(struct visitor *v) {
  char answer;
  visitor_write(v, "B\n", 2);
  (void)visitor_read(v, &answer, 1);
}

static void run_slow(struct visitor *v) {
  char first;
  v->bytes = UINT64_C(1) << 50;
  visitor_ask(v, 'D');
  (void)visitor_read(v, &first, 1);
}

struct opener {
  struct visitor *first;
  unsigned count;
};

static void *opener_thread(void *arg) {
  struct opener *opener = arg;
  for (unsigned i = 0; i < opener->count; i++) {
    visitor_open(&opener->first[i]);
    opener->first[i].run(&opener->first[i]);
  }
  return NULL;
}

static struct visitor *visitors_open(const struct load_options *o, void (*run)(struct visitor *)) {
  struct visitor *all = calloc(o->count, sizeof *all);
  struct opener openers[OPENERS];
  pthread_t threads[OPENERS];
  (void)prctl(PR_SET_PDEATHSIG, SIGTERM);
  if (all == NULL) load_die("start", "out of memory");
  visitor_init(&all[0], o);
  for (unsigned i = 0; i < o->count; i++) {
    all[i].o = o;
    all[i].ctx = all[0].ctx;
    all[i].to = all[0].to;
    all[i].run = run;
  }
  for (unsigned i = 0; i < OPENERS; i++) {
    unsigned from = o->count * i / OPENERS;
    openers[i] = (struct opener){all + from, o->count * (i + 1) / OPENERS - from};
    if (pthread_create(&threads[i], NULL, opener_thread, &openers[i]) != 0) load_die("start", "no thread");
  }
  for (unsigned i = 0; i < OPENERS; i++) (void)pthread_join(threads[i], NULL);
  (void)printf("{\"count\":%u}\n", o->count);
  (void)fflush(stdout);
  return all;
}

/* The end of input, for at most so long: -1 is forever. */
static bool input_ended(int wait_ms) {
  char byte;
  struct pollfd input = {.fd = STDIN_FILENO, .events = POLLIN};
  return poll(&input, 1, wait_ms) > 0 && read(STDIN_FILENO, &byte, 1) <= 0;
}

int load_idle(const struct load_options *o) {
  (void)visitors_open(o, run_idle);
  while (!input_ended(-1)) {}
  return 0;
}

int load_slow(const struct load_options *o) {
  struct visitor *all = visitors_open(o, run_slow);
  uint8_t buf[SLOW_BYTES];
  while (!input_ended(SLOW_PAUSE_MS)) {
    for (unsigned i = 0; i < o->count; i++) {
      struct pollfd in = {.fd = all[i].fd, .events = POLLIN};
      if (poll(&in, 1, 0) > 0) (void)visitor_read(&all[i], buf, sizeof buf);
    }
  }
  return 0;
}
