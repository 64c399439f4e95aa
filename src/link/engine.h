/* One end of a control link from its TLS handshake on, the relay's or the agent's, without a socket and without a
   clock: bytes in, frames to handlers; frames in, bytes out. Both ends are this engine with a table of their own
   (struct engine_role), and so are the tests' hostile agent and the fuzzers.

   Whoever owns the socket has three things to do in a turn, in this order:

       receive into engine_room, engine_received     unless the last engine_work said ENGINE_RESTS
       engine_work                                   and see to what it returns
       send what engine_output gives, engine_sent    until that is NULL, or the socket takes no more

   Calls go down, and only frames and the question for the time come up. Handlers are called by engine_work alone,
   never by a call that sends: so a handler may send, open or stop the engine, and whoever sends need not fear that
   anything changes under his hands. It must not call engine_work or engine_free. After engine_stop every call is
   harmless and does nothing; the memory stays until engine_free, since frames lie in it that handlers may still look
   at. */
#ifndef LINK_ENGINE_H
#define LINK_ENGINE_H

#include "base/buf.h"
#include "tls/idle_records.h"
#include "tls/sealed.h"
#include "tls/tls_conn.h"
#include "wire/frame.h"
#include "wire/link_keys.h"

/* In the order in which a link lives. */
enum link_state {
  LINK_HANDSHAKE,                  /* TLS has it: there is no engine yet */
  LINK_HELLO,                      /* HELLO or WELCOME is awaited */
  LINK_UP,
  LINK_DOWN                        /* nothing is heard or said any more */
};

struct engine;
struct engine_secrets;

/* One frame, valid until the handler returns. 0, or ERR_SYNTAX: engine_work returns ENGINE_MALFORMED. */
typedef int engine_frame_fn(struct engine *e, const struct frame *f);

enum { WHILE_HELLO = 1, WHILE_UP = 2 };
struct engine_rule {
  unsigned when;                   /* WHILE_...; a frame at another time is malformed */
  engine_frame_fn *fn;
};

struct engine_role {
  bool is_relay;                   /* the server of the TLS handshake */
  size_t hello_max_bytes;          /* longest body before the link is up; then FRAME_BODY_MAX_BYTES */
  uint64_t (*now_ms)(struct engine *e);          /* monotonic */
  /* Of types without a rule, PING is answered; others are skipped while the link is up, and malformed before. */
  struct engine_rule rules[FRAME_TYPES];
  engine_frame_fn *heard;          /* every frame, before its rule; NULL: nobody asks */
};

struct engine {                    /* embedded in its owner, zeroed; the fields are for reading */
  enum link_state state;
  const struct engine_role *role;
  bool working, failed;
  struct sealed *sealed;
  struct idle_records idle_records;
  struct buf in;                   /* ciphertext: at most one record */
  struct buf frames;               /* plaintext: at most one frame and what came with it */
  struct buf out;                  /* ciphertext: at most LINK_OUT_MAX_BYTES */
  uint64_t heard_ms, spoke_ms;     /* when the last whole frame was worked on, and the last was sent */
  struct engine_secrets *secrets;  /* until engine_agree */
  uint8_t id[LINK_ID_BYTES];       /* from engine_agree on */
  struct link_keys *keys;          /* the same */
};

/* Takes the connection out of OpenSSL, in LINK_HELLO; a client's Finished, still in its output, leaves before
   anything else. Of tls only tls_conn_free may follow. 0, ERR_NOMEM, or what tls_conn_take_over says; after a
   failure engine_stop and engine_free follow. */
int engine_take_over(struct engine *e, const struct engine_role *role, struct tls_conn *tls) MUST_USE;
/* The same from what a connection was taken out with, which stays the caller's to wipe. */
int engine_start(struct engine *e, const struct engine_role *role, const struct tls_takeover *t) MUST_USE;
void engine_stop(struct engine *e);              /* LINK_DOWN, also from a handler; its keys are wiped at once */
void engine_free(struct engine *e);              /* stopped, and no handler of it is running */

/* ---- moving to another process ---- */

/* A whole frame that was heard, and is still to be worked on where the link goes, is heard once more there, before all
   others. ERR_LIMIT, ERR_NOMEM: there is no room. */
int engine_hear_again(struct engine *e, const struct writer *frame) MUST_USE;

/* A link that is up, amid whatever came and is to go. Its bytes and keys go behind what is in *state, whose owner wipes
   them; it is stopped then, without a word to the other end, which notices nothing. On failure nothing has changed:
   ERR_NOT_NOW, it is not up, or a handler runs; ERR_CLOSED, it has failed; ERR_LIMIT, ERR_NOMEM.
   ENGINE_EXPORT_MAX_BYTES are always enough. */
enum { ENGINE_EXPORT_MAX_BYTES = 1 << 19 };
int engine_export(struct engine *e, struct buf *state) MUST_USE;
/* The same link, here or there; what it had heard and not worked on waits for engine_work. Of any bytes: ERR_SYNTAX,
   ERR_NOMEM; after a failure engine_stop and engine_free follow. */
int engine_import(struct engine *e, const struct engine_role *role, struct reader *r) MUST_USE;

/* ---- who the other end is ---- */

const uint8_t *engine_exporter(const struct engine *e);        /* of TLS: what HELLO signs; until engine_agree */
int engine_make_share(struct engine *e, uint8_t share[X25519_BYTES]) MUST_USE; /* ours, for HELLO or WELCOME */
/* Ours and theirs give the keys of data connections and the link's id; what they were made from is wiped, also on
   failure. */
int engine_agree(struct engine *e, const uint8_t their_share[X25519_BYTES]) MUST_USE;
void engine_open(struct engine *e);              /* LINK_UP: they are who they say */

/* ---- hearing ---- */

/* For what the socket has, never more than one record; NULL: out of memory. */
uint8_t *engine_room(struct engine *e, size_t *n) MUST_USE;
void engine_received(struct engine *e, size_t n);

enum engine_result {
  ENGINE_IDLE,                     /* all that has come is worked off */
  ENGINE_RESTS,                    /* the share is used up: work again next turn, and receive nothing before */
  /* What follows ends the link: its owner sends what engine_output still gives, and stops it. */
  ENGINE_STOPPED,                  /* a handler did */
  ENGINE_ENDED,                    /* close_notify */
  ENGINE_ALERTED,                  /* the other end sent a fatal alert */
  ENGINE_VIOLATED,                 /* it broke the rules of the record layer, which it is told by an alert */
  ENGINE_MALFORMED,                /* a frame that is too long, not due, or that its handler refused */
  ENGINE_NO_MEMORY
};
/* Works on at most `share` frames. A record holds hundreds of small ones, and each may cost far more than its bytes. */
enum engine_result engine_work(struct engine *e, size_t share) MUST_USE;

/* ---- saying ---- */

/* Seals whole frames. What does not fit is the end of the link, but not now, since callers iterate: engine_failed
   says so from then on. */
void engine_send(struct engine *e, const struct writer *frames);
void engine_ping(struct engine *e, uint64_t cookie);
void engine_close(struct engine *e);             /* close_notify goes behind what was sent, and nothing behind that */
bool engine_failed(const struct engine *e);      /* the other end does not read; or memory or OpenSSL failed */
size_t engine_waiting(const struct engine *e);   /* bytes that were sealed and not sent */

/* What is to leave next, with what we owe (an answer to KeyUpdate, an alert) behind it; valid until the next call.
   NULL, and *n 0: nothing. */
const uint8_t *engine_output(struct engine *e, size_t *n) MUST_USE;
void engine_sent(struct engine *e, size_t n);

#endif
