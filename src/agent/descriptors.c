/* Descriptors by number. The hard thing: in a child the number may meanwhile mean something of its own, so the inode is
   compared. */
#include "agent/descriptors.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/fork_gate.h"
#include "base/descriptors.h"
#include "base/once.h"
#include "base/secret.h"

/* Of descriptors.watched. Locked while the process forks, so that the child finds it whole. */
static struct list watched = {&watched, &watched};
static pthread_mutex_t watched_lock = PTHREAD_MUTEX_INITIALIZER;

static void fork_begins(void) {
  fork_gate_shut();                /* first: who is inside may want the lock */
  pthread_mutex_lock(&watched_lock);
}

static void fork_ended(void) {
  pthread_mutex_unlock(&watched_lock);
  fork_gate_open();
}

static void fork_ended_in_child(void) {
  LIST_FOREACH(&watched, it) descriptors_close_copies(CONTAINER_OF(it, struct descriptors, watched));
  pthread_mutex_unlock(&watched_lock);
  fork_gate_open_in_child();
}

/* fork() begins with the handlers that were registered last. Secret memory has some, too, which take its lock, and
   whoever is in the gate may want it: so they are registered before ours, with the first piece of it. */
static int watch_begin(void) {
  void *first = secret_alloc(1);
  if (first == NULL) return ERR_NOMEM;
  secret_free(first, 1);
  return pthread_atfork(fork_begins, fork_ended, fork_ended_in_child) == 0 ? 0 : ERR_NOMEM;
}

int descriptors_watch_forks(struct descriptors *d) {
  static struct once begun;
  int r = once_run(&begun, watch_begin);
  if (r != 0) return r;
  pthread_mutex_lock(&watched_lock);
  list_push_tail(&watched, &d->watched);
  pthread_mutex_unlock(&watched_lock);
  return 0;
}

void descriptors_init(struct descriptors *d) {
  d->apart = false;
  list_init(&d->watched);
  for (size_t i = 0; i < DESCRIPTOR_CHUNKS; i++) atomic_init(&d->chunks[i], NULL);
}

void descriptors_free(struct descriptors *d) {
  pthread_mutex_lock(&watched_lock);
  list_remove(&d->watched);
  pthread_mutex_unlock(&watched_lock);
  for (size_t i = 0; i < DESCRIPTOR_CHUNKS; i++) free((void *)(uintptr_t)atomic_load(&d->chunks[i]));
}

static _Atomic uint64_t *descriptor_slot(struct descriptors *d, int fd, bool make) {
  if (fd < 0 || fd >= DESCRIPTOR_CHUNK * DESCRIPTOR_CHUNKS) return NULL;
  size_t chunk = (size_t)fd / DESCRIPTOR_CHUNK;
  _Atomic uint64_t *slots = atomic_load(&d->chunks[chunk]);
  if (slots == NULL) {
    if (!make || (slots = calloc(DESCRIPTOR_CHUNK, sizeof *slots)) == NULL) return NULL;
    atomic_store(&d->chunks[chunk], slots);
  }
  return &slots[(size_t)fd % DESCRIPTOR_CHUNK];
}

static uint64_t inode_of(int fd) {
  struct stat st;
  return fstat(fd, &st) == 0 ? (uint64_t)st.st_ino : 0;
}

void descriptors_add(struct descriptors *d, int fd) {
  bool copied = !d->apart && !descriptors_of_our_process();
  _Atomic uint64_t *slot = copied ? descriptor_slot(d, fd, true) : NULL;
  if (slot != NULL) atomic_store(slot, inode_of(fd));
}

void descriptors_forget(struct descriptors *d, int fd) {
  _Atomic uint64_t *slot = descriptor_slot(d, fd, false);
  if (slot != NULL) atomic_store(slot, 0);
}

void descriptors_remove(struct descriptors *d, int fd) {
  if (!d->apart) descriptors_forget(d, fd);
}

void descriptors_closing(void *descriptors, int fd) { descriptors_remove(descriptors, fd); }

void descriptors_close_copies(struct descriptors *d) {
  for (size_t c = 0; c < DESCRIPTOR_CHUNKS; c++) {
    _Atomic uint64_t *slots = atomic_load(&d->chunks[c]);
    if (slots == NULL) continue;
    for (size_t i = 0; i < DESCRIPTOR_CHUNK; i++) {
      uint64_t inode = atomic_exchange(&slots[i], 0);
      int fd = (int)(c * DESCRIPTOR_CHUNK + i);
      if (inode != 0 && inode_of(fd) == inode) close(fd);
    }
  }
}
