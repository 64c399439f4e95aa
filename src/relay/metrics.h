/* The relay's counters: one struct per worker, written by that worker only (relaxed atomics), summed when read. A row
   each in METRIC_ROWS gives name, type and help, from which /metrics, /status and the struct are made. */
#ifndef RELAY_METRICS_H
#define RELAY_METRICS_H

#include "base/cursor.h"
#include "base/limits.h"
#include "pump/pump.h"
#include "wire/certificate.h"
#include "wire/frame.h"

#define METRIC_ROWS(X) \
  X(connections_accepted_total, counter, "Connections accepted on public and raw ports and for --redirect-http") \
  X(connections_unknown_total, counter, "Connections closed because their first byte was no known protocol") \
  X(connections_paused_total, counter, "Times a listener paused for want of descriptors or memory") \
  X(proxy_headers_unexpected_total, counter, \
    "Connections closed for a PROXY header from a peer that is not in --accept-proxy") \
  X(proxy_headers_missing_total, counter, \
    "Connections closed as a peer in --accept-proxy sent no PROXY header, or a malformed one") \
  X(client_hellos_total, counter, "ClientHellos begun, of visitors, control links and strangers") \
  X(client_hellos_failed_total, counter, "ClientHellos that were malformed or did not arrive") \
  X(handshakes_started_total, counter, "Visitor handshakes begun: the ClientHello names a tunnel") \
  X(handshakes_handed_off_total, counter, "Visitor handshakes handed off") \
  X(handshakes_unknown_name_total, counter, "ClientHellos refused with unrecognized_name") \
  X(handshakes_no_alpn_total, counter, "Visitors refused with no_application_protocol") \
  X(handshakes_no_ems_total, counter, \
    "Visitors refused with handshake_failure: TLS 1.2 without the extended master secret") \
  X(handshakes_failed_total, counter, "Visitor handshakes that failed otherwise") \
  X(signatures_late_total, counter, "Handshakes refused because the key process did not sign in time") \
  X(handshakes_timeout_total, counter, "Visitor handshakes that met their deadline") \
  X(handshakes_over_cap_total, counter, "Connections dropped because their source had too many unfinished ones") \
  X(newcomers_dropped_load_total, counter, "Connections dropped because more came than can be served") \
  X(newcomers_dropped_descriptors_total, counter, "Connections dropped because too many had not said whom they want") \
  X(newcomers_dropped_memory_total, counter, "Connections dropped for want of --handshake-memory") \
  X(redirects_total, counter, "Requests for --redirect-http that were told to come by https") \
  X(redirects_refused_total, counter, "Requests for --redirect-http that were malformed, or for other names") \
  X(handshakes_now, gauge, "Visitor handshakes going on") \
  X(link_handshakes_started_total, counter, "Control link handshakes begun") \
  X(link_handshakes_failed_total, counter, "Control link handshakes that failed") \
  X(link_handshakes_now, gauge, "Control link handshakes going on") \
  X(data_handshakes_started_total, counter, "Handshakes of data connections inside TLS begun") \
  X(data_handshakes_failed_total, counter, "Handshakes of data connections inside TLS that failed") \
  X(data_handshakes_now, gauge, "Handshakes of data connections inside TLS going on") \
  X(visitors_waiting_now, gauge, "Visitors waiting for a data connection") \
  X(visitors_wait_timeout_total, counter, "Visitors that waited for a data connection in vain") \
  X(streams_total, counter, "Streams opened towards agents") \
  X(streams_now, gauge, "Streams open") \
  X(raw_visitors_total, counter, "Visitors on raw ports") \
  X(links_now, gauge, "Control links up") \
  X(links_total, counter, "Control links authenticated") \
  X(links_refused_total, counter, "Control links refused") \
  X(tunnels_now, gauge, "Tunnels open") \
  X(tunnels_total, counter, "Tunnels opened") \
  X(data_connections_total, counter, "Data connections accepted") \
  X(data_connections_wrapped_total, counter, \
    "Data connections accepted inside TLS, which are copied instead of spliced") \
  X(data_connections_refused_total, counter, \
    "Data connections refused: unknown link, wrong or used preface, or too many") \
  X(data_connections_warm_now, gauge, "Data connections waiting for a visitor") \
  X(bytes_to_visitors_total, counter, "Bytes of streams sent to visitors: of TLS ciphertext, else plaintext") \
  X(bytes_from_visitors_total, counter, "Bytes of streams received from visitors: likewise") \
  X(rate_waits_total, counter, "Times that a stream waited for its token's --max-rate") \
  X(pipes_now, gauge, "Pipes in use or pooled") \
  X(buffers_now, gauge, "Stream buffers in use or pooled")

