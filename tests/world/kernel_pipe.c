/* Pipes as Linux has them: a number of pages, of which each holds what one write or packet brought. So one is full of
   few bytes when they came one by one; only writes share a page. */
#include "kernel_pipe.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>

#include "base/base.h"
#include "kernel_iov.h"
#include "kernel_ring.h"

enum { PAGE_BYTES = 4096, PIPE_PAGES = 16, PIPE_MAX_BYTES = 1 << 20, FILL_MAX_BYTES = 64 * 1024 };

struct pipe_end {
  struct file file;
  struct pipe *pipe;
};

struct pipe {
  struct pipe_end *reader, *writer;          /* NULL: closed */
  struct ring bytes;
  uint16_t *page;                  /* how much each holds, in a ring */
  unsigned pages_max, first, pages;
  bool may_merge;                  /* into the last one */
};

static struct pipe *pipe_of(struct file *f) { return CONTAINER_OF(f, struct pipe_end, file)->pipe; }

static bool is_reader(const struct pipe *p, const struct file *f) { return p->reader != NULL && f == &p->reader->file; }

static uint16_t *last_page(struct pipe *p) { return &p->page[(p->first + p->pages - 1) % p->pages_max]; }

static bool pipe_is_full(const struct pipe *p) { return p->pages == p->pages_max; }

static void page_add(struct pipe *p, size_t n) {
  p->pages++;
  *last_page(p) = (uint16_t)n;
}

static void pipe_told(struct pipe_end *end, uint32_t events) {
  if (end != NULL) file_changed(&end->file, events);
}

/* Writing */

/* What is over after whole pages goes into the last one if all of that fits there, and a page of its own otherwise. */
static size_t write_merge(struct pipe *p, const struct iovec *iov, int iov_n, size_t n) {
  size_t over = n % PAGE_BYTES;
  if (over == 0 || p->pages == 0 || !p->may_merge || *last_page(p) + over > PAGE_BYTES) return 0;
  ring_write(&p->bytes, iov, iov_n, 0, over);
  *last_page(p) = (uint16_t)(*last_page(p) + over);
  return over;
}

static ssize_t pipe_write(struct file *f, const struct iovec *iov, int iov_n) {
  struct pipe *p = pipe_of(f);
  size_t n = iov_bytes(iov, iov_n);
  if (is_reader(p, f)) return -EBADF;
  if (n == 0) return 0;
  if (p->reader == NULL) return -EPIPE;
  size_t done = write_merge(p, iov, iov_n, n);
  while (done < n && !pipe_is_full(p)) {
    size_t some = size_min(n - done, PAGE_BYTES);
    ring_write(&p->bytes, iov, iov_n, done, some);
    page_add(p, some);
    p->may_merge = true;
    done += some;
  }
  if (done == 0) return -EAGAIN;
  pipe_told(p->reader, EPOLLIN | EPOLLRDNORM);
  return (ssize_t)done;
}

/* Reading */

static void pages_drop(struct pipe *p, size_t n) {
  bool was_full = pipe_is_full(p);
  while (n > 0) {
    uint16_t *page = &p->page[p->first];
    size_t some = size_min(n, *page);
    *page = (uint16_t)(*page - some);
    n -= some;
    if (*page > 0) break;
    p->first = (p->first + 1) % p->pages_max;
    p->pages--;
  }
  if (was_full && !pipe_is_full(p)) pipe_told(p->writer, EPOLLOUT | EPOLLWRNORM);
}

static size_t pipe_held(const struct pipe *p) { return (size_t)(p->bytes.to - p->bytes.from); }

static ssize_t pipe_read(struct file *f, const struct iovec *iov, int iov_n) {
  struct pipe *p = pipe_of(f);
  size_t n = size_min(iov_bytes(iov, iov_n), pipe_held(p));
  if (!is_reader(p, f)) return -EBADF;
  if (n == 0) return p->writer == NULL || iov_bytes(iov, iov_n) == 0 ? 0 : -EAGAIN;
  ring_peek(&p->bytes, iov, iov_n, n);
  ring_drop(&p->bytes, n);
  pages_drop(p, n);
  return (ssize_t)n;
}

static uint32_t pipe_poll(struct file *f) {
  const struct pipe *p = pipe_of(f);
  if (is_reader(p, f)) return (p->pages > 0 ? EPOLLIN | EPOLLRDNORM : 0U) | (p->writer == NULL ? EPOLLHUP : 0U);
  return (pipe_is_full(p) ? 0U : EPOLLOUT | EPOLLWRNORM) | (p->reader == NULL ? EPOLLERR : 0U);
}

static int pipe_ioctl(struct file *f, unsigned long request, void *arg) {
  if (request != FIONREAD) return -ENOTTY;
  *(int *)arg = (int)pipe_held(pipe_of(f));
  return 0;
}

