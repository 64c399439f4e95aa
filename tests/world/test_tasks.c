/* Tasks, processes and time of the simulated world, by what they promise. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../unit/cm.h"
#include "base/clock.h"
#include "base/log.h"
#include "disk.h"
#include "times.h"
#include "world.h"

enum { SEEDS = 50, ROUNDS = 20 };

static struct host *host;

static void begin(uint64_t seed) {
  world_begin(&(struct world_options){.seed = seed});
  host = host_new("host", 0x0a000001);
}

/* Locks */

static struct {
  pthread_mutex_t lock;
  pthread_cond_t changed;
  unsigned inside, most, rounds, items, taken;
} shared = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

static void *enter_and_leave(void *arg) {
  for (unsigned i = 0; i < ROUNDS; i++) {
    pthread_mutex_lock(&shared.lock);
    if (++shared.inside > shared.most) shared.most = shared.inside;
    task_yield();
    shared.inside--;
    shared.rounds++;
    pthread_mutex_unlock(&shared.lock);
  }
  return arg;
}

static int run_two_threads(void *arg) {
  pthread_t a, b;
  void *result = NULL;
  (void)arg;
  if (pthread_create(&a, NULL, enter_and_leave, &shared) != 0 || pthread_create(&b, NULL, enter_and_leave, NULL) != 0)
    return EXIT_FAILURE;
  return pthread_join(a, &result) == 0 && result == &shared && pthread_join(b, NULL) == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

static void a_mutex_lets_one_in_at_a_time(void **state) {
  (void)state;
  for (uint64_t seed = 0; seed < SEEDS; seed++) {
    shared.most = shared.rounds = 0;
    begin(seed);
    const struct process *p = process_start(host, "p", run_two_threads, NULL);
    assert_false(world_run());     /* all have ended */
    assert_true(p->exited);
    assert_int_equal(p->status, 0);
    assert_int_equal(shared.most, 1);
    assert_int_equal(shared.rounds, 2 * ROUNDS);
  }
}

static void *take_items(void *arg) {
  (void)arg;
  pthread_mutex_lock(&shared.lock);
  for (unsigned i = 0; i < ROUNDS; i++) {
    while (shared.items == 0) pthread_cond_wait(&shared.changed, &shared.lock);
    shared.items--;
    shared.taken++;
  }
  pthread_mutex_unlock(&shared.lock);
  return NULL;
}

static int run_producer(void *arg) {
  pthread_t takers[2];
  (void)arg;
  for (size_t i = 0; i < 2; i++)
    if (pthread_create(&takers[i], NULL, take_items, NULL) != 0) return EXIT_FAILURE;
  for (unsigned i = 0; i < 2 * ROUNDS; i++) {
    pthread_mutex_lock(&shared.lock);
    shared.items++;
    pthread_cond_signal(&shared.changed);
    pthread_mutex_unlock(&shared.lock);
  }
  for (size_t i = 0; i < 2; i++) (void)pthread_join(takers[i], NULL);
  return EXIT_SUCCESS;
}

static void a_signal_of_a_condition_is_not_lost(void **state) {
  (void)state;
  for (uint64_t seed = 0; seed < SEEDS; seed++) {
    shared.taken = shared.items = 0;
    begin(seed);
    const struct process *p = process_start(host, "p", run_producer, NULL);
    assert_false(world_run());
    assert_true(p->exited);
    assert_int_equal(shared.taken, 2 * ROUNDS);
  }
}

/* Time */

static int sleep_a_second(void *arg) {
  uint64_t before_ms = clock_ms();
  (void)nanosleep(&(struct timespec){.tv_sec = 1}, NULL);
  *(uint64_t *)arg = clock_ms() - before_ms;
  return EXIT_SUCCESS;
}

static void a_second_passes_at_once_and_is_a_second(void **state) {
  uint64_t passed_ms = 0;
  (void)state;
  begin(1);
  (void)process_start(host, "p", sleep_a_second, &passed_ms);
  assert_false(world_run());
  assert_in_range(passed_ms, 1000, 1001);
}

static int wait_for_nobody(void *arg) {
  struct timespec until;
  (void)arg;
  (void)clock_gettime(CLOCK_REALTIME, &until);
  until.tv_sec += 2;
  pthread_mutex_lock(&shared.lock);
  int rc = pthread_cond_timedwait(&shared.changed, &shared.lock, &until);
  pthread_mutex_unlock(&shared.lock);
  return rc == ETIMEDOUT ? EXIT_SUCCESS : EXIT_FAILURE;
}

static void a_wait_ends_at_its_time(void **state) {
  (void)state;
  begin(1);
  const struct process *p = process_start(host, "p", wait_for_nobody, NULL);
  assert_false(world_run());
  assert_int_equal(p->status, 0);
  assert_in_range(world_now_ns(), 2 * WORLD_NS_PER_S, 2 * WORLD_NS_PER_S + WORLD_NS_PER_MS);
}

/* Processes */

static int set_log_level(void *arg) {
  bool debug = arg != NULL;
  if (log_enabled(LOG_DEBUG)) return EXIT_FAILURE;         /* as another has set it */
  log_setup(debug ? LOG_DEBUG : LOG_ERROR, false);
  for (unsigned i = 0; i < ROUNDS; i++) {
    task_yield();
    if (log_enabled(LOG_DEBUG) != debug) return EXIT_FAILURE;
  }
  return EXIT_SUCCESS;
}

static void processes_have_variables_of_their_own(void **state) {
  (void)state;
  begin(1);
  const struct process *a = process_start(host, "a", set_log_level, host);
  const struct process *b = process_start(host, "b", set_log_level, NULL);
  assert_false(world_run());
  assert_int_equal(a->status, 0);
  assert_int_equal(b->status, 0);
}

static unsigned steps;

static int go_on_for_ever(void *arg) {
  (void)arg;
  for (steps = 0; steps < UINT_MAX; steps++) (void)nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
  return EXIT_SUCCESS;
}

static struct { struct world_event event; struct process *victim; } killing;

static void kill_it(struct world_event *e) {
  (void)e;
  process_kill(killing.victim);
}

static void a_killed_process_does_nothing_more(void **state) {
  (void)state;
  begin(1);
  killing.event = (struct world_event){0};
  killing.victim = process_start(host, "p", go_on_for_ever, NULL);
  world_at(&killing.event, 10 * WORLD_NS_PER_MS, kill_it);
  assert_false(world_run());
  assert_true(killing.victim->exited);
  assert_int_equal(killing.victim->status, SIGKILL);
  assert_in_range(steps, 9, 10);
}

static int kill_oneself(void *arg) {
  (void)arg;
  (void)raise(SIGKILL);
  return EXIT_SUCCESS;
}

static void a_process_may_kill_itself(void **state) {
  (void)state;
  begin(1);
  const struct process *p = process_start(host, "p", kill_oneself, NULL);
  assert_false(world_run());
  assert_int_equal(p->status, SIGKILL);
}

/* Disks */

static int write_two(void *arg) {
  const bool sync = arg != NULL;
  int fd = open("/one", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
  if (fd < 0 || write(fd, "first", 5) != 5) return EXIT_FAILURE;
  int folder = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (sync && (fsync(fd) != 0 || fsync(folder) != 0)) return EXIT_FAILURE;
  return write(fd, " second", 7) == 7 ? EXIT_SUCCESS : EXIT_FAILURE;
}

static char found[32];
static bool there;

static int read_one(void *arg) {
  (void)arg;
  int fd = open("/one", O_RDONLY | O_CLOEXEC);
  there = fd >= 0;
  memset(found, 0, sizeof found);
  return fd < 0 || read(fd, found, sizeof found - 1) >= 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

static void what_was_written_outlives_a_process(void **state) {
  (void)state;
  begin(1);
  (void)process_start(host, "p", write_two, NULL);
  assert_false(world_run());
  (void)process_start(host, "q", read_one, NULL);
  assert_false(world_run());
  assert_string_equal(found, "first second");
}

static void a_power_cut_takes_only_what_was_not_synced(void **state) {
  bool lost = false, kept = false;
  (void)state;
  for (uint64_t seed = 0; seed < SEEDS; seed++) {
    begin(seed);
    (void)process_start(host, "p", write_two, host);
    assert_false(world_run());
    disk_cut_power(host->disk);
    (void)process_start(host, "q", read_one, NULL);
    assert_false(world_run());
    assert_true(there);
    lost = lost || strcmp(found, "first") == 0;
    kept = kept || strcmp(found, "first second") == 0;
    assert_memory_equal(found, "first", 5);
  }
  assert_true(lost && kept);
}

static int hold_lock(void *arg) {
  int fd = open("/lock", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  bool held = flock(fd, LOCK_EX | LOCK_NB) == 0;
  if (arg != NULL && held) (void)nanosleep(&(struct timespec){.tv_sec = 1}, NULL);
  return held ? EXIT_SUCCESS : EXIT_FAILURE;
}

static struct process *second;
static void start_second(struct world_event *e) {
  (void)e;
  second = process_start(host, "q", hold_lock, NULL);
}

static void a_lock_goes_with_its_process(void **state) {
  struct world_event later = {0};
  (void)state;
  begin(1);
  (void)process_start(host, "p", hold_lock, host);
  world_at(&later, WORLD_NS_PER_S / 2, start_second);
  assert_false(world_run());
  assert_int_not_equal(second->status, 0);
  start_second(NULL);
  assert_false(world_run());
  assert_int_equal(second->status, 0);
}

/* Runs */

static void stop(struct world_event *e) {
  (void)e;
  world_stop();
}

static uint64_t hash_of(uint64_t seed) {
  struct world_event end = {0};
  begin(seed);
  (void)process_start(host, "p", run_two_threads, NULL);
  (void)process_start(host, "q", go_on_for_ever, NULL);
  (void)process_start(host, "r", write_two, host);
  world_at(&end, 5 * WORLD_NS_PER_MS, stop);
  assert_true(world_run());
  world_trace("end", world_random(), 0);
  return world_hash();
}

static void a_seed_says_all(void **state) {
  (void)state;
  for (uint64_t seed = 0; seed < SEEDS; seed++) {
    assert_int_equal(hash_of(seed), hash_of(seed));
    assert_int_not_equal(hash_of(seed), hash_of(seed + 1));
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(a_mutex_lets_one_in_at_a_time),
      cmocka_unit_test(a_signal_of_a_condition_is_not_lost),
      cmocka_unit_test(a_second_passes_at_once_and_is_a_second),
      cmocka_unit_test(a_wait_ends_at_its_time),
      cmocka_unit_test(processes_have_variables_of_their_own),
      cmocka_unit_test(a_killed_process_does_nothing_more),
      cmocka_unit_test(a_process_may_kill_itself),
      cmocka_unit_test(what_was_written_outlives_a_process),
      cmocka_unit_test(a_power_cut_takes_only_what_was_not_synced),
      cmocka_unit_test(a_lock_goes_with_its_process),
      cmocka_unit_test(a_seed_says_all)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
