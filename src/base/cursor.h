/* The only way in which wire bytes are read or written: a bounded cursor with a sticky failure. A read past the end
   yields zeros and sets `bad`; a write past the end writes nothing and sets `bad`. Check `bad` once, at the end. */
#ifndef BASE_CURSOR_H
#define BASE_CURSOR_H

#include "base/base.h"

struct reader {
  const uint8_t *at;
  size_t left;
  bool bad;
};

struct reader reader_of(const void *bytes, size_t n);
uint8_t read_u8(struct reader *r);
uint16_t read_u16(struct reader *r);
uint32_t read_u24(struct reader *r);
uint32_t read_u32(struct reader *r);
uint64_t read_u64(struct reader *r);
bool read_flag(struct reader *r);                              /* a byte that is 0 or 1, else it is a failure */
/* A pointer to n bytes inside the input, or NULL when there are fewer. */
const uint8_t *read_bytes(struct reader *r, size_t n);
void read_copy(struct reader *r, void *to, size_t n);          /* zero-fills *to on failure */
struct reader read_vec8(struct reader *r);                     /* a part with a length before it */
struct reader read_vec16(struct reader *r);
struct reader read_vec24(struct reader *r);
/* Copies a vec8 of text into to[cap] with a terminating NUL; NUL bytes inside or too long a text is a failure. */
void read_text8(struct reader *r, char *to, size_t cap);
/* True when everything was read and nothing failed. */
bool reader_done(const struct reader *r);

struct writer {
  uint8_t *base;
  size_t len, cap;
  bool bad;
};

struct writer writer_of(void *to, size_t cap);
void write_u8(struct writer *w, uint8_t v);
void write_u16(struct writer *w, uint16_t v);
void write_u32(struct writer *w, uint32_t v);
void write_u64(struct writer *w, uint64_t v);
void write_bytes(struct writer *w, const void *p, size_t n);
void write_vec8(struct writer *w, const void *p, size_t n);
void write_vec16(struct writer *w, const void *p, size_t n);
void write_vec24(struct writer *w, const void *p, size_t n);
void write_text8(struct writer *w, const char *text);
uint8_t *write_skip(struct writer *w, size_t n);               /* room for n bytes, or NULL */
/* Opens a vector whose length is not known yet; `size` is 1, 2 or 3. Close with the mark that open returned. */
size_t write_open_vec(struct writer *w, int size);
void write_close_vec(struct writer *w, size_t mark, int size);

#endif
