/* See director.h. The director is a process of a host of its own. */
#include "director.h"

#include <stdlib.h>

#include "base/base.h"
#include "cast.h"
#include "chaos.h"
#include "disk.h"
#include "kernel.h"
#include "stand_in_starter.h"

enum { AT_ONCE_MAX = 12, ARRIVAL_MAX_MS = 20, DAY_MAX_MS = 1500, NIGHT_MAX_MS = 500, TALK_LARGE_BYTES = 200000,
       TALK_SMALL_BYTES = 3000, RECOVERY_MAX_MS = 180000, LOOK_MS = 250, QUIET_VISITORS = 8, UPGRADE_MAX_MS = 800,
       HEIR_KILLED_ONE_IN = 3, HEIR_LIFE_MAX_US = 3000, POWER_CUT_ONE_IN = 2, BREAKS_OFF_ONE_IN = 4,
       STORM_MAX_MS = 20000, LEAVE_MAX_MS = 300000, SETTLE_MS = 60000,
       RELAY_BEGINS_MS = 10, READY_MAX = 6, PIPES_PER_VISITOR = 4 };

struct cast cast;

static struct director_options options;
static struct host *relay_host, *agent_host, *rivals_host, *visitors_host;
static bool over;
static bool heir_killed;           /* at least one */
static bool storm;                 /* processes are killed */
static unsigned here;              /* visitors that have not left yet */
static struct waiters left;

void cast_begin(void) {
  waiters_init(&cast.opened);
  cast.copies = world_chance(3);
  cast.plain = world_chance(2);
  cast.upgrades = world_chance(2);
  cast.workers = 1 + (unsigned)world_below(3);
  cast.talk_max_bytes = world_chance(2) ? TALK_LARGE_BYTES : TALK_SMALL_BYTES;
}

static void pause_us(uint64_t us) {
  uint64_t until_ns = world_now_ns() + us * WORLD_NS_PER_US;
  while (task_sleep(until_ns)) continue;
}

static void pause_ms(uint64_t ms) { pause_us(ms * 1000); }

/* Somebody who is killed and started again, day by day, while the storm lasts. */
struct mortal {
  struct host **host;
  const char *name;
  int (*main)(void *arg);
  enum owner owner;                /* its argument */
  struct process *now;             /* NULL: at night */
  uint64_t began_ns;
  bool replaced;                   /* it was killed for another to begin */
};
enum { RELAY, AGENT, RIVAL, OTHER_RIVAL, MORTALS };
static struct mortal mortals[MORTALS] = {
    [RELAY] = {.host = &relay_host, .name = "relay", .main = cast_relay},
    [AGENT] = {.host = &agent_host, .name = "agent", .main = cast_agent},
    [RIVAL] = {.host = &rivals_host, .name = "rival", .main = cast_rival, .owner = OWNER_RIVAL},
    [OTHER_RIVAL] = {.host = &rivals_host, .name = "rival", .main = cast_rival, .owner = OWNER_OTHER_RIVAL}};

/* Until it ends, or its day does. */
static void live(const struct mortal *m) {
  struct process *p = m->now;
  uint64_t dies_ns = world_now_ns() + (1 + world_below(DAY_MAX_MS)) * WORLD_NS_PER_MS;
  while (!p->exited && (!storm || world_now_ns() < dies_ns))
    (void)task_park(&p->ended, storm ? dies_ns : WORLD_NEVER);
}

/* All of a host at once, and what was not synced on its disk. Its peers hear nothing of it. */
static void cut_power(struct host *h) {
  world_trace("power cut", h->ip, 0);
  network_host_down(h);
  LIST_FOREACH(&h->processes, it) process_kill(CONTAINER_OF(it, struct process, of_host));
  disk_cut_power(h->disk);
  pause_ms(world_below(NIGHT_MAX_MS));
  network_host_up(h);
}

static void start_app(void) { (void)process_start(agent_host, "app", cast_app, NULL); }

