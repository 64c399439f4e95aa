/* The frames of the control link, encoder and decoder side by side. A frame is type (u8), length (u24), body. Every
   decoder bounds before it reads; unknown types are skipped; trailing bytes in a known frame are ignored (a later
   version's fields). Decoded pointers point into the input. docs/protocol.md describes every field. */
#ifndef WIRE_FRAME_H
#define WIRE_FRAME_H

#include "base/addr.h"
#include "base/cursor.h"
#include "base/limits.h"
#include "crypto/crypto.h"
#include "wire/certificate.h"

enum { WIRE_VERSION = 1, FRAME_HEADER_BYTES = 4 };
#define WIRE_ALPN "adit/1"
#define WIRE_DATA_ALPN "adit-data/1" /* of data connections inside TLS */

enum frame_type {
  FRAME_HELLO = 1,                 /* agent: who I am */
  FRAME_WELCOME = 2,               /* relay */
  FRAME_BIND = 3,                  /* agent: one tunnel, please; may follow HELLO in the same flight */
  FRAME_BOUND = 4,                 /* relay: its address */
  FRAME_UNBIND = 5,                /* agent: close that tunnel */
  FRAME_UNBOUND = 6,               /* relay: that tunnel is refused or closed, why */
  FRAME_WANT = 7,                  /* relay: dial so many data connections now */
  FRAME_PING = 8, FRAME_PONG = 9,  /* both */
  FRAME_GOODBYE = 10,              /* both: this link ends, why */
  FRAME_TICKET = 11,               /* relay: a renewed ticket */
  FRAME_NOTICE = 12,               /* relay: visitors were refused, why and how many */
  FRAME_ARRIVED = 13,              /* relay: the first data connection of this link has proven itself */
  FRAME_REVOKE = 14,               /* agent: end a certificate that was narrowed from mine */
  FRAME_REVOKED = 15,              /* relay: whether it has */
  FRAME_SHORT = 16,                /* agent: so many data connections cannot be dialled, for want of descriptors */
  FRAME_TYPES
};

/* Why a link or a tunnel was refused or ended: a row each with name and text in refusal.c. */
enum refusal {
  REFUSE_NONE = 0,
  REFUSE_VERSION = 1,
  REFUSE_MALFORMED = 2,
  REFUSE_TOKEN_UNKNOWN = 3,        /* operator not trusted here */
  REFUSE_TOKEN_EXPIRED = 4,
  REFUSE_TOKEN_REVOKED = 5,
  REFUSE_TOKEN_PROOF = 6,
  REFUSE_TUNNEL_LIMIT = 7,
  REFUSE_NO_RAW_PORTS = 8,
  REFUSE_PORTS_EXHAUSTED = 9,
  REFUSE_SUPERSEDED = 10,
  REFUSE_TICKET = 11,              /* not valid here; a new address can be had without it */
  REFUSE_PLAIN = 12,
  REFUSE_H2 = 13,
  REFUSE_ALPN = 14,
  REFUSE_DRAINING = 15,
  REFUSE_STATE = 16,               /* relay cannot write its state */
  REFUSE_INTERNAL = 17,
  REFUSE_CLOSED = 18,              /* by the agent itself */
  REFUSE_SHORTAGE = 19,            /* of descriptors or memory, at the relay */
  REFUSE_TOKEN_RAW = 20,
  REFUSE_TOKEN_ALLOW = 21,
  REFUSE_NOT_NARROWED = 22,        /* of REVOKE: the certificate is not from the link's */
  REFUSE_REVOCATIONS = 23,         /* of REVOKE: the relay keeps no more of them for this token */
  REFUSE_LAST = REFUSE_REVOCATIONS /* a later version may send what is above: "unknown", and never final */
};
const char *refusal_name(enum refusal r);          /* "token_revoked", for JSON and metrics */
const char *refusal_text(enum refusal r);          /* "the token was revoked (ask the operator for a new one)" */
/* What a person is told: the text that came with it, or if that is empty ours; and the number of a reason that we do
   not know. */
void refusal_explain(enum refusal r, const char *came, char *out, size_t cap);
bool refusal_is_final(enum refusal r);             /* the agent should not try again with the same request */

/* Why visitors of a tunnel were refused: a row each with name and text in notice.c. */
enum notice {
  NOTICE_NONE = 0,
  NOTICE_STREAMS = 1,
  NOTICE_VISITORS = 2,
  NOTICE_SHARE = 3,
  NOTICE_LOAD = 4,
  NOTICE_WAITING = 5,
  NOTICE_LOST = 6,
  NOTICES
};
const char *notice_name(uint16_t reason);          /* "max_streams", for JSON and metrics */
const char *notice_text(uint16_t reason);          /* "the token allows no more streams at once (...)" */

enum tunnel_flags {
  TUNNEL_TCP = 1,                  /* a raw port, too */
  TUNNEL_PLAIN = 2,                /* raw port bytes unsealed between relay and agent */
  TUNNEL_H2 = 4
};

enum welcome_flags {
  WELCOME_WRAPPED = 1,             /* data connections are taken inside TLS, too, and ARRIVED is sent */
  WELCOME_REVOKES = 2              /* REVOKE is answered */
};

struct frame { uint8_t type; struct reader body; size_t total; /* with header */ };
/* 1: *f is a full frame; 0: more bytes needed; ERR_SYNTAX: longer than body_max. */
int frame_next(const uint8_t *p, size_t n, size_t body_max, struct frame *f) MUST_USE;

