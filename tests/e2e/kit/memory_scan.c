/* Looks for byte strings in the writable memory of another process, pages that a core dump leaves out included.

   memory_scan PID < needles: each needle as one length byte (8 to 255) and its bytes; prints the index of each that was
   found, one a line, and on stderr the number of bytes looked at. Thousands of needles cost no more than one: every
   position is looked up in a bitmap by its first four bytes, and only candidates are compared. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { CHUNK = 1 << 22, OVERLAP = 256, NEEDLES_MAX = 1 << 16, BITS = 1 << 24, SLOTS = 1 << 18 };

struct needle { uint8_t length, bytes[255]; int found, next; };
static struct needle needles[NEEDLES_MAX];
static int needles_n, slots[SLOTS];
static uint8_t bitmap[BITS / 8];

static uint32_t hash(const uint8_t *p) {
  uint32_t v;
  memcpy(&v, p, 4);
  return (v * 2654435761u) >> 8;
}

static void read_needles(void) {
  int length;
  while ((length = getchar()) != EOF) {
    struct needle *n = &needles[needles_n];
    if (length < 8 || needles_n == NEEDLES_MAX || fread(n->bytes, 1, (size_t)length, stdin) != (size_t)length) exit(2);
    n->length = (uint8_t)length;
    uint32_t h = hash(n->bytes);
    bitmap[h >> 3] |= (uint8_t)(1 << (h & 7));
    n->next = slots[h % SLOTS];
    slots[h % SLOTS] = ++needles_n;       /* index + 1; 0 ends a chain */
  }
}

static void look(const uint8_t *p, size_t n) {
  for (size_t i = 0; i + 4 <= n; i++) {
    uint32_t h = hash(p + i);
    if (!(bitmap[h >> 3] & (1 << (h & 7)))) continue;
    for (int k = slots[h % SLOTS]; k != 0; k = needles[k - 1].next) {
      struct needle *needle = &needles[k - 1];
      if (i + needle->length <= n && memcmp(p + i, needle->bytes, needle->length) == 0) needle->found = 1;
    }
  }
}

int main(int argc, char **argv) {
  if (argc != 2) return 2;
  char path[64], line[512];
  read_needles();
  snprintf(path, sizeof path, "/proc/%s/mem", argv[1]);
  int memory = open(path, O_RDONLY | O_CLOEXEC);
  snprintf(path, sizeof path, "/proc/%s/maps", argv[1]);
  FILE *maps = fopen(path, "re");
  uint8_t *chunk = malloc(CHUNK + OVERLAP);
  if (memory < 0 || maps == NULL || chunk == NULL) return 3;
  uint64_t seen = 0;
  while (fgets(line, sizeof line, maps) != NULL) {
    unsigned long from, to;
    char rights[5];
    if (sscanf(line, "%lx-%lx %4s", &from, &to, rights) != 3 || rights[1] != 'w') continue;
    for (unsigned long at = from; at < to; at += CHUNK) {
      size_t want = to - at < CHUNK + OVERLAP ? to - at : CHUNK + OVERLAP;
      ssize_t got = pread(memory, chunk, want, (off_t)at);
      if (got <= 0) continue;             /* a guard page, or unmapped since */
      look(chunk, (size_t)got);
      seen += (uint64_t)got;
    }
  }
  for (int i = 0; i < needles_n; i++)
    if (needles[i].found) printf("%d\n", i);
  fprintf(stderr, "%llu\n", (unsigned long long)seen);
  return seen > 0 ? 0 : 3;
}
