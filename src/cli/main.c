/* The entrance of the program: takes the time first, because `adit forward` tells how long it took to be reachable. */
#include <time.h>

#include "base/words.h"
#include "cli/command.h"

int main(int argc, char **argv) {
  struct timespec now;
  (void)clock_gettime(CLOCK_MONOTONIC, &now);
  words_begin();
  int status = command_main(argc, argv, (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000);
  words_settle();
  return status;
}
