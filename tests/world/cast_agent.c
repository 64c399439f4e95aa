/* The agent, by the library's public functions, and the app behind it. */
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/base.h"
#include "cast.h"
#include "talk.h"
#include "watch.h"

enum { BACKLOG = 128, RIVAL_ADDRESSES_MAX = 28 };

static void tell_address(struct adit_tunnel *t) {
  (void)snprintf(cast.tunnel_host, sizeof cast.tunnel_host, "%s", adit_tunnel_host(t));
  cast.raw_port = adit_tunnel_tcp_port(t);
  world_trace("tunnel open", cast.raw_port, 0);
  watch_address(OWNER_AGENT, cast.tunnel_host, cast.raw_port);
  watch_kept_address(cast.tunnel_host, cast.raw_port);
  waiters_wake(&cast.opened);
}

static struct adit_client *client_of(enum owner owner) {
  struct adit_config *config = adit_config_new();
  if (config == NULL || adit_config_add_token(config, cast.token[owner]) != 0)
    world_fail("agent: %s", config == NULL ? "no memory" : adit_config_error(config));
  struct adit_client *client = adit_client_new(config);
  if (client == NULL) process_exit(EXIT_FAILURE);    /* which is no fault only while descriptors are short */
  adit_config_free(config);
  return client;
}

static struct adit_tunnel *forward(struct adit_client *client, unsigned app_port, const char *keep_file) {
  char app[8];
  struct adit_options o = ADIT_OPTIONS_INIT;
  (void)snprintf(app, sizeof app, "%u", app_port);
  o.unencrypted = 1;
  o.plain = cast.plain;
  o.keep_file = keep_file;
  struct adit_tunnel *tunnel = adit_forward(client, app, &o);
  if (tunnel == NULL) process_exit(EXIT_FAILURE);
  return tunnel;
}

int cast_agent(void *arg) {
  struct adit_event event;
  (void)arg;
  struct adit_client *client = client_of(OWNER_AGENT);
  struct adit_tunnel *tunnel = forward(client, CAST_APP_PORT, "/kept");
  while (adit_next_event(client, &event, -1) > 0) {
    world_trace("agent's event", event.kind, (uint64_t)(int64_t)event.error);
    if (event.kind == ADIT_EVENT_OPEN) tell_address(tunnel);
    if (event.kind == ADIT_EVENT_CLOSED || event.kind == ADIT_EVENT_SUPERSEDED) return EXIT_FAILURE;
  }
  return EXIT_SUCCESS;
}

int cast_rival(void *arg) {
  enum owner owner = (enum owner)(intptr_t)arg;
  struct adit_event event;
  unsigned app_port = CAST_APP_PORT;
  struct adit_client *client = client_of(owner);
  (void)forward(client, ++app_port, NULL);
  while (adit_next_event(client, &event, -1) > 0) {
    world_trace("rival's event", event.kind, (uint64_t)(int64_t)event.error);
    if (event.kind != ADIT_EVENT_OPEN) continue;
    watch_address(owner, adit_tunnel_host(event.tunnel), adit_tunnel_tcp_port(event.tunnel));
    if (++cast.addresses[owner] < RIVAL_ADDRESSES_MAX) (void)forward(client, ++app_port, NULL);
  }
  return EXIT_SUCCESS;
}

/* A killed app resets its connections, so that nobody takes its end for a clean one. */
static void *app_talk(void *arg) {
  struct wire w = {.fd = (int)(intptr_t)arg};
  const struct linger reset = {.l_onoff = 1};
  (void)setsockopt(w.fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
  if (talk_as_app(&w) == TALK_WHOLE) (void)setsockopt(w.fd, SOL_SOCKET, SO_LINGER, &(struct linger){0}, sizeof reset);
  (void)close(w.fd);
  return NULL;
}

int cast_app(void *arg) {
  const struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(CAST_APP_PORT),
                                 .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  (void)arg;
  int fd;
  while ((fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) < 0 && (errno == EMFILE || errno == ENFILE)) continue;
  if (fd < 0 || bind(fd, (const struct sockaddr *)(const void *)&at, sizeof at) != 0 || listen(fd, BACKLOG) != 0)
    world_fail("the app cannot listen");
  for (;;) {
    int peer = accept4(fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (peer >= 0) task_detach(task_start(process_current(), app_talk, (void *)(intptr_t)peer));
  }
}
