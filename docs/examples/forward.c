/* Gives a local port a public address and tells what happens to it.
 *
 *     example-forward PORT [PATH-OF-ADIT]
 *
 * The token comes from ADIT_TOKEN or the user's configuration; without one, and with the path of the adit program, a
 * relay of its own is started on this machine. Ends when the tunnel does. */
#include <stdio.h>

#include <adit.h>

static int fail(const char *text) {
  fprintf(stderr, "example-forward: %s\n", text);
  return 1;
}

static void tell(const struct adit_event *event) {
  switch (event->kind) {
  case ADIT_EVENT_OPEN: printf("open: %s\n", adit_tunnel_url(event->tunnel)); break;
  case ADIT_EVENT_RECONNECTING: printf("reconnecting: %s\n", event->text); break;
  case ADIT_EVENT_RESTORED: printf("restored\n"); break;
  case ADIT_EVENT_WARNING: printf("warning: %s\n", event->text); break;
  case ADIT_EVENT_SUPERSEDED:
  case ADIT_EVENT_CLOSED: printf("closed: %s\n", event->text); break;
  }
  fflush(stdout);
}

int main(int argc, char **argv) {
  if (argc < 2) return fail("usage: example-forward PORT [PATH-OF-ADIT]");
  struct adit_config *config = adit_config_new();
  if (config == NULL) return fail("out of memory");
  int found = 0;
  if (adit_config_load(config, &found) != 0) return fail(adit_config_error(config));
  if (!found && argc > 2 && adit_config_set_embedded(config, argv[2]) != 0) return fail(adit_config_error(config));

  struct adit_client *client = adit_client_new(config);
  if (client == NULL) return fail(adit_config_error(config));
  adit_config_free(config);

  struct adit_tunnel *tunnel = adit_forward(client, argv[1], NULL);
  if (tunnel == NULL || adit_wait_open(tunnel, 10000) != 0) {
    fail(adit_error(client));
    adit_client_close(client, 0);
    return 1;
  }
  if (adit_client_ca_file(client) != NULL)
    printf("try: curl --cacert %s %s\n", adit_client_ca_file(client), adit_tunnel_url(tunnel));

  struct adit_event event;
  int ended = 0;
  while (!ended && adit_next_event(client, &event, -1) == 1) {
    tell(&event);
    ended = event.kind == ADIT_EVENT_CLOSED || event.kind == ADIT_EVENT_SUPERSEDED;
  }
  adit_client_close(client, 1000);
  return ended ? 1 : 0;
}
