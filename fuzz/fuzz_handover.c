/* What the two sides of an upgrade say: whatever is understood is written again as it was read. */
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/err.h"
#include "relay/carrier.h"
#include "relay/handover.h"
#include "relay/upgrade_door.h"

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

static void commit(const uint8_t *data, size_t size) {
  uint8_t bytes[WRITTEN_MAX_BYTES];
  struct writer w = writer_of(bytes, sizeof bytes);
  struct handover_commit h;
  if (handover_commit_decode(reader_of(data, size), &h) != 0) return;
  handover_commit_encode(&w, &h);
  same(&w, data, size);
}

static void taken(const uint8_t *data, size_t size) {
  uint8_t bytes[WRITTEN_MAX_BYTES];
  struct writer w = writer_of(bytes, sizeof bytes);
  struct handover_taken h;
  if (handover_taken_decode(reader_of(data, size), &h) != 0) return;
  handover_taken_encode(&w, &h);
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

static void header(const uint8_t *data, size_t size) {
  struct carrier_header h;
  if (size >= CARRIER_HEADER_BYTES) (void)!carrier_header_decode(data, &h);
}

static void receive_all(struct carrier *c) {
  struct carrier_frame f;
  while (carrier_receive(c, 0, &f) == 0) carrier_frame_free(&f);
}

/* Frames without descriptors, in two pieces; the first byte says where they are cut. */
static void frames(const uint8_t *data, size_t size) {
  struct carrier c;
  int fds[2];
  if (size == 0) return;
  size_t first = size_min(data[0], size);
  ASSERT(carrier_pair(fds) == 0);
  carrier_init(&c, fds[1]);
  (void)!send(fds[0], data, first, MSG_DONTWAIT);
  receive_all(&c);
  (void)!send(fds[0], data + first, size - first, MSG_DONTWAIT);
  receive_all(&c);
  close(fds[0]);
  carrier_close(&c);
}

/* What somebody says at the door. */
static void request(const uint8_t *data, size_t size) {
  char program[STARTER_PATH_MAX_BYTES + 1];
  int fds[2];
  ASSERT(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) == 0);
  (void)!send(fds[0], data, size, MSG_DONTWAIT);
  int rc = upgrade_door_read(fds[1], program);
  ASSERT(rc == ERR_SYNTAX || (rc == 0 && (program[0] == '\0' || program[0] == '/')));
  close(fds[0]);
  close(fds[1]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  static void (*const words[])(const uint8_t *, size_t) = {header, hello,  welcome, listener,
                                                           commit, taken, frames,  request};
  if (size > 0 && data[0] < ARRAY_LEN(words)) words[data[0]](data + 1, size - 1);
  return 0;
}
