/* What a relay asks of its key process, and the answers. The relay may have been taken over when it asks, so a request
   is parsed as if a stranger had written it. */
#ifndef RELAY_KEY_WIRE_H
#define RELAY_KEY_WIRE_H

#include "base/buf.h"
#include "base/err.h"
#include "crypto/pin.h"
#include "tls/handshake_sign.h"
#include "wire/ticket.h"

enum key_request_kind {
  KEY_LOAD = 1,                    /* the certificate, from its files or from the authority */
  KEY_ISSUE,                       /* one for a host's exact name */
  KEY_SIGN,                        /* a handshake, with a key by its handle */
  KEY_DROP,                        /* a handle is not needed any more; has no answer */
  KEY_TICKETS,                     /* the ticket keys, read and rotated */
  KEY_TICKET_MAKE,
  KEY_TICKET_READ
};

struct key_request {
  enum key_request_kind kind;
  char host[HOST_NAME_MAX_CHARS + 1];          /* ISSUE */
  uint64_t handle;                 /* SIGN, DROP */
  struct sign_scheme scheme;       /* SIGN */
  const uint8_t *text; size_t text_n;          /* SIGN; TICKET_READ: the ticket. Inside the input */
  struct ticket ticket;            /* TICKET_MAKE */
};

struct key_answer {
  int code;
  char error[ERR_TEXT_MAX];
  uint64_t handle;                 /* LOAD, ISSUE */
  struct pin pin;                  /* LOAD */
  const uint8_t *bytes; size_t n;  /* LOAD, ISSUE: the chain in PEM; SIGN: the signature; TICKET_MAKE: the ticket */
  struct ticket ticket;            /* TICKET_READ */
};

/* Each is a frame: three bytes of length, then the rest. */
enum {
  KEY_FRAME_HEADER_BYTES = 3,
  KEY_REQUEST_MAX_BYTES = 1024,
  KEY_CHAIN_MAX_BYTES = CERT_FILE_MAX_BYTES + CERT_FILE_MAX_BYTES / 16,    /* lines of another length than the file's */
  KEY_ANSWER_MAX_BYTES = 1024 + KEY_CHAIN_MAX_BYTES,
  KEY_SIGNED_MAX_BYTES = 1024 + SIGNATURE_MAX_BYTES      /* the answer of SIGN */
};

/* *n: the length of the frame that b begins with, its header included; 0: not all of it is there. ERR_SYNTAX: it is
   empty, or longer than body_max. */
int key_frame_whole(const struct buf *b, size_t body_max, size_t *n) MUST_USE;

int key_request_write(const struct key_request *r, uint8_t out[KEY_FRAME_HEADER_BYTES + KEY_REQUEST_MAX_BYTES],
                      size_t *n) MUST_USE;
int key_request_read(const uint8_t *p, size_t n, struct key_request *r) MUST_USE;  /* what follows the header */
int key_answer_write(const struct key_answer *a, struct buf *out) MUST_USE;
int key_answer_read(const uint8_t *p, size_t n, struct key_answer *a) MUST_USE;

#endif
