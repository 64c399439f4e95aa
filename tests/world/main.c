/* world: runs of the simulated world, each in a process of its own, by its seed. */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/base.h"
#include "cast.h"
#include "director.h"
#include "randomness.h"
#include "sqlite_vfs.h"
#include "tls/tls_kdf.h"
#include "tls/tls_server.h"
#include "watch.h"

enum { VISITORS_DEFAULT = 100 };

static const char usage[] =
    "usage: world [--seed N] [--seeds N] [--events M] [--visitors N] [--calm] [--twice] [--first] [--trace]\n"
    "  --seed N      the first seed (default: 1)\n"
    "  --seeds N     how many, one after the other (default: 1)\n"
    "  --events M    a run ends after so many (default: when its visitors have been)\n"
    "  --visitors N  how many come (default: 100)\n"
    "  --calm        nobody is killed, and every visitor must be served\n"
    "  --twice       every seed twice, which must come to the same\n"
    "  --first       not further than the first seed that breaks a rule\n"
    "  --trace       every event in words on standard error\n";

struct arguments {
  struct world_options world;
  struct director_options director;
  uint64_t seeds;
  bool twice, first;
};

struct report {
  uint64_t events, hash, whole, broken, unreached, virtual_ms;
};

static void play(const struct arguments *a, uint64_t seed, struct report *r) {
  struct world_options o = a->world;
  o.seed = seed;
  if (seed % 2 == 0) tls_kdf_install();          /* a relay does where it may; there is another way to the same */
  randomness_install();
  world_begin(&o);
  watch_begin();
  cast_begin();
  director_begin(&a->director);
  if (!world_run()) world_fail("everybody waits for ever");
  *r = (struct report){.events = world_events(), .hash = world_hash(), .whole = cast.whole, .broken = cast.broken,
                       .unreached = cast.unreached, .virtual_ms = world_now_ns() / WORLD_NS_PER_MS};
}

/* In a child, whose memory and variables go with it. */
static bool play_apart(const struct arguments *a, uint64_t seed, struct report *r) {
  int fds[2], status = 0;
  if (fflush(stdout) != 0 || pipe(fds) != 0) return false;
  pid_t child = fork();
  if (child == 0) {
    play(a, seed, r);
    _exit(write(fds[1], r, sizeof *r) == (ssize_t)sizeof *r ? EXIT_SUCCESS : EXIT_FAILURE);
  }
  (void)close(fds[1]);
  bool whole = child > 0 && read(fds[0], r, sizeof *r) == (ssize_t)sizeof *r;
  (void)close(fds[0]);
  if (child > 0) (void)waitpid(child, &status, 0);
  if (WIFSIGNALED(status)) (void)fprintf(stderr, "world: seed %" PRIu64 ": signal %d\n", seed, WTERMSIG(status));
  return whole && status == 0;
}

static bool play_seed(const struct arguments *a, uint64_t seed, struct report *sum) {
  struct report r, again;
  if (!play_apart(a, seed, &r)) return false;
  if (a->twice && (!play_apart(a, seed, &again) || again.hash != r.hash)) {
    (void)fprintf(stderr, "world: seed %" PRIu64 ": the second run was another\n", seed);
    return false;
  }
  printf("seed %" PRIu64 ": %" PRIu64 " events in %" PRIu64 " ms of the world, visitors: %" PRIu64 " served, %" PRIu64
         " broken off, %" PRIu64 " not let in; %016" PRIx64 "\n",
         seed, r.events, r.virtual_ms, r.whole, r.broken, r.unreached, r.hash);
  sum->events += r.events * (a->twice ? 2 : 1);
  return true;
}

static uint64_t number(const char *text) {
  char *end;
  errno = 0;
  uint64_t n = strtoull(text, &end, 10);
  if (errno == 0 && *text != '\0' && *end == '\0') return n;
  (void)fprintf(stderr, "world: %s: not a number\n%s", text, usage);
  exit(EXIT_FAILURE);
}

static void parse(int argc, char **argv, struct arguments *a) {
  static const struct option rows[] = {
      {"seed", required_argument, NULL, 's'},   {"seeds", required_argument, NULL, 'n'},
      {"events", required_argument, NULL, 'e'}, {"visitors", required_argument, NULL, 'v'},
      {"calm", no_argument, NULL, 'c'},         {"twice", no_argument, NULL, '2'},
      {"trace", no_argument, NULL, 't'},        {"first", no_argument, NULL, '1'},
      {NULL, 0, NULL, 0}};
  *a = (struct arguments){.world.seed = 1, .director.visitors = VISITORS_DEFAULT, .seeds = 1};
  for (int c; (c = getopt_long(argc, argv, "", rows, NULL)) != -1;) {
    if (c == 's') a->world.seed = number(optarg);
    else if (c == 'n') a->seeds = number(optarg);
    else if (c == 'e') a->world.events_max = number(optarg);
    else if (c == 'v') a->director.visitors = (unsigned)number(optarg);
    else if (c == 'c') a->director.calm = true;
    else if (c == '2') a->twice = true;
    else if (c == '1') a->first = true;
    else if (c == 't') a->world.trace = true;
    else exit(EXIT_FAILURE);
  }
}

/* Once, before anything is simulated: what OpenSSL and SQLite have for a whole process. */
static void prepare(void) {
  ASSERT(tls_wipe_on_free_install() == 0);
  sqlite_vfs_install();
}

int main(int argc, char **argv) {
  struct arguments a;
  struct report sum = {0};
  uint64_t passed = 0, failed = 0;
  parse(argc, argv, &a);
  prepare();
  for (uint64_t i = 0; i < a.seeds && (failed == 0 || !a.first); i++) {
    if (play_seed(&a, a.world.seed + i, &sum)) passed++;
    else failed++;
  }
  printf("%" PRIu64 " events\n%" PRIu64 " passed, %" PRIu64 " failed\n", sum.events, passed, failed);
  return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
