/* Kept tickets: no text makes the parser read or write outside of it, and what it accepts can be written and read
   again. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "agent/ticket_file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
  static struct ticket_file f, again;
  char text[TICKET_FILE_MAX_BYTES];
  struct err e;
  size_t written;
  char *copy = malloc(n == 0 ? 1 : n);  /* the exact size, so that a read beyond it is seen */
  if (copy == NULL) return 0;
  memcpy(copy, data, n);
  int r = ticket_file_decode(copy, n, &f, &e);
  free(copy);
  if (r != 0) return 0;
  ASSERT(f.ticket_n > 0 && f.relay[0] != '\0' && strchr(f.host, '\n') == NULL);
  ASSERT(ticket_file_encode(&f, text, sizeof text, &written) == 0);
  ASSERT(ticket_file_decode(text, written, &again, &e) == 0);
  ASSERT(memcmp(&f, &again, sizeof f) == 0);
  return 0;
}
