/* The load generator of the benchmarks: an app to be reached, visitors that reach it, and a stopwatch for programs.
   Each sub-command prints one line of JSON. Nothing here shares code with what it measures. */
#ifndef BENCH_LOAD_H
#define BENCH_LOAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { LOAD_PING_BYTES = 64, LOAD_CHUNK_BYTES = 65536, LOAD_LINE_MAX_BYTES = 64, LOAD_SECONDS_MAX = 120,
       LOAD_STAY_SECONDS_MAX = 300 };

/* The one set of TLS parameters that every subject of a comparison is measured with. */
#define LOAD_SUITE "TLS_AES_128_GCM_SHA256"
#define LOAD_GROUP "X25519"

struct load_options {
  const char *host, *port, *ca_file;           /* visitors; the app has a host, too */
  char *sni;                                   /* NULL with plain TCP */
  bool plain;
  const char *cert_file, *key_file;            /* the app behind TLS of its own */
  uint64_t bytes;                              /* in all, over all streams */
  unsigned streams, count;
  unsigned rate;                               /* flood: connections a second; 0: always so many streams */
  uint32_t source;                             /* visitors, flood: IPv4 address that they come from */
  unsigned millis;                             /* under: how long */
  const char *expect;                          /* open: what the first line must have in it */
  char **command;                              /* what `open` and `first` start, NULL-terminated */
};

int load_app(const struct load_options *o);
int load_down(const struct load_options *o);
int load_up(const struct load_options *o);
int load_ping(const struct load_options *o);
int load_under(const struct load_options *o);
int load_connect(const struct load_options *o);
int load_idle(const struct load_options *o);
int load_slow(const struct load_options *o);
int load_flood(const struct load_options *o);
int load_open(const struct load_options *o);
int load_first(const struct load_options *o);

uint64_t load_now_ns(void);
/* The processor time that this process has had. */
uint64_t load_cpu_ns(void);
void load_die(const char *what, const char *why) __attribute__((noreturn));
/* Sorts the samples; prints `"p50_us":..,"p99_us":..`. */
void load_print_percentiles(uint64_t *ns, size_t n);

#endif
