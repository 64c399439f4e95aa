/* Limits and settings of the host. Nothing here is fatal: a relay that could do better says so and serves. */
#include "relay/host.h"

#include <stdio.h>

#include "base/log.h"

void host_check_port_range(const struct relay_options *o) {
  unsigned from, to;
  char range[32];
  FILE *f = fopen("/proc/sys/net/ipv4/ip_local_port_range", "re");
  if (f == NULL) return;
  int fields = fscanf(f, "%u %u", &from, &to);
  (void)fclose(f);
  if (fields != 2 || o->tcp_port_from == 0 || o->tcp_port_to < from || o->tcp_port_from > to) return;
  (void)snprintf(range, sizeof range, "%u-%u", from, to);
  log_event(LOG_WARN, "port_range_overlaps", "outgoing", range, "what_to_do",
            "choose --tcp-ports outside of net.ipv4.ip_local_port_range, or change that", NULL);
}