/* Making and ending */

static void pipe_free(struct pipe *p) {
  ring_free(&p->bytes);
  world_free(p->page);
  world_free(p);
}

static void pipe_end(struct file *f) {
  struct pipe *p = pipe_of(f);
  file_finish(f);
  if (is_reader(p, f)) {
    p->reader = NULL;
    pipe_told(p->writer, EPOLLOUT | EPOLLERR);
  } else {
    p->writer = NULL;
    pipe_told(p->reader, EPOLLIN | EPOLLHUP);
  }
  if (p->reader == NULL && p->writer == NULL) pipe_free(p);
  world_free(CONTAINER_OF(f, struct pipe_end, file));
}

static const struct file_kind pipe_kind = {.name = "pipe", .mode = S_IFIFO | 0600, .read = pipe_read,
    .write = pipe_write, .poll = pipe_poll, .ioctl = pipe_ioctl, .end = pipe_end};

static struct pipe_end *end_new(struct pipe *p, int flags) {
  struct pipe_end *end = world_alloc(sizeof *end);
  file_begin(&end->file, &pipe_kind, flags);
  end->pipe = p;
  return end;
}

void pipe_new(struct file *ends[2], int flags) {
  struct pipe *p = world_alloc(sizeof *p);
  p->pages_max = PIPE_PAGES;
  p->page = world_alloc(PIPE_PAGES * sizeof *p->page);
  p->reader = end_new(p, flags | O_RDONLY);
  p->writer = end_new(p, flags | O_WRONLY);
  p->writer->file.inode = p->reader->file.inode;
  ends[0] = &p->reader->file;
  ends[1] = &p->writer->file;
}

bool pipe_is(const struct file *f) { return f->kind == &pipe_kind; }

int pipe_size(struct file *f) { return (int)(pipe_of(f)->pages_max * PAGE_BYTES); }

int pipe_set_size(struct file *f, unsigned bytes) {
  struct pipe *p = pipe_of(f);
  unsigned pages = 1;
  if (bytes > PIPE_MAX_BYTES) return -EPERM;
  while (pages * PAGE_BYTES < bytes) pages *= 2;
  if (pages < p->pages) return -EBUSY;
  uint16_t *page = world_alloc(pages * sizeof *page);
  for (unsigned i = 0; i < p->pages; i++) page[i] = p->page[(p->first + i) % p->pages_max];
  world_free(p->page);
  p->page = page;
  p->first = 0;
  p->pages_max = pages;
  pipe_told(p->writer, EPOLLOUT | EPOLLWRNORM);
  return (int)(pages * PAGE_BYTES);
}

/* Splicing */

/* A page for each packet, or part of one. */
static void fill_pages(struct pipe *p, const uint8_t *bytes, size_t n) {
  const struct iovec iov = {.iov_base = (void *)(uintptr_t)bytes, .iov_len = n};
  ring_write(&p->bytes, &iov, 1, 0, n);
  for (size_t some; n > 0; n -= some) {
    some = size_min(n, PAGE_BYTES);
    page_add(p, some);
  }
  p->may_merge = false;
  pipe_told(p->reader, EPOLLIN | EPOLLRDNORM);
}

int pipe_fill(struct file *to, struct file *from, size_t n) {
  static uint8_t bytes[FILL_MAX_BYTES];
  struct pipe *p = pipe_of(to);
  if (is_reader(p, to)) return -EBADF;
  if (p->reader == NULL) return -EPIPE;
  if (pipe_is_full(p)) return -EAGAIN;
  size_t room = (size_t)(p->pages_max - p->pages) * PAGE_BYTES;
  struct iovec iov = {.iov_base = bytes, .iov_len = size_min(size_min(n, room), sizeof bytes)};
  ssize_t got = from->kind->read(from, &iov, 1);
  if (got > 0) fill_pages(p, bytes, (size_t)got);
  return (int)got;
}

int pipe_drain(struct file *from, struct file *to, size_t n) {
  static uint8_t bytes[FILL_MAX_BYTES];
  struct pipe *p = pipe_of(from);
  if (!is_reader(p, from)) return -EBADF;
  if (pipe_held(p) == 0) return p->writer == NULL ? 0 : -EAGAIN;
  struct iovec iov = {.iov_base = bytes, .iov_len = size_min(size_min(n, pipe_held(p)), sizeof bytes)};
  ring_peek(&p->bytes, &iov, 1, iov.iov_len);
  ssize_t put = to->kind->write(to, &iov, 1);
  if (put <= 0) return (int)put;
  ring_drop(&p->bytes, (size_t)put);
  pages_drop(p, (size_t)put);
  return (int)put;
}
