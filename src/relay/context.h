/* What all parts of one relay share. Made before the workers start, and constant afterwards but for what says
   otherwise. */
#ifndef RELAY_CONTEXT_H
#define RELAY_CONTEXT_H

#include <pthread.h>

#include "relay/certs.h"
#include "relay/metrics.h"
#include "relay/ports.h"
#include "relay/relay.h"
#include "relay/rights.h"
#include "relay/shares.h"
#include "relay/warning.h"
#include "wire/token.h"

struct heir;
struct registry;
struct sources;
struct worker;
struct keeper;

struct relay {
  struct relay_options *options;   /* our copy: port 0 replaced by what the kernel gave */
  struct heir *heir;               /* of a relay that was here before us; NULL: of none */
  struct state *state;             /* the keeper's, once it runs */
  struct key_process *keys;        /* thread-safe; NULL: they are here */
  struct certs *certs;             /* thread-safe where its header says so */
  struct registry *registry;       /* thread-safe */
  struct sources *sources;         /* thread-safe */
  struct shares shares;            /* thread-safe */
  struct keeper *keeper;           /* thread-safe */
  struct worker *workers;          /* an array; each runs one loop in one thread */
  unsigned workers_n;
  size_t newcomers_bytes_max;      /* at each worker */
  struct division division;        /* of the descriptors */
  uint8_t (*operators)[ED25519_KEY_BYTES];
  size_t operators_n;
  char public_host[HOST_NAME_MAX_CHARS + 1];   /* where raw ports are to be reached */
  uint16_t public_port;            /* in URLs */
  struct host_port dial;           /* in tokens */
  int held[2 * RELAY_LISTENS_MAX];     /* sockets that hold our addresses until the workers listen */
  size_t held_n;
  struct agent_door {
    int fd;
    dev_t dev;
    ino_t ino;                     /* 0: it has no file */
  } agent_doors[RELAY_LISTENS_MAX];    /* the Unix sockets, of which each worker has a copy; their files go with them */
  size_t agent_doors_n;
  struct agent_door status_door;   /* an embedded relay's, for programs of its user; its descriptor is the admin's once
                                      that runs */
  uint64_t instance;
  uint64_t started_ms;             /* CLOCK_MONOTONIC */
  bool draining;                   /* relaxed atomic */
  bool hands_over;                 /* atomic: its links go to another process, and what comes for them follows */
  uint16_t handover_format;        /* of what it packs for that; set before any worker is asked to */
  struct warnings warnings;        /* thread-safe */
  struct rights rights;            /* as words */

  pthread_mutex_t ticket_lock;     /* guards the ticket keys, which the keeper rotates */
  struct ticket_key ticket_keys[2];
  size_t ticket_keys_n;
};

/* This relay as tokens know it. */
int relay_describe(struct relay *r, struct token_relay *self, struct err *e) MUST_USE;
/* Whether it lives for programs of one user on this machine. */
static inline bool relay_is_embedded(const struct relay *r) { return r->options->holder_fd >= 0; }
static inline bool relay_draining(struct relay *r) { return __atomic_load_n(&r->draining, __ATOMIC_RELAXED); }
static inline bool relay_hands_over(struct relay *r) { return __atomic_load_n(&r->hands_over, __ATOMIC_RELAXED); }

#endif
