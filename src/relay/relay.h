/* The relay daemon: what the command line hands over, and how it is run. */
#ifndef RELAY_RELAY_H
#define RELAY_RELAY_H

#include "base/addr.h"
#include "pump/pump.h"

struct shared;

enum { RELAY_LISTENS_MAX = 16, RELAY_OPERATORS_MAX = 64, RELAY_ACCEPT_PROXY_MAX = 64 };

struct relay_options {             /* strings belong to the caller and outlive the relay */
  const char *domain;              /* required */
  struct addr listens[RELAY_LISTENS_MAX]; size_t listens_n;
  struct addr agent_listens[RELAY_LISTENS_MAX]; size_t agent_listens_n; /* Unix sockets, for agents of this machine */
  struct addr redirects[RELAY_LISTENS_MAX]; size_t redirects_n; /* for plain HTTP, which is told to come by https */
  struct host_port public; /* in URLs and tokens; host empty: domain; port 0: that of the first listen address */
  const char *cert_file, *key_file; /* both or none: the relay's own authority */
  const char *state_dir;
  const char *user;                /* whom to be, when started by root; NULL: see rights_take_user */
  bool reset_state;                /* what the folder has lost is made anew */
  const char *operator_files[RELAY_OPERATORS_MAX]; size_t operators_n;
  uint16_t tcp_port_from, tcp_port_to;
  struct addr tcp_listen;          /* AF_UNSPEC: [::] and 0.0.0.0 */
  struct addr admin;               /* AF_UNSPEC: none */
  struct cidr accept_proxy[RELAY_ACCEPT_PROXY_MAX]; size_t accept_proxy_n;
  unsigned workers;                /* 0: one per core */
  uint64_t handshake_memory_bytes; /* of all workers; 0: HANDSHAKE_MEMORY_PER_WORKER_BYTES for each */
  enum pump_mode pump;
  bool plain_allowed;              /* --link plain */
  uint64_t drain_ms;
  bool h2_shared_name;             /* the operator's consent to h2 under a wildcard certificate */
  /* Embedded: the first program that it lives for, which is told how to reach it or why not; -1: not embedded. */
  int holder_fd;
  struct shared *shared;           /* it may live for others, too; NULL: not */
  bool keys_here;                  /* no key process */
  bool quiet;                      /* embedded: no name check, no log below warning */
};

/* Runs until SIGTERM or SIGINT; 0, or negative with a text. Call tls_wipe_on_free_install first. */
int relay_run(const struct relay_options *options, struct err *e) MUST_USE;

#endif
