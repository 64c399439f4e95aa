/* Loaded before libc: while there is a FIFO of the name that SLOW_DISK gives, each fsync and fdatasync waits until a
   test has opened it for writing, and then for a byte or its end. */
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

static int wait_for_disk(int fd) {
  char byte;
  const char *path = getenv("SLOW_DISK");
  int gate = path == NULL ? -1 : open(path, O_RDONLY | O_CLOEXEC);
  if (gate < 0) return fd < 0 ? -1 : 0;
  ssize_t ignored = read(gate, &byte, 1);
  (void)ignored;
  close(gate);
  return 0;
}

__attribute__((visibility("default"))) int fsync(int fd) { return wait_for_disk(fd); }
__attribute__((visibility("default"))) int fdatasync(int fd) { return wait_for_disk(fd); }
