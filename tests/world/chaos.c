#include "chaos.h"

#include <string.h>

#include "base/base.h"
#include "heap_failures.h"
#include "kernel.h"

enum { PAUSE_MAX_MS = 300, CUT_MAX_MS = 3000, DELAY_MAX_MS = 80, LOOPBACK_DELAY_MAX_US = 200,
       DISK_MAX_MS = 100, SHORT_ONE_IN_MIN = 5, SHORT_ONE_IN_MAX = 50, SHORT_MAX_MS = 600 };

static struct {
  struct host *hosts[CHAOS_HOSTS_MAX];
  size_t hosts_n;
  struct world_event next, rejoin, relief;
  struct host *cut[2];             /* NULL: all reach each other */
  uint64_t short_until_ns;
} chaos;

/* One in `many` or never, in equal parts. */
static uint64_t maybe(uint64_t many) { return world_chance(2) ? 0 : 1 + world_below(many); }

static void change_weather(void) {
  weather.delay_min_ns = world_below(WORLD_NS_PER_MS);
  weather.delay_max_ns = weather.delay_min_ns + world_below(DELAY_MAX_MS) * WORLD_NS_PER_MS;
  weather.loopback_delay_max_ns = world_chance(2) ? 0 : world_below(LOOPBACK_DELAY_MAX_US) * WORLD_NS_PER_US;
  weather.tiny_chunk_one_in = maybe(10);
  weather.small_buffers_one_in = maybe(4);
  weather.lost_one_in = maybe(200);
  weather.disk_max_ns = maybe(DISK_MAX_MS) * WORLD_NS_PER_MS;
  world_trace("weather", weather.delay_max_ns, weather.tiny_chunk_one_in);
}

static void rejoin(struct world_event *e) {
  (void)e;
  network_cut(chaos.cut[0], chaos.cut[1], false);
  chaos.cut[0] = chaos.cut[1] = NULL;
}

static void cut_two(void) {
  if (chaos.cut[0] != NULL || chaos.hosts_n < 2) return;
  size_t first = world_below(chaos.hosts_n), second = (first + 1 + world_below(chaos.hosts_n - 1)) % chaos.hosts_n;
  chaos.cut[0] = chaos.hosts[first];
  chaos.cut[1] = chaos.hosts[second];
  network_cut(chaos.cut[0], chaos.cut[1], true);
  world_at(&chaos.rejoin, world_now_ns() + (1 + world_below(CUT_MAX_MS)) * WORLD_NS_PER_MS, rejoin);
}

static void relieve(struct world_event *e) {
  (void)e;
  heap_failures(NULL, 0);
  weather.no_descriptor_one_in = 0;
}

/* For a while one host has too little memory, or all have too few descriptors. */
static void run_short(void) {
  uint64_t one_in = SHORT_ONE_IN_MIN + world_below(SHORT_ONE_IN_MAX);
  if (world_chance(2)) heap_failures(chaos.hosts[0], one_in);
  else weather.no_descriptor_one_in = one_in;
  chaos.short_until_ns = world_now_ns() + (1 + world_below(SHORT_MAX_MS)) * WORLD_NS_PER_MS;
  world_at(&chaos.relief, chaos.short_until_ns, relieve);
}

bool chaos_short_since(uint64_t since_ns) { return chaos.short_until_ns > since_ns; }

static void strike(struct world_event *e) {
  switch (world_below(9)) {
    case 8: run_short(); break;
    case 0: change_weather(); break;
    case 1: cut_two(); break;
    case 2: (void)network_stall_one(); break;
    case 3: network_unstall(); break;
    default: (void)network_reset_one(); break;
  }
  world_at(e, world_now_ns() + (1 + world_below(PAUSE_MAX_MS)) * WORLD_NS_PER_MS, strike);
}

void chaos_begin(struct host *const *hosts, size_t n) {
  ASSERT(n <= CHAOS_HOSTS_MAX);
  memset(&chaos, 0, sizeof chaos);
  chaos.hosts_n = n;
  for (size_t i = 0; i < n; i++) chaos.hosts[i] = hosts[i];
  change_weather();
  world_at(&chaos.next, world_now_ns() + world_below(PAUSE_MAX_MS) * WORLD_NS_PER_MS, strike);
}

void chaos_end(void) {
  world_cancel(&chaos.next);
  world_cancel(&chaos.rejoin);
  world_cancel(&chaos.relief);
  heap_failures(NULL, 0);
  network_heal();
  network_calm();
}
