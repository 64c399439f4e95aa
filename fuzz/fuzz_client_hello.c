/* The ClientHello parser, fed no more than it wants, in pieces that the input chooses. */
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "tls/client_hello.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_result(struct client_hello *ch) {
  ASSERT(client_hello_want(ch) == 0);
  ASSERT(strlen(ch->sni) <= HOST_NAME_MAX_CHARS && (ch->has_sni || ch->sni[0] == 0));
  ASSERT(ch->alpn_n <= sizeof ch->alpn && (ch->has_alpn || ch->alpn_n == 0));
  for (size_t at = 0; at < ch->alpn_n; at += 1u + ch->alpn[at]) {
    ASSERT(ch->alpn[at] > 0 && 1u + ch->alpn[at] <= ch->alpn_n - at);
  }
  (void)client_hello_offers_alpn(ch, "adit/1");
}

/* The first byte chooses the size of the pieces; the rest is what a visitor sends. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  if (size == 0) return 0;
  struct client_hello ch;
  uint8_t alert = 0;
  size_t piece = data[0] == 0 ? SIZE_MAX : data[0];
  client_hello_init(&ch);
  for (size_t at = 1; at < size && !ch.complete;) {
    size_t take = size_min(size_min(piece, client_hello_want(&ch)), size - at);
    ASSERT(take > 0);
    if (client_hello_feed(&ch, data + at, take, &alert) != 0) {
      ASSERT(alert != 0 && !ch.complete);
      break;
    }
    at += take;
  }
  ASSERT(ch.raw.len <= size && ch.body.len <= CLIENT_HELLO_MAX_BYTES);
  if (ch.complete) check_result(&ch);
  client_hello_free(&ch);
  return 0;
}
