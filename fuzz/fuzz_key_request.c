/* What the key process is asked, by a relay that may have been taken over; and its answers. The first byte chooses: 0 a
   request, 1 several as they come in a stream, else an answer. What was read is written again as it was. */
#include <stdint.h>
#include <string.h>

#include "relay/key_wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void request(const uint8_t *p, size_t n) {
  static uint8_t out[KEY_FRAME_HEADER_BYTES + KEY_REQUEST_MAX_BYTES];
  struct key_request r;
  size_t written;
  if (n > KEY_REQUEST_MAX_BYTES || key_request_read(p, n, &r) != 0) return;
  ASSERT(key_request_write(&r, out, &written) == 0 && written == KEY_FRAME_HEADER_BYTES + n);
  ASSERT(memcmp(out + KEY_FRAME_HEADER_BYTES, p, n) == 0);
  if (r.kind == KEY_SIGN) (void)sign_text_is_handshake(r.text, r.text_n);
}

static void stream(const uint8_t *p, size_t n) {
  struct buf b;
  size_t frame, whole = 0;
  buf_init(&b, SIZE_MAX / 2);
  if (n > 0) ASSERT(buf_append(&b, p, n) == 0);
  while (key_frame_whole(&b, KEY_REQUEST_MAX_BYTES, &frame) == 0 && frame > 0) {
    ASSERT(frame > KEY_FRAME_HEADER_BYTES && frame <= b.len && frame <= KEY_FRAME_HEADER_BYTES + KEY_REQUEST_MAX_BYTES);
    request(buf_data(&b) + KEY_FRAME_HEADER_BYTES, frame - KEY_FRAME_HEADER_BYTES);
    buf_consume(&b, frame);
    whole += frame;
  }
  ASSERT(whole + b.len == n);
  buf_free(&b);
}

static void answer(const uint8_t *p, size_t n) {
  struct key_answer a;
  struct buf out;
  if (n > KEY_ANSWER_MAX_BYTES || key_answer_read(p, n, &a) != 0 || strlen(a.error) != 0) return;
  buf_init(&out, KEY_FRAME_HEADER_BYTES + KEY_ANSWER_MAX_BYTES);
  ASSERT(key_answer_write(&a, &out) == 0);
  struct key_answer again;
  ASSERT(key_answer_read(buf_data(&out) + KEY_FRAME_HEADER_BYTES, out.len - KEY_FRAME_HEADER_BYTES, &again) == 0);
  ASSERT(again.code == a.code && again.n == a.n && again.handle == a.handle);
  buf_free(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  if (size == 0) return 0;
  if (data[0] == 0) request(data + 1, size - 1);
  else if (data[0] == 1) stream(data + 1, size - 1);
  else answer(data + 1, size - 1);
  return 0;
}
