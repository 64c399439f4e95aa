/* One agent with many tunnels, as a program that embeds the library has them: tunnels APP COUNT. The first leads to
   APP, the others to ports of this machine where nobody need be, as a client has one tunnel for each app. Prints a line
   when all are open, and ends with its parent. ADIT_TOKEN names the relay. */
#include <adit.h>

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <unistd.h>

enum { OPEN_MS = 60000, TUNNELS_MAX = 1000 };

static void die(const char *what, const char *why) {
  (void)fprintf(stderr, "tunnels: %s: %s\n", what, why);
  exit(1);
}

int main(int argc, char **argv) {
  static struct adit_tunnel *tunnels[TUNNELS_MAX];
  struct adit_options options = ADIT_OPTIONS_INIT;
  struct adit_config *config = adit_config_new();
  int found = 0, count = argc == 3 ? atoi(argv[2]) : 0;
  (void)prctl(PR_SET_PDEATHSIG, SIGTERM);
  if (count < 1 || count > TUNNELS_MAX) die("usage", "tunnels APP COUNT, of which at most 1000");
  if (config == NULL || adit_config_load(config, &found) != 0 || !found) die("configuration", "no token");
  struct adit_client *client = adit_client_new(config);
  if (client == NULL) die("client", adit_config_error(config));
  for (int i = 0; i < count; i++) {
    char port[16];
    (void)snprintf(port, sizeof port, "%d", i);
    tunnels[i] = adit_forward(client, i == 0 ? argv[1] : port, &options);
    if (tunnels[i] == NULL) die("forward", adit_error(client));
  }
  for (int i = 0; i < count; i++) {
    if (adit_wait_open(tunnels[i], OPEN_MS) != 0) die("open", adit_error(client));
  }
  (void)printf("{\"url\":\"%s\",\"tcp_socket\":null}\n", adit_tunnel_url(tunnels[0]));
  (void)fflush(stdout);
  (void)pause();
  return 0;
}
