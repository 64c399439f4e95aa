/* Descriptors and open files. A table belongs to a process, an open file to as many descriptors as there are, also in
   messages that are on their way. */
#include "kernel_files.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "kernel_epoll.h"
#include "kernel_event.h"
#include "kernel_iov.h"
#include "kernel_network.h"

enum { FILES_MAX_DEFAULT = 65536, FILES_FIRST = 16 };

struct files {
  struct file **at;
  unsigned len, max, count;
  unsigned lowest;                 /* none is free below */
};

/* Files */

static uint64_t inodes;
static unsigned alive;

uint64_t file_next_inode(void) { return ++inodes; }
unsigned files_alive(void) { return alive; }

void kernel_begin(void) {
  inodes = 0;
  alive = 0;
  network_begin();
}

void file_begin(struct file *f, const struct file_kind *kind, int flags) {
  f->kind = kind;
  f->refs = 1;
  alive++;
  f->flags = flags;
  f->inode = file_next_inode();
  waiters_init(&f->waiters);
  list_init(&f->watches);
}

struct file *file_ref(struct file *f) {
  f->refs++;
  return f;
}

void file_unref(struct file *f) {
  if (--f->refs > 0) return;
  epoll_forget(f);
  alive--;
  f->kind->end(f);
}

void file_finish(struct file *f) { waiters_end(&f->waiters); }

void file_changed(struct file *f, uint32_t events) {
  waiters_wake(&f->waiters);
  if (!list_empty(&f->watches)) epoll_told(f, events);
}

/* What a process finds at 0 to 2. */

static ssize_t console_read(struct file *f, const struct iovec *iov, int n) {
  (void)f, (void)iov, (void)n;
  return 0;
}

/* Outside of a simulated thread the wrappers lead nowhere else, but here we are inside of one. */
ssize_t __real_write(int fd, const void *p, size_t n);
char *__real_getenv(const char *name);

static ssize_t console_write(struct file *f, const struct iovec *iov, int n) {
  static int shown = -1;
  (void)f;
  if (shown < 0) shown = __real_getenv("WORLD_CONSOLE") != NULL;
  for (int i = 0; shown > 0 && i < n; i++) (void)!__real_write(STDERR_FILENO, iov[i].iov_base, iov[i].iov_len);
  return (ssize_t)iov_bytes(iov, n);
}

static uint32_t console_poll(struct file *f) {
  (void)f;
  return EPOLLIN | EPOLLOUT | EPOLLRDNORM | EPOLLWRNORM;
}

static void console_end(struct file *f) {
  file_finish(f);
  world_free(f);
}

static const struct file_kind console_kind = {
    .name = "console", .mode = S_IFCHR, .read = console_read, .write = console_write, .poll = console_poll,
    .end = console_end};

/* Tables */

struct files *files_new(void) {
  struct files *t = world_alloc(sizeof *t);
  t->max = FILES_MAX_DEFAULT;
  struct file *console = world_alloc(sizeof *console);
  file_begin(console, &console_kind, O_RDWR);
  for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++) (void)files_install(t, file_ref(console), 0);
  file_unref(console);
  return t;
}

void files_free(struct files *t) {
  for (unsigned fd = 0; fd < t->len; fd++) (void)files_close(t, (int)fd);
  world_free(t->at);
  world_free(t);
}

void files_signalled(struct files *t) {
  for (unsigned fd = 0; fd < t->len; fd++) {
    if (t->at[fd] != NULL && event_is_signals(t->at[fd])) file_changed(t->at[fd], EPOLLIN);
  }
}

static void files_fit(struct files *t, unsigned fd) {
  unsigned len = t->len > 0 ? t->len : FILES_FIRST;
  while (len <= fd) len *= 2;
  if (len == t->len) return;
  t->at = world_realloc(t->at, len * sizeof(struct file *));
  memset(t->at + t->len, 0, (len - t->len) * sizeof(struct file *));
  t->len = len;
}

static void files_set(struct files *t, unsigned fd, struct file *f) {
  files_fit(t, fd);
  t->at[fd] = f;
  t->count++;
}

int files_may_open(void) {
  if (weather.no_descriptor_one_in > 0 && world_chance(weather.no_descriptor_one_in))
    return world_chance(2) ? -EMFILE : -ENFILE;
  if (weather.no_memory_one_in > 0 && world_chance(weather.no_memory_one_in))
    return world_chance(2) ? -ENOMEM : -ENOBUFS;
  return 0;
}

int files_install(struct files *t, struct file *f, int at_least) {
  unsigned fd = (unsigned)at_least > t->lowest ? (unsigned)at_least : t->lowest;
  while (fd < t->len && t->at[fd] != NULL) fd++;
  if ((unsigned)at_least <= t->lowest) t->lowest = fd;
  if (fd >= t->max) {
    file_unref(f);
    return -EMFILE;
  }
  files_set(t, fd, f);
  return (int)fd;
}

struct file *files_get(struct files *t, int fd) { return fd >= 0 && (unsigned)fd < t->len ? t->at[fd] : NULL; }

struct file *file_of(int fd) { return files_get(process_current()->files, fd); }

int files_close(struct files *t, int fd) {
  struct file *f = files_get(t, fd);
  if (f == NULL) return -EBADF;
  t->at[fd] = NULL;
  t->count--;
  if ((unsigned)fd < t->lowest) t->lowest = (unsigned)fd;
  file_unref(f);
  return 0;
}

int files_duplicate(struct files *t, int from, int at_least) {
  struct file *f = files_get(t, from);
  if (f == NULL) return -EBADF;
  if (at_least < 0 || (unsigned)at_least >= t->max) return -EINVAL;
  int error = files_may_open();
  return error != 0 ? error : files_install(t, file_ref(f), at_least);
}

int files_duplicate_to(struct files *t, int from, int to) {
  struct file *f = files_get(t, from);
  if (f == NULL || to < 0 || (unsigned)to >= t->max) return -EBADF;
  if (from == to) return to;
  (void)file_ref(f);
  (void)files_close(t, to);
  files_set(t, (unsigned)to, f);
  return to;
}

int files_set_max(struct files *t, unsigned max) {
  t->max = max;
  return 0;
}

unsigned files_count(const struct files *t) { return t->count; }

unsigned files_open_max(const struct files *t) { return t->max; }
