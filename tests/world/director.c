/* See director.h. The director is a process of a host of its own. */
#include "director.h"

#include <stdlib.h>

#include "base/base.h"
#include "cast.h"
#include "kernel.h"

enum { AT_ONCE_MAX = 12, ARRIVAL_MAX_MS = 20, DAY_MAX_MS = 1500, NIGHT_MAX_MS = 500, TALK_LARGE_BYTES = 200000,
       TALK_SMALL_BYTES = 3000 };

struct cast cast;

static struct director_options options;
static struct host *relay_host, *agent_host, *visitors_host;
static unsigned here;              /* visitors that have not left yet */
static struct waiters left;

void cast_begin(void) {
  waiters_init(&cast.opened);
  cast.copies = world_chance(3);
  cast.plain = world_chance(2);
  cast.workers = 1 + (unsigned)world_below(3);
  cast.talk_max_bytes = world_chance(2) ? TALK_LARGE_BYTES : TALK_SMALL_BYTES;
}

static void pause_ms(uint64_t ms) {
  uint64_t until_ns = world_now_ns() + ms * WORLD_NS_PER_MS;
  while (task_sleep(until_ns)) continue;
}

/* Somebody who is killed and started again, day by day. */
struct mortal {
  struct host **host;
  const char *name;
  int (*main)(void *arg);
};
static struct mortal mortals[] = {{&relay_host, "relay", cast_relay}, {&agent_host, "agent", cast_agent}};

static void *live_and_die(void *arg) {
  const struct mortal *m = arg;
  for (;;) {
    struct process *p = process_start(*m->host, m->name, m->main, NULL);
    if (options.calm) {
      (void)process_wait(p);
      world_fail("%s has ended by itself", m->name);
    }
    pause_ms(1 + world_below(DAY_MAX_MS));
    process_kill(p);
    pause_ms(world_below(NIGHT_MAX_MS));
  }
}

static void *see_off(void *arg) {
  (void)process_wait(arg);
  here--;
  waiters_wake(&left);
  return NULL;
}

static void let_visitors_in(void) {
  for (unsigned i = 0; i < options.visitors; i++) {
    while (here >= AT_ONCE_MAX) (void)task_park(&left, WORLD_NEVER);
    bool raw = world_chance(2);
    here++;
    struct process *p = process_start(visitors_host, "visitor", raw ? cast_raw_visitor : cast_tls_visitor, NULL);
    task_detach(task_start(process_current(), see_off, p));
    pause_ms(world_below(ARRIVAL_MAX_MS));
  }
  while (here > 0) (void)task_park(&left, WORLD_NEVER);
}

static int direct(void *arg) {
  (void)arg;
  (void)process_wait(process_start(relay_host, "operator", cast_issue, NULL));
  (void)process_start(agent_host, "app", cast_app, NULL);
  for (size_t i = 0; i < ARRAY_LEN(mortals); i++)
    task_detach(task_start(process_current(), live_and_die, &mortals[i]));
  while (cast.raw_port == 0) (void)task_park(&cast.opened, WORLD_NEVER);
  let_visitors_in();
  if (options.calm && cast.whole < options.visitors)
    world_fail("of %u visitors %llu were served, though nothing has gone wrong", options.visitors,
               (unsigned long long)cast.whole);
  world_stop();
  pause_ms(1);
  return EXIT_SUCCESS;
}

void director_begin(const struct director_options *o) {
  options = *o;
  waiters_init(&left);
  relay_host = host_new(CAST_DOMAIN, 0x0a000001);
  agent_host = host_new("agent", 0x0a000002);
  visitors_host = host_new("visitors", 0x0a000003);
  (void)process_start(host_new("director", 0x0a0000ff), "director", direct, NULL);
}
