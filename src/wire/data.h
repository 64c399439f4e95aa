/* What passes on a data connection besides the stream itself: the agent's preface, the relay's OPEN, the agent's
   ACCEPT. */
#ifndef WIRE_DATA_H
#define WIRE_DATA_H

#include "base/addr.h"
#include "base/limits.h"
#include "wire/link_keys.h"

/* Preface: magic(4) version(1) link id(16) number(8) mac(16). */
enum { PREFACE_BYTES = 45, PREFACE_FIRST_BYTE = 0xAD };
struct preface { uint8_t link_id[LINK_ID_BYTES]; uint64_t number; uint8_t mac[16]; };
int preface_encode(const uint8_t link_id[LINK_ID_BYTES], uint64_t number, const struct number_keys *k,
                   uint8_t out[PREFACE_BYTES]) MUST_USE;
int preface_decode(const uint8_t in[PREFACE_BYTES], struct preface *p) MUST_USE;         /* no MAC check: ERR_SYNTAX */
int preface_verify(const struct preface *p, const struct number_keys *k) MUST_USE;       /* ERR_AUTH */

enum stream_kind { STREAM_TLS13 = 1, STREAM_TLS12 = 2, STREAM_RAW_SEALED = 3, STREAM_RAW_PLAIN = 4 };

/* OPEN: header magic(4) version(1) length(2), authenticated, then the sealed body (AES-256-GCM, key used once, nonce
   zero). */
enum { OPEN_HEADER_BYTES = 7, OPEN_MAX_BYTES = OPEN_HEADER_BYTES + OPEN_BODY_MAX_BYTES + 16 };
struct open_message {
  uint32_t tunnel_id;              /* the BIND's id */
  uint8_t kind;
  struct addr visitor, local;      /* who came, and the address on which the relay took it */
  uint16_t suite;                  /* 0 for STREAM_RAW_PLAIN, as all below */
  /* "client" is the visitor's side; TLS 1.2: key and iv */
  uint8_t client_secret[TLS_SECRET_MAX_BYTES], server_secret[TLS_SECRET_MAX_BYTES];
  size_t secret_n;
  uint64_t client_sequence, server_sequence;
  uint16_t fragment_max;           /* 0: none negotiated */
  uint8_t alpn[256]; size_t alpn_n;
};
int open_encode(const struct open_message *m, const struct number_keys *k, uint8_t out[OPEN_MAX_BYTES],
                size_t *n) MUST_USE;
/* Total length from the header: ERR_SYNTAX when it is none. */
int open_length(const uint8_t header[OPEN_HEADER_BYTES], size_t *total) MUST_USE;
/* Decrypts in place, so in is changed; the caller wipes in and m. ERR_AUTH, ERR_SYNTAX. */
int open_decode(uint8_t *in, size_t n, const struct number_keys *k, struct open_message *m) MUST_USE;

/* ACCEPT: magic(4) status(1) mac(16). Written before the app is dialled. */
enum { ACCEPT_BYTES = 21 };
enum accept_status { ACCEPT_OK = 0, ACCEPT_NO_TUNNEL = 1 };
int accept_encode(enum accept_status status, const struct number_keys *k, uint8_t out[ACCEPT_BYTES]) MUST_USE;
int accept_decode(const uint8_t in[ACCEPT_BYTES], const struct number_keys *k, enum accept_status *status) MUST_USE;

#endif