static void die(const struct mortal *m) {
  if ((m == &mortals[RELAY] || m == &mortals[AGENT]) && world_chance(POWER_CUT_ONE_IN)) {
    cut_power(*m->host);
    if (m == &mortals[AGENT]) start_app();
  } else {
    process_kill(m->now);
  }
}

/* A relay may be followed by another that it has handed everything to. One whose heir was killed after it had given up
   its place drains and ends. One that is short of memory may not come up, and an agent that starts then ends with what
   it is told. */
static void *live_and_die(void *arg) {
  struct mortal *m = arg;
  for (;;) {
    if (m->now == NULL) m->now = process_start(*m->host, m->name, m->main, (void *)(intptr_t)m->owner);
    m->began_ns = world_now_ns();
    live(m);
    bool by_itself = m->now->exited && !m->replaced && !chaos_short_since(m->began_ns);
    if (!m->now->exited) die(m);
    struct process *heir = starter_heir(m->now);
    if (by_itself && ((heir == NULL && !heir_killed) || m->now->status != 0))
      world_fail("%s has ended by itself, with status %d", m->name, m->now->status);
    m->now = heir;
    m->replaced = false;
    if (heir == NULL) pause_ms(world_below(NIGHT_MAX_MS));
  }
}

/* The relay's program is replaced, again and again, which nobody may notice. Not before it is one: a signal ends a
   program that has only just been started. */
static void *upgrade(void *arg) {
  while (!over) {
    pause_ms(1 + world_below(UPGRADE_MAX_MS));
    const struct process *relay = mortals[RELAY].now;
    if (relay == NULL || world_now_ns() < mortals[RELAY].began_ns + RELAY_BEGINS_MS * WORLD_NS_PER_MS) continue;
    process_signal(mortals[RELAY].now, SIGUSR2);
    if (!storm || !world_chance(HEIR_KILLED_ONE_IN)) continue;
    pause_us(world_below(HEIR_LIFE_MAX_US));
    struct process *heir = starter_child(relay);
    if (heir == NULL) continue;
    heir_killed = true;
    process_kill(heir);
  }
  return arg;
}

static void *see_off(void *arg) {
  (void)process_wait(arg);
  here--;
  waiters_wake(&left);
  return NULL;
}

static void let_in(bool raw) {
  here++;
  struct process *p = process_start(visitors_host, "visitor", raw ? cast_raw_visitor : cast_tls_visitor, NULL);
  task_detach(task_start(process_current(), see_off, p));
}

/* Until so few are left, or the storm has lasted long enough. */
static bool wait_for_few(unsigned few, uint64_t until_ns) {
  while (here > few) {
    if (!task_park(&left, until_ns)) return false;
  }
  return true;
}

/* All of them, or as many as come before the storm has lasted long enough. */
static void let_visitors_in(void) {
  uint64_t until_ns = storm ? world_now_ns() + STORM_MAX_MS * WORLD_NS_PER_MS : WORLD_NEVER;
  for (unsigned i = 0; i < options.visitors && wait_for_few(AT_ONCE_MAX - 1, until_ns); i++) {
    let_in(world_chance(2));
    pause_ms(world_below(ARRIVAL_MAX_MS));
  }
  (void)wait_for_few(0, until_ns);
}

static void wait_for_all(void) {
  if (!wait_for_few(0, world_now_ns() + LEAVE_MAX_MS * WORLD_NS_PER_MS))
    world_fail("%u visitors do not come to an end, though nothing goes wrong any more", here);
}

static void wait_until_reachable(bool raw) {
  uint64_t until_ns = world_now_ns() + RECOVERY_MAX_MS * WORLD_NS_PER_MS;
  for (uint64_t before = cast.whole; cast.whole == before;) {
    if (world_now_ns() > until_ns) world_fail("after the storm no %s visitor was served", raw ? "raw" : "TLS");
    let_in(raw);
    wait_for_all();
    pause_ms(LOOK_MS);
  }
}

