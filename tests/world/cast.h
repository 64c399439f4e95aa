/* The roles of the world: what their processes do. They share what real ones learn from people: a token, an address. */
#ifndef WORLD_CAST_H
#define WORLD_CAST_H

#include "adit.h"
#include "world.h"

#define CAST_DOMAIN "relay.test"
#define CAST_STATE "/state"
enum { CAST_RELAY_PORT = 443, CAST_APP_PORT = 8000, CAST_HOST_CAP = 256 };

enum owner { OWNER_AGENT, OWNER_RIVAL, OWNER_OTHER_RIVAL, OWNERS };     /* who has a token of his own */

struct cast {
  char token[OWNERS][ADIT_TOKEN_CAP];
  struct waiters opened;           /* woken when the next two are known */
  char tunnel_host[CAST_HOST_CAP];
  uint16_t raw_port;
  /* How it is to go, by seed. */
  bool copies, plain, upgrades;
  unsigned workers;
  uint64_t talk_max_bytes;
  uint64_t breaks_off_one_in;      /* directions of talks; 0: none */
  unsigned addresses[OWNERS];      /* that rivals have been told */
  /* How it went. */
  uint64_t whole, broken, unreached;
};
extern struct cast cast;

void cast_begin(void);             /* draws how it is to go */

/* What processes run; the argument is not used but where it says more. */
int cast_issue(void *arg);         /* adit token create, before the relay's first start */
int cast_relay(void *arg);         /* adit relay */
int cast_agent(void *arg);         /* adit forward: one tunnel */
int cast_rival(void *owner);       /* another's agent, which takes addresses, more and more, and keeps none */
int cast_app(void *arg);           /* what listens behind the agent */
int cast_raw_visitor(void *arg);
int cast_tls_visitor(void *arg);

#endif
