/* A program that was compiled against the header of tests/abi, and meets the library of today.
 *
 *     earlier-host APP KEEP-FILE
 *
 * Opens a tunnel with all options of then, prints its URL, and after a line on stdin its visitors and bytes. What it
 * hands to the library ends where its memory ends, so that the library can touch no more than there was then. */
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <adit.h>

static void *at_end_of_memory(size_t n) {
  size_t page = (size_t)sysconf(_SC_PAGESIZE);
  char *pages = mmap(NULL, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (pages == MAP_FAILED || mprotect(pages + page, page, PROT_NONE) != 0) return NULL;
  return pages + page - n;
}

int main(int argc, char **argv) {
  static const char *const everybody[] = {"0.0.0.0/0", "::/0"};
  struct adit_options *options = at_end_of_memory(sizeof *options);
  struct adit_tunnel_stats *stats = at_end_of_memory(sizeof *stats);
  struct adit_event *event = at_end_of_memory(sizeof *event);
  if (argc != 3 || options == NULL || stats == NULL || event == NULL) return 2;
  *options = (struct adit_options)ADIT_OPTIONS_INIT;
  options->unencrypted = 1;
  options->proxy_protocol = 1;
  options->alpn = "x-earlier";
  options->allow = everybody;
  options->allow_n = 2;
  options->keep_file = argv[2];

  int found = 0;
  struct adit_config *config = adit_config_new();
  if (config == NULL || adit_config_load(config, &found) != 0 || found != 1) return 3;
  struct adit_client *client = adit_client_new(config);
  adit_config_free(config);
  struct adit_tunnel *tunnel = client == NULL ? NULL : adit_forward(client, argv[1], options);
  while (tunnel != NULL && adit_next_event(client, event, 30000) == 1 && event->kind != ADIT_EVENT_OPEN) {}
  if (tunnel == NULL || event->kind != ADIT_EVENT_OPEN || event->tunnel != tunnel) {
    fprintf(stderr, "earlier-host: %s\n", adit_error(client));
    return 1;
  }
  printf("open %s %d\n", adit_tunnel_host(tunnel), adit_tunnel_tcp_port(tunnel) != 0);
  fflush(stdout);
  (void)getchar();
  adit_tunnel_stats(tunnel, stats);
  printf("visitors %d to app %d\n", (int)stats->visitors_total, (int)stats->bytes_to_app);
  adit_tunnel_close(tunnel, 1000);
  adit_client_close(client, 1000);
  return 0;
}
