/* What visitors and apps say to each other: so and so many bytes each way, every one of which both ends know
   beforehand. Whatever arrives must be the beginning of that, and an end is a clean one only after all of it. */
#ifndef WORLD_TALK_H
#define WORLD_TALK_H

#include <openssl/ssl.h>
#include <stdbool.h>
#include <stdint.h>

struct wire {                      /* a connected socket, or TLS over it */
  int fd;                          /* non-blocking */
  SSL *ssl;                        /* NULL: plain */
};

enum { TALK_PATIENCE_MS = 60000 };  /* whoever is told nothing for so long gives up */

enum talk_end {
  TALK_WHOLE,                      /* both directions came to a clean end */
  TALK_BROKEN                      /* reset, or ended uncleanly */
};

/* The visitor's side: draws what is said from the seed. One direction in so many breaks off (0: none): its sender says
   a part and leaves with an end that looks clean and a reset behind it (kernel.h, network_break_off). */
enum talk_end talk_as_visitor(struct wire *w, uint64_t bytes_max, uint64_t breaks_off_one_in);
enum talk_end talk_as_app(struct wire *w);

/* A TLS client over a socket that is connected; NULL: the handshake failed. */
SSL *talk_tls(SSL_CTX *ctx, int fd, char *name);

#endif
