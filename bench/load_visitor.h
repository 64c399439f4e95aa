/* One visitor: a blocking client over TLS 1.3, or over plain TCP. It verifies the certificate and never resumes a
   session. Every failure ends the program, but for those of a visitor that is only trying. */
#ifndef BENCH_LOAD_VISITOR_H
#define BENCH_LOAD_VISITOR_H

#include "load.h"

#include <openssl/ssl.h>
#include <pthread.h>
#include <stdatomic.h>

struct visitor {
  const struct load_options *o;
  SSL_CTX *ctx;                  /* NULL: plain */
  struct addrinfo *to;
  SSL *ssl;
  int fd;
  uint64_t bytes;                /* down, up: this stream's share */
  _Atomic uint64_t got;          /* under: what has come so far */
  uint64_t *ns;                  /* connect: one sample for each of count connections */
  unsigned count;
  pthread_barrier_t *ready;
  void (*run)(struct visitor *v);
};

/* What all visitors of a run have in common, to be copied. */
void visitor_init(struct visitor *v, const struct load_options *o);
/* Whether it got there; it is closed where not. */
bool visitor_try(struct visitor *v);
void visitor_open(struct visitor *v);
void visitor_close(struct visitor *v);
void visitor_write(struct visitor *v, const void *p, size_t n);
size_t visitor_read(struct visitor *v, void *p, size_t n);
/* As recv: 0 at the end, -1 at a failure. */
ssize_t visitor_read_some(struct visitor *v, void *p, size_t n);
/* Says what it wants of the app. */
void visitor_ask(struct visitor *v, char kind);

#endif
