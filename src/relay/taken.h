/* A visitor's TLS connection without its handshake: what OPEN says of it, taken out of OpenSSL. From then on it can go
   anywhere as bytes. */
#ifndef RELAY_TAKEN_H
#define RELAY_TAKEN_H

#include "base/cursor.h"
#include "relay/worker.h"
#include "tls/tls_conn.h"
#include "wire/data.h"

/* Fills kind, suite, secrets, sequences, fragment_max and ALPN; of conn only tls_conn_free may follow. On failure, that
   of tls_conn_take_over or ERR_LIMIT, nothing has changed. Whoever has m wipes it. */
int taken_from(struct tls_conn *conn, struct open_message *m) MUST_USE;

enum { TAKEN_EXPORT_MAX_BYTES = 32 + 2 * TLS_SECRET_MAX_BYTES + ALPN_LIST_MAX_BYTES };
void taken_write(const struct open_message *m, struct writer *w);
int taken_read(struct reader *r, struct open_message *m) MUST_USE;  /* of any bytes: ERR_SYNTAX */

/* Takes fd: sends a fatal alert, as handshake_refuse does, and closes. */
void taken_refuse(struct worker *w, int fd, const struct open_message *m, uint8_t alert);

#endif
