/* What the two sides of an upgrade say: whatever is understood is written again as it was read. */
#include <string.h>

#include "relay/carrier.h"
#include "relay/handover.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { WRITTEN_MAX_BYTES = 512 };

static void same(const struct writer *w, const uint8_t *data, size_t size) {
  ASSERT(!w->bad && w->len <= size && memcmp(w->base, data, w->len) == 0);
}

static void hello(const uint8_t *data, size_t size) {
  uint8_t bytes[WRITTEN_MAX_BYTES];
  struct writer w = writer_of(bytes, sizeof bytes);
  struct handover_hello h;
  if (handover_hello_decode(reader_of(data, size), &h) != 0) return;
  handover_hello_encode(&w, &h);
  same(&w, data, size);
}

static void welcome(const uint8_t *data, size_t size) {
  uint8_t bytes[WRITTEN_MAX_BYTES];
  struct writer w = writer_of(bytes, sizeof bytes);
  struct handover_welcome h;
  if (handover_welcome_decode(reader_of(data, size), &h) != 0) return;
  handover_welcome_encode(&w, &h);
  same(&w, data, size);
}

static void listener(const uint8_t *data, size_t size) {
  uint8_t bytes[WRITTEN_MAX_BYTES];
  struct writer w = writer_of(bytes, sizeof bytes);
  struct handover_listener h;
  if (handover_listener_decode(reader_of(data, size), &h) != 0) return;
  handover_listener_encode(&w, &h);
  same(&w, data, size);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  struct carrier_header h;
  if (size < 1) return 0;
  if (data[0] == 0 && size > CARRIER_HEADER_BYTES) (void)!carrier_header_decode(data + 1, &h);
  if (data[0] == 1) hello(data + 1, size - 1);
  if (data[0] == 2) welcome(data + 1, size - 1);
  if (data[0] == 3) listener(data + 1, size - 1);
  return 0;
}
