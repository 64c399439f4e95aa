/* A proxy's URL and NO_PROXY: a line each, and a host. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "agent/http_proxy.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  char *text = malloc(size + 1), *rest = text, *url, *no_proxy, *host;
  struct err e = {0};
  if (text == NULL) return 0;
  memcpy(text, data, size);
  text[size] = '\0';
  url = strsep(&rest, "\n");
  no_proxy = strsep(&rest, "\n");
  host = strsep(&rest, "\n");
  struct http_proxy *p = http_proxy_new(url, &e);
  ASSERT(p != NULL || (e.code < 0 && e.text[0] != '\0'));
  if (p != NULL) ASSERT(p->at.port != 0 && strchr(p->name, '@') == NULL);
  http_proxy_free(p);
  if (host != NULL && strlen(host) <= HOST_NAME_MAX_CHARS) (void)http_proxy_spares(no_proxy, host);
  free(text);
  return 0;
}