/* All that should be served are. */
static void be_quiet(void) {
  wait_until_reachable(true);
  wait_until_reachable(false);
  uint64_t before = cast.whole;
  for (unsigned i = 0; i < QUIET_VISITORS; i++) let_in(i % 2 == 0);
  wait_for_all();
  if (cast.whole != before + QUIET_VISITORS)
    world_fail("of %d visitors %llu were served, though nothing goes wrong any more", QUIET_VISITORS,
               (unsigned long long)(cast.whole - before));
}

static void replace(struct mortal *m) {
  m->replaced = true;
  process_kill(m->now);
  while (m->replaced || m->now == NULL) pause_ms(1);
}

struct held { unsigned pipes, others; };

static struct held held_by(const struct mortal *m) {
  struct held h = {0};
  unsigned n = files_count(m->now->files);
  for (int fd = 0; h.pipes + h.others < n; fd++) {
    const struct file *f = files_get(m->now->files, fd);
    if (f == NULL) continue;
    if (S_ISFIFO(f->kind->mode)) h.pipes++;
    else h.others++;
  }
  return h;
}

/* What is left open of all that has been is no more than what a new process has, but for a few connections that are
   kept ready, and the pipes of those who were there at once, which are used again. */
static void look_for_what_is_left(void) {
  static const size_t who[] = {RELAY, AGENT};    /* new rivals would take fewer addresses */
  struct held had[ARRAY_LEN(who)];
  be_quiet();
  pause_ms(SETTLE_MS);
  for (size_t i = 0; i < ARRAY_LEN(who); i++) had[i] = held_by(&mortals[who[i]]);
  for (size_t i = 0; i < ARRAY_LEN(who); i++) replace(&mortals[who[i]]);
  be_quiet();
  pause_ms(SETTLE_MS);
  for (size_t i = 0; i < ARRAY_LEN(who); i++) {
    struct held has = held_by(&mortals[who[i]]);
    world_trace("pipes", had[i].pipes, has.pipes);
    world_trace("other descriptors", had[i].others, has.others);
    if (had[i].others > has.others + READY_MAX || had[i].pipes > has.pipes + PIPES_PER_VISITOR * AT_ONCE_MAX)
      world_fail("after all visitors have left %s has %u pipes' ends and %u other descriptors, a new one %u and %u",
                 mortals[who[i]].name, had[i].pipes, had[i].others, has.pipes, has.others);
  }
}

static int direct(void *arg) {
  (void)arg;
  (void)process_wait(process_start(relay_host, "operator", cast_issue, NULL));
  start_app();
  storm = !options.calm;
  for (size_t i = 0; i < ARRAY_LEN(mortals); i++)
    task_detach(task_start(process_current(), live_and_die, &mortals[i]));
  while (cast.raw_port == 0) (void)task_park(&cast.opened, WORLD_NEVER);
  if (cast.upgrades) task_detach(task_start(process_current(), upgrade, NULL));
  if (storm) cast.breaks_off_one_in = BREAKS_OFF_ONE_IN;
  if (storm) chaos_begin((struct host *const[]){relay_host, agent_host, visitors_host}, 3);
  let_visitors_in();
  if (storm) chaos_end();
  cast.breaks_off_one_in = 0;
  if (options.calm && cast.whole < options.visitors)
    world_fail("of %u visitors %llu were served, though nothing has gone wrong", options.visitors,
               (unsigned long long)cast.whole);
  storm = false;
  wait_for_all();
  be_quiet();
  over = true;
  look_for_what_is_left();
  world_stop();
  pause_ms(1);
  return EXIT_SUCCESS;
}

void director_begin(const struct director_options *o) {
  options = *o;
  waiters_init(&left);
  relay_host = host_new(CAST_DOMAIN, 0x0a000001);
  agent_host = host_new("agent", 0x0a000002);
  rivals_host = host_new("rivals", 0x0a000004);
  visitors_host = host_new("visitors", 0x0a000003);
  (void)process_start(host_new("director", 0x0a0000ff), "director", direct, NULL);
}
