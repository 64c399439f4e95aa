/* The entrance of the program: takes the time first, because `adit forward` tells how long it took to be reachable. */
#include "base/clock.h"
#include "base/words.h"
#include "cli/command.h"

int main(int argc, char **argv) {
  uint64_t began_us = clock_us();
  words_begin();
  int status = command_main(argc, argv, began_us);
  words_settle();
  return status;
}