struct metrics {
#define X(name, type, help) uint64_t name;
  METRIC_ROWS(X)
#undef X
  uint64_t streams_closed[CLOSE_REASONS];
  uint64_t visitors_refused[NOTICES];            /* by the limits of their tunnel's owner, or for load */
};
#define METRIC_ADD(m, name, n) ((void)__atomic_fetch_add(&(m)->name, (uint64_t)(n), __ATOMIC_RELAXED))
#define METRIC_SUB(m, name, n) ((void)__atomic_fetch_sub(&(m)->name, (uint64_t)(n), __ATOMIC_RELAXED))
void metrics_add(struct metrics *sum, const struct metrics *one);   /* both may be in use: relaxed atomics */
/* The counters alone. What is taken from one of several structs may be more than it has: their sum is right. */
void metrics_take(struct metrics *from, const struct metrics *counted);
/* The counters, without what there is just now, for another process, each by its name: so that one that knows fewer of
   them, or more, takes those that it knows. METRICS_WRITE_BYTES are always enough. Read they are added. */
enum { METRICS_WRITE_BYTES = 8192 };
void metrics_write(const struct metrics *m, struct writer *w);
void metrics_read_add(struct metrics *m, struct reader *r);

struct status_tunnel {
  char host[HOST_NAME_MAX_CHARS + 1], owner[TOKEN_NAME_MAX_CHARS + 1], token[CHAIN_NAME_CAP];
  char agent[AGENT_SOFTWARE_MAX_CHARS + 1], agent_address[ADDR_TEXT_CAP];
  uint16_t tcp_port;
  uint64_t streams_now, streams_total, age_s;
};
struct status_token {              /* what has passed for one since the relay started */
  char name[CHAIN_NAME_CAP], id[2 * TOKEN_ID_BYTES + 1];
  char root[2 * TOKEN_ID_BYTES + 1];             /* what it was narrowed from in the end; empty: it is the operator's */
  uint64_t streams_now, streams_total, bytes_from_visitors, bytes_to_visitors;
};
struct rights;
struct status {                    /* the relay's numbers, for the admin port */
  struct metrics sum;
  const char *domain, *version;
  uint64_t uptime_s, descriptors_now, descriptors_max;
  int64_t certificate_begins_s, certificate_expires_s;
  bool certificate_valid;          /* by the wall clock of now */
  bool draining;
  const struct rights *rights;
};
/* Prometheus text into a malloced string; NULL when out of memory. */
char *metrics_text(const struct status *s) MUST_USE;
/* JSON, in pieces, since there may be very many of them: the beginning, some tunnels as often as there are more,
   STATUS_JSON_TOKENS, some tokens likewise, STATUS_JSON_NARROWED, some more of these, STATUS_JSON_END. The same. */
char *status_json_begin(const struct status *s) MUST_USE;
char *status_json_tunnels(const struct status_tunnel *t, size_t n, bool first) MUST_USE;
char *status_json_tokens(const struct status_token *t, size_t n, bool first) MUST_USE;
#define STATUS_JSON_TOKENS "],\"tokens\":["
#define STATUS_JSON_NARROWED "],\"narrowed\":["
#define STATUS_JSON_END "]}\n"

#endif
