/* The command line of the load generator, and what its parts share. It is a measuring tool: every failure ends it. */
#include "load.h"

#include <arpa/inet.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static const char usage[] =
    "usage: load app [--host H] [--streams THREADS] [--cert FILE --key FILE]\n"
    "                                              prints {\"port\":N}; ends with its parent\n"
    "       load down|up WHERE [--streams N] [--bytes N] [--source IP]\n"
    "       load ping WHERE [--count N]\n"
    "       load under WHERE [--streams N] [--millis N]    pings while so many streams come down\n"
    "       load connect WHERE [--streams N] [--count N]\n"
    "       load idle|slow WHERE [--count N]       so many visitors that say nothing, or take little at\n"
    "                                              a time, until the input ends\n"
    "       load first WHERE -- COMMAND ARGS...    time from its start to the first byte that a visitor gets\n"
    "       load flood --port P --sni NAME [--rate PER_S | --streams N] [--source IP]    until SIGTERM\n"
    "       load open [--count N] [--expect TEXT] -- COMMAND ARGS...\n"
    "                                              time from its start to its first line, which must\n"
    "                                              have TEXT in it: by default what tells of a tunnel\n"
    "WHERE is [--host H] --port P, and --plain or --sni NAME --ca FILE.\n";

uint64_t load_now_ns(void) {
  struct timespec t;
  (void)clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

uint64_t load_cpu_ns(void) {
  struct timespec t;
  (void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
  return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

void load_die(const char *what, const char *why) {
  (void)fprintf(stderr, "load: %s: %s\n", what, why);
  _exit(1);
}

static int compare_ns(const void *a, const void *b) {
  uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
  return (x > y) - (x < y);
}

void load_print_percentiles(uint64_t *ns, size_t n) {
  qsort(ns, n, sizeof *ns, compare_ns);
  (void)printf("\"p50_us\":%.1f,\"p99_us\":%.1f", (double)ns[n / 2] / 1e3, (double)ns[n * 99 / 100] / 1e3);
}

static uint64_t number(const char *text, uint64_t max) {
  char *end;
  uint64_t n = strtoull(text, &end, 10);
  if (end == text || *end != '\0' || n < 1 || n > max) load_die(text, "not a number in range");
  return n;
}

static void options_read(struct load_options *o, int argc, char **argv) {
  static const struct option table[] = {
      {"host", required_argument, NULL, 'h'},    {"port", required_argument, NULL, 'p'},
      {"sni", required_argument, NULL, 'n'},     {"ca", required_argument, NULL, 'a'},
      {"cert", required_argument, NULL, 'c'},    {"key", required_argument, NULL, 'k'},
      {"bytes", required_argument, NULL, 'b'},   {"streams", required_argument, NULL, 's'},
      {"count", required_argument, NULL, 'N'},   {"rate", required_argument, NULL, 'r'},
      {"source", required_argument, NULL, 'f'},  {"plain", no_argument, NULL, 'P'},
      {"millis", required_argument, NULL, 'm'},  {"expect", required_argument, NULL, 'e'},
      {NULL, 0, NULL, 0}};
  struct in_addr from;
  for (int c; (c = getopt_long(argc, argv, "", table, NULL)) != -1;) {
    switch (c) {
      case 'h': o->host = optarg; break;
      case 'p': o->port = optarg; break;
      case 'n': o->sni = optarg; break;
      case 'a': o->ca_file = optarg; break;
      case 'c': o->cert_file = optarg; break;
      case 'k': o->key_file = optarg; break;
      case 'b': o->bytes = number(optarg, UINT64_C(1) << 40); break;
      case 's': o->streams = (unsigned)number(optarg, 256); break;
      case 'N': o->count = (unsigned)number(optarg, 1000000); break;
      case 'r': o->rate = (unsigned)number(optarg, 1000000); break;
      case 'm': o->millis = (unsigned)number(optarg, 100000); break;
      case 'e': o->expect = optarg; break;
      case 'P': o->plain = true; break;
      case 'f':
        if (inet_pton(AF_INET, optarg, &from) != 1) load_die(optarg, "not an IPv4 address");
        else o->source = ntohl(from.s_addr);
        break;
      default: (void)fputs(usage, stderr); exit(2);
    }
  }
  o->command = argv + optind;
}

int main(int argc, char **argv) {
  static const struct {
    const char *name;
    int (*run)(const struct load_options *);
  } commands[] = {{"app", load_app}, {"down", load_down}, {"up", load_up}, {"ping", load_ping},
                  {"under", load_under}, {"connect", load_connect}, {"idle", load_idle}, {"slow", load_slow},
                  {"flood", load_flood}, {"open", load_open}, {"first", load_first}};
  struct load_options o = {
      .host = "127.0.0.1", .bytes = UINT64_C(1) << 28, .streams = 1, .count = 1000, .source = INADDR_LOOPBACK,
      .millis = 1000, .expect = "\"open\""};
  (void)signal(SIGPIPE, SIG_IGN);
  for (size_t i = 0; argc > 1 && i < sizeof commands / sizeof *commands; i++) {
    if (strcmp(argv[1], commands[i].name) != 0) continue;
    options_read(&o, argc - 1, argv + 1);
    /* A subject that hangs does not hang the bench. */
    bool stay = commands[i].run == load_idle || commands[i].run == load_slow;
    if (commands[i].run != load_app) (void)alarm(stay ? LOAD_STAY_SECONDS_MAX : LOAD_SECONDS_MAX);
    return commands[i].run(&o);
  }
  (void)fputs(usage, stderr);
  return 2;
}
