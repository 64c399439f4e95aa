/* A TLS handshake by OpenSSL without I/O, and what follows from it: the handoff of the connection's secrets. Bytes are
   fed exactly: never more than tls_conn_want() at a time, so that what the peer sends after its Finished stays in the
   kernel. */
#ifndef TLS_TLS_CONN_H
#define TLS_TLS_CONN_H

#include "crypto/pin.h"
#include "tls/client_hello.h"
#include "tls/suite.h"
#include "tls/tls_server.h"

struct tls_conn;
struct fibres;                     /* base/fibre.h */

/* Whoever feeds a connection that may wait (TLS_WAITS). */
struct tls_waiter { void (*ready)(struct tls_waiter *w); };        /* embedded in its owner, which outlives the wait */

struct tls_server_policy {
  const char *host;                /* the name that the first ClientHello fixed; another after HelloRetryRequest is
                                      illegal_parameter */
  const uint8_t *alpn;             /* selectable protocols, wire format, in order of preference; copied */
  size_t alpn_n;
  bool tls13_only;
  bool wants_exporter;             /* control link: compute takeover.exporter */
  bool whole_chain;                /* control link: send the trust anchor, too, of which the agent has only the pin */
  struct fibres *fibres;           /* on one of which OpenSSL waits for the signature of a key that is elsewhere; NULL:
                                      that is waited for in tls_conn_feed */
  struct tls_waiter *waiter;       /* with fibres */
};
struct tls_conn *tls_conn_server(struct tls_server *s, const struct tls_server_policy *policy, struct err *e) MUST_USE;

struct tls_client;                 /* shared by connections of one process; the system's authorities are loaded when
                                      first needed */
struct tls_client *tls_client_new(const char *ca_file /* or NULL: the system's */, struct err *e) MUST_USE;
void tls_client_free(struct tls_client *c);
/* To a relay: TLS 1.3 only, ALPN `alpn` required of it. To a stranger's server (alpn NULL): TLS 1.2 will do, and no
   ALPN is spoken of. The exporter is always computed. */
struct tls_conn *tls_conn_client(struct tls_client *c, const char *host, const struct pin *pin, const char *alpn,
                                 struct err *e) MUST_USE;
void tls_conn_free(struct tls_conn *t);          /* wipes all secrets; also amid a wait; NULL is fine */

enum tls_status {
  TLS_GOING_ON,
  TLS_DONE,
  TLS_FAILED,                      /* an alert may be in the output */
  TLS_WAITS                        /* for a signature: nothing may be fed until waiter->ready, and then n == 0 first */
};
/* Drives the handshake; call first with n == 0 on a client. */
enum tls_status tls_conn_feed(struct tls_conn *t, const uint8_t *p, size_t n, struct err *e);
enum tls_refusal {                 /* why a server's handshake failed, as far as an operator should know */
  TLS_REFUSED_OTHERWISE,
  TLS_REFUSED_ALPN,                /* no_application_protocol: the client offers some, and none that is selectable */
  TLS_REFUSED_NO_EMS               /* handshake_failure: it knows TLS 1.2 only, and no extended master secret */
};
enum tls_refusal tls_conn_refusal(const struct tls_conn *t);
size_t tls_conn_want(const struct tls_conn *t);  /* bytes that may be fed now: all of them are the handshake's */
/* Bytes to send. */
const uint8_t *tls_conn_output(struct tls_conn *t, size_t *n);
void tls_conn_output_sent(struct tls_conn *t, size_t n);
/* After the handshake. */
int tls_conn_version(const struct tls_conn *t);  /* TLS_VERSION_12 or TLS_VERSION_13 */
const uint8_t *tls_conn_alpn(const struct tls_conn *t, size_t *n);  /* n 0: none */

/* EXPORTER-adit-link, 32 bytes. */
enum { TLS_EXPORTER_BYTES = 32 };
struct tls_takeover {              /* wipe after use */
  uint16_t suite;
  uint8_t client_secret[TLS_SECRET_MAX_BYTES], server_secret[TLS_SECRET_MAX_BYTES]; /* as record_keys_init takes them */
  size_t secret_n;
  uint64_t client_sequence, server_sequence;   /* records already sent under them */
  size_t fragment_max;             /* from max_fragment_length, else 0 */
  uint8_t exporter[TLS_EXPORTER_BYTES];        /* when wanted */
};
/* Takes the connection out of OpenSSL. Holds only when the handshake is done and not resumed, nothing is pending inside
   OpenSSL, and what describes the connection is known for certain: in TLS 1.3, both secrets were logged exactly once
   and nothing was sent since the server's flight; in TLS 1.2, our Finished is all that we sent under the keys, and a
   client has the extended master secret. Else ERR_NOT_NOW and nothing is changed. All output must have been sent. On
   success only tls_conn_free may follow. */
int tls_conn_take_over(struct tls_conn *t, struct tls_takeover *out) MUST_USE;

/* A fatal alert into the output, before or after the handshake. */
void tls_conn_alert(struct tls_conn *t, uint8_t alert);

#endif
