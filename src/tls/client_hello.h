/* Our own parse of the first ClientHello, reassembled over TCP segments and TLS records, bounded: it fixes the tunnel.
   No I/O: the caller reads at most client_hello_want() bytes and feeds them, so nothing past the record is ever read.
   The raw bytes are kept, for the handshake that follows. */
#ifndef TLS_CLIENT_HELLO_H
#define TLS_CLIENT_HELLO_H

#include "base/buf.h"
#include "base/limits.h"

struct client_hello {
  struct buf raw;                  /* the records as they came */
  struct buf body;                 /* the handshake message, reassembled */
  uint8_t header[5];               /* of the current record, header_n bytes of it */
  size_t header_n;
  size_t record_left;              /* bytes of the current record's body still to come */
  bool complete;
  /* Valid when complete: */
  bool has_sni;
  char sni[HOST_NAME_MAX_CHARS + 1];  /* lower-cased, one trailing dot removed; empty when not a valid DNS name */
  bool offers_tls13;
  bool has_alpn;
  uint8_t alpn[1024];              /* protocol_name_list entries: length byte, name, ... */
  size_t alpn_n;                   /* longer offers are cut at an entry */
};

/* Record header and all: a message without extensions in a single record. */
enum { CLIENT_HELLO_MIN_BYTES = 50 };
void client_hello_init(struct client_hello *ch);
void client_hello_free(struct client_hello *ch);
/* How many bytes may be read now; 0 once complete. */
size_t client_hello_want(const struct client_hello *ch);
/* 0: go on (see complete). Negative: malformed or too large, and *alert is what to answer with (a plaintext alert). */
int client_hello_feed(struct client_hello *ch, const uint8_t *p, size_t n, uint8_t *alert) MUST_USE;
bool client_hello_offers_alpn(const struct client_hello *ch, const char *protocol);

/* The host of a server_name extension's body, lower-cased, one trailing dot removed; empty when it is not a valid DNS
   name. ERR_SYNTAX when the extension is malformed. */
int client_hello_parse_sni(const uint8_t *p, size_t n, char out[HOST_NAME_MAX_CHARS + 1]) MUST_USE;

/* The 7 bytes of a fatal plaintext alert record. */
enum { PLAIN_ALERT_BYTES = 7 };
void tls_plain_alert(uint8_t alert, uint8_t out[PLAIN_ALERT_BYTES]);

#endif
