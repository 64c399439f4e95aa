/* The relay's warnings that somebody could cause without end. */
#include "relay/warning.h"

#include <string.h>
#include <sys/resource.h>

#include "base/clock.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/shortage.h"

static bool due(struct seldom *s, uint64_t *left_out) {
  return seldom_due(s, clock_ms(), WARNING_EVERY_MS, left_out);
}

void warning_shortage(void *warnings, int error) {
  struct warnings *w = warnings;
  struct rlimit limit = {0};
  uint64_t left_out;
  char reason[128];
  if (!due(&w->shortage, &left_out)) return;
  (void)getrlimit(RLIMIT_NOFILE, &limit);
  log_event(LOG_WARN, "shortage", "error", strerror_r(error, reason, sizeof reason), "descriptors_max",
            LOG_U64(limit.rlim_cur), "left_out", LOG_U64(left_out), "what_to_do", shortage_remedy(error), NULL);
}

static void warn_of_proxy(struct seldom *s, const char *event, const struct addr *peer, const char *what_to_do) {
  char from[64];
  uint64_t left_out;
  if (!due(s, &left_out)) return;
  addr_format_ip(peer, from, sizeof from);
  log_event(LOG_WARN, event, "from", from, "left_out", LOG_U64(left_out), "what_to_do", what_to_do, NULL);
}

void warning_proxy_unexpected(struct warnings *w, const struct addr *peer) {
  warn_of_proxy(&w->proxy_unexpected, "proxy_header_unexpected", peer,
                "if that is your load balancer, name its address in --accept-proxy, or have it send no PROXY header");
}

void warning_proxy_missing(struct warnings *w, const struct addr *peer) {
  warn_of_proxy(
      &w->proxy_missing, "proxy_header_missing", peer,
      "have that load balancer send a PROXY header (nginx: proxy_protocol on; HAProxy: send-proxy-v2), or take "
      "its address out of --accept-proxy");
}

void warning_unsigned(struct warnings *w) {
  uint64_t left_out;
  if (!due(&w->not_signed, &left_out)) return;
  log_event(LOG_ERROR, "signature_late", "left_out", LOG_U64(left_out), "effect", "newcomers are refused", "what_to_do",
            "see whether the process adit-keys runs, and whether the machine has processor time for it", NULL);
}

static void warn_of_state(struct seldom *s, const char *event, const char *error) {
  uint64_t left_out;
  if (due(s, &left_out)) log_event(LOG_ERROR, event, "error", error, "left_out", LOG_U64(left_out), NULL);
}

void warning_state(struct warnings *w, const char *error) { warn_of_state(&w->state, "state_write_failed", error); }

void warning_state_unread(struct warnings *w, const char *error) {
  warn_of_state(&w->unread, "state_read_failed", error);
}
