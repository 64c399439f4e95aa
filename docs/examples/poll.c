/* A tunnel inside a program that has a poll() loop of its own: the library's events are one more descriptor in it.
 *
 *     example-poll PORT [PATH-OF-ADIT]
 *
 * Ends cleanly at end of input on stdin, or when the tunnel ends. */
#include <poll.h>
#include <stdio.h>
#include <unistd.h>

#include <adit.h>

/* All events that wait. Returns 0 when the tunnel has ended. */
static int take_events(struct adit_client *client) {
  struct adit_event event;
  while (adit_next_event(client, &event, 0) == 1) {
    if (event.kind == ADIT_EVENT_OPEN) printf("open: %s\n", adit_tunnel_url(event.tunnel));
    else printf("event %d: %s\n", (int)event.kind, event.text);
    fflush(stdout);
    if (event.kind == ADIT_EVENT_CLOSED || event.kind == ADIT_EVENT_SUPERSEDED) return 0;
  }
  return 1;
}

static int serve(struct adit_client *client) {
  struct pollfd fds[2] = {{.fd = STDIN_FILENO, .events = POLLIN}, {.fd = adit_event_fd(client), .events = POLLIN}};
  for (;;) {
    if (poll(fds, 2, -1) < 0) return 1;
    if (fds[1].revents != 0 && !take_events(client)) return 1;
    if (fds[0].revents != 0) {
      char bytes[256];
      if (read(STDIN_FILENO, bytes, sizeof bytes) <= 0) return 0;
    }
  }
}

int main(int argc, char **argv) {
  struct adit_config *config = adit_config_new();
  int found = 0, status = 1;
  if (argc < 2 || config == NULL || adit_config_load(config, &found) != 0) {
    fprintf(stderr, "example-poll: %s\n",
            argc < 2 ? "usage: example-poll PORT [PATH-OF-ADIT]" : adit_config_error(config));
    return 1;
  }
  if (!found && argc > 2) (void)adit_config_set_embedded(config, argv[2]);
  struct adit_client *client = adit_client_new(config);
  if (client == NULL) {
    fprintf(stderr, "example-poll: %s\n", adit_config_error(config));
    return 1;
  }
  adit_config_free(config);
  struct adit_tunnel *tunnel = adit_forward(client, argv[1], NULL);
  if (tunnel == NULL) fprintf(stderr, "example-poll: %s\n", adit_error(client));
  else status = serve(client);

  struct adit_tunnel_stats stats;
  if (tunnel != NULL) {
    adit_tunnel_stats(tunnel, &stats);
    printf("visitors: %llu\n", (unsigned long long)stats.visitors_total);
  }
  adit_client_close(client, 1000);
  return status;
}