struct frame_hello {
  uint16_t version;
  uint8_t share[X25519_BYTES];
  const uint8_t *chain; size_t chain_n;              /* of certificates (wire/certificate.h) */
  uint8_t signature[ED25519_SIG_BYTES];              /* frame_hello_sign() */
  char software[AGENT_SOFTWARE_MAX_CHARS + 1];
};
struct frame_welcome {
  uint16_t version;
  uint8_t share[X25519_BYTES];
  char relay[HOST_NAME_MAX_CHARS + 1];               /* the relay's own name */
  uint64_t instance;                                 /* random for each start of the relay */
  uint32_t heartbeat_ms;
  uint16_t warm;                                     /* data connections to dial at once */
  uint32_t flags;                                    /* 0 from relays that do not send them */
};
struct frame_bind {
  uint32_t id;                                       /* chosen by the agent, unique on its link */
  uint32_t flags;
  const uint8_t *alpn; size_t alpn_n;                /* selectable protocols, wire format */
  struct cidr allow[ALLOW_CIDRS_MAX]; size_t allow_n; /* none: everybody, ... */
  const uint8_t *ticket; size_t ticket_n;            /* none: a new address */
  uint32_t incarnation;
  struct cidr deny[ALLOW_CIDRS_MAX]; size_t deny_n;  /* ... but for these, also if they are allowed */
};
struct frame_bound {
  uint32_t id;
  char host[HOST_NAME_MAX_CHARS + 1];                /* <label>.<relay domain> */
  uint16_t port;
  char tcp_host[HOST_NAME_MAX_CHARS + 1];            /* empty without a raw port */
  uint16_t tcp_port;
  bool plain;                                        /* granted */
  const uint8_t *ticket; size_t ticket_n;
};
struct frame_unbound { uint32_t id; uint16_t reason; char text[256]; };  /* text may be empty: refusal_text then */
struct frame_goodbye { uint16_t reason; char text[256]; };
/* count: since the last of this tunnel and reason */
struct frame_notice { uint32_t id; uint16_t reason; uint32_t count; };
struct frame_ticket { uint32_t id; const uint8_t *ticket; size_t ticket_n; };
struct frame_revoke {
  uint32_t number;                                   /* the agent's choice, copied in the answer */
  uint8_t id[TOKEN_ID_BYTES];
  int64_t expires_s;                                 /* when the certificate ends by itself; 0: with the link's own */
};
struct frame_revoked { uint32_t number; uint16_t reason; char text[256]; };  /* REFUSE_NONE: it is revoked */

/* Each appends a whole frame to w; what does not fit sets w->bad. Each decoder returns 0 or ERR_SYNTAX. */
void frame_hello_encode(struct writer *w, const struct frame_hello *f);
int frame_hello_decode(struct reader body, struct frame_hello *f) MUST_USE;
void frame_welcome_encode(struct writer *w, const struct frame_welcome *f);
int frame_welcome_decode(struct reader body, struct frame_welcome *f) MUST_USE;
void frame_bind_encode(struct writer *w, const struct frame_bind *f);
int frame_bind_decode(struct reader body, struct frame_bind *f) MUST_USE;
void frame_bound_encode(struct writer *w, const struct frame_bound *f);
int frame_bound_decode(struct reader body, struct frame_bound *f) MUST_USE;
void frame_unbind_encode(struct writer *w, uint32_t id);
int frame_unbind_decode(struct reader body, uint32_t *id) MUST_USE;
void frame_unbound_encode(struct writer *w, const struct frame_unbound *f);
int frame_unbound_decode(struct reader body, struct frame_unbound *f) MUST_USE;
void frame_want_encode(struct writer *w, uint16_t count);
int frame_want_decode(struct reader body, uint16_t *count) MUST_USE;
void frame_short_encode(struct writer *w, uint16_t count);
int frame_short_decode(struct reader body, uint16_t *count) MUST_USE;
void frame_arrived_encode(struct writer *w, uint64_t number);
int frame_arrived_decode(struct reader body, uint64_t *number) MUST_USE;
void frame_ping_encode(struct writer *w, enum frame_type ping_or_pong, uint64_t cookie);
int frame_ping_decode(struct reader body, uint64_t *cookie) MUST_USE;
void frame_goodbye_encode(struct writer *w, const struct frame_goodbye *f);
int frame_goodbye_decode(struct reader body, struct frame_goodbye *f) MUST_USE;
void frame_notice_encode(struct writer *w, const struct frame_notice *f);
int frame_notice_decode(struct reader body, struct frame_notice *f) MUST_USE;
void frame_ticket_encode(struct writer *w, const struct frame_ticket *f);
int frame_ticket_decode(struct reader body, struct frame_ticket *f) MUST_USE;
void frame_revoke_encode(struct writer *w, const struct frame_revoke *f);
int frame_revoke_decode(struct reader body, struct frame_revoke *f) MUST_USE;
void frame_revoked_encode(struct writer *w, const struct frame_revoked *f);
int frame_revoked_decode(struct reader body, struct frame_revoked *f) MUST_USE;

/* HELLO's signature covers a context string, version, exporter, share, SHA-256 of the chain. Verify: 0, or ERR_AUTH, or
   what our own failure is. */
int frame_hello_sign(struct frame_hello *f, const uint8_t exporter[32], const uint8_t seed[ED25519_KEY_BYTES]) MUST_USE;
int frame_hello_verify(const struct frame_hello *f, const uint8_t exporter[32],
                       const uint8_t public_key[ED25519_KEY_BYTES]) MUST_USE;

/* ALPN lists: "http/1.1,h2" to wire format and the check that every entry is selectable (not acme-tls/1, not adit*). */
int alpn_parse(const char *text, uint8_t *out, size_t cap, size_t *n, struct err *e) MUST_USE;
int alpn_check(const uint8_t *list, size_t n) MUST_USE;      /* well-formed, at most ALPN_LIST_MAX_BYTES, selectable */
bool alpn_contains(const uint8_t *list, size_t n, const char *protocol);

#endif
