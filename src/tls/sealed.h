/* One end of an established TLS connection after its handshake, without the handshake: what the agent is for a
   handed-off visitor, and what both ends of a control link and of a sealed raw stream are. Implements the wire rules of
   RFC 8446 5 and 6 (KeyUpdate, alerts, close_notify), or, by the suite, of RFC 5246 6 and 7.2, whose renegotiation is
   declined. No I/O: records in, plaintext and events out, and the other way round. */
#ifndef TLS_SEALED_H
#define TLS_SEALED_H

#include "base/cursor.h"
#include "tls/record.h"

struct sealed;

struct sealed_params {
  const struct tls_suite *suite;
  const uint8_t *read_secret, *write_secret;   /* of tls_suite_secret_bytes(suite); copied */
  uint64_t read_sequence, write_sequence;
  size_t fragment_max;             /* most plaintext bytes in one record, either way; 0: RECORD_PLAIN_MAX */
  bool from_server;                /* the other end is a stranger's server: its NewSessionTickets are passed over, its
                                      HelloRequests declined */
};
struct sealed *sealed_new(const struct sealed_params *p) MUST_USE;   /* NULL when out of memory */
void sealed_free(struct sealed *s);              /* wipes; NULL is fine */
/* Gives back most of its memory until a record comes or goes: for streams that idle. */
void sealed_rest(struct sealed *s);

enum sealed_result {
  SEALED_MORE,                     /* no full record there */
  SEALED_DATA,                     /* plain, n: application data inside buf (n > 0) */
  SEALED_NOTHING,                  /* a record without data was consumed (KeyUpdate, empty data, a warning): call
                                      again */
  SEALED_EOF,                      /* close_notify: the peer's direction has ended cleanly; nothing after it is read */
  SEALED_PEER_ALERT,               /* the peer sent a fatal alert: treat as reset */
  SEALED_FAILED                    /* protocol violation; our fatal alert is now owed (sealed_write_owed), then reset */
};
/* Consumes at most one record from buf[0..len), in place; *consumed is how much. */
enum sealed_result sealed_read(struct sealed *s, uint8_t *buf, size_t len, size_t *consumed, uint8_t **plain,
                               size_t *n);

/* Whether a record is owed before more data may be written: an answer to KeyUpdate or to renegotiation (coalesced), our
   own KeyUpdate, an alert. */
bool sealed_owes(const struct sealed *s);
/* Writes owed records to out; returns bytes written (at most SEALED_OWED_MAX), 0 when none. */
enum { SEALED_OWED_MAX = 64 };
size_t sealed_write_owed(struct sealed *s, uint8_t *out);
/* Protects n bytes (1..sealed_fragment_max) placed at record + sealed_lead, which become n + sealed_overhead. Must not
   be called while sealed_owes. */
int sealed_write(struct sealed *s, uint8_t *record, size_t n) MUST_USE;
size_t sealed_fragment_max(const struct sealed *s);
size_t sealed_lead(const struct sealed *s);
size_t sealed_overhead(const struct sealed *s);
void sealed_close(struct sealed *s);             /* our direction ends: close_notify is owed; no data after it */
void sealed_fail(struct sealed *s, uint8_t alert); /* a fatal alert is owed; no data after it */
bool sealed_write_ended(const struct sealed *s); /* close_notify or fatal alert has been written out by
                                                    sealed_write_owed */

/* Its whole state, keys included, to go on with in another process. Whoever has the bytes wipes them. Takes s: two that
   go on with the same keys would use a nonce twice. SEALED_EXPORT_MAX_BYTES are always enough. */
enum { SEALED_EXPORT_MAX_BYTES = 160 };
void sealed_export(struct sealed *s, struct writer *w);
/* Of any bytes: ERR_SYNTAX, also for another version's; ERR_NOMEM. */
int sealed_import(struct reader *r, struct sealed **out) MUST_USE;

#endif
