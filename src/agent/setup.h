/* What an agent starts from: tokens (each a credential and its relays), relay addresses given besides, authorities. */
#ifndef AGENT_SETUP_H
#define AGENT_SETUP_H

#include "agent/http_proxy.h"
#include "base/buf.h"
#include "base/dial_address.h"
#include "wire/token.h"

struct setup_token {
  uint8_t *seed;                   /* ED25519_KEY_BYTES from secret_alloc */
  uint8_t chain[CHAIN_MAX_BYTES];
  size_t chain_n;
  struct certificate info;         /* of the chain's last */
  size_t narrowed;                 /* how often */
  struct token_relay relays[TOKEN_RELAYS_MAX];
  size_t relays_n;
};

/* How data connections go to relays: plain, inside TLS, or as it works. */
enum setup_data { SETUP_DATA_AUTO, SETUP_DATA_PLAIN, SETUP_DATA_TLS };

struct setup {
  struct setup_token *tokens[AGENT_TOKENS_MAX];
  size_t tokens_n;
  struct dial_address dials[AGENT_RELAYS_MAX]; /* instead of the addresses in the tokens */
  size_t dials_n;
  char *ca_file;
  char *embedded;                  /* path of the adit program */
  char *proxy;                     /* its URL, wiped like a token; NULL: none */
  const char *proxy_from;          /* the variable of the environment that it is from; NULL: it was asked for */
  char *no_proxy;
  struct http_proxy *http_proxy;   /* what the URL says; made with the choices, when one of them is to be dialled
                                      through it */
  enum setup_data data;
  bool moves_in;                   /* another program has begun what it is for: nothing is done before move_in */
  bool eager;                      /* connects before there is a tunnel, even where a ticket might decide which relay */
};

/* One relay that may be dialled, and who we are to it. */
struct relay_choice {
  struct dial_address dial;
  char name[HOST_NAME_MAX_CHARS + 1];
  struct pin pin;
  const struct setup_token *token;
  const struct http_proxy *proxy;  /* the setup's; NULL: dialled straight, as Unix sockets always are */
  bool refused;                    /* it refused us for good */
  bool tried;                      /* in this round */
  bool wrap_told;                 /* that its data connections go inside TLS */
};

void setup_init(struct setup *s);
void setup_free(struct setup *s);
int setup_copy(struct setup *to, const struct setup *from) MUST_USE;
int setup_add_token(struct setup *s, const char *text, struct err *e) MUST_USE;
/* Another token, narrower than the only one that there is (wire/token.h). */
int setup_narrow(const struct setup *s, const struct narrowing *wish, int64_t now_s, char out[TOKEN_TEXT_MAX_CHARS + 1],
                 struct err *e) MUST_USE;
/* The id and the end (0: not known) of a token that was narrowed from the only one that there is, by itself or by its
   id, which is believed. ERR_USAGE: it is neither, or from another. */
int setup_find_narrowed(const struct setup *s, const char *narrowed, uint8_t id[TOKEN_ID_BYTES], int64_t *expires_s,
                        struct err *e) MUST_USE;
/* "HOST[:PORT]" or "unix:PATH". */
int setup_add_relay(struct setup *s, const char *address, struct err *e) MUST_USE;
/* Dials through this proxy: a URL, or "none". Loopback relays are dialled straight unless `from` is NULL. no_proxy may
   be NULL. */
int setup_set_proxy(struct setup *s, const char *url, const char *from, const char *no_proxy, struct err *e) MUST_USE;
/* Tokens and passwords included, to another program: ERR_LIMIT, ERR_NOMEM. And back, into an empty setup: ERR_SYNTAX,
   ERR_NOMEM. What program an embedded relay is started from does not go along. */
int setup_export(const struct setup *s, struct buf *state) MUST_USE;
int setup_import(struct setup *s, struct reader *r) MUST_USE;
/* The relays to choose from: those of all tokens, or those given besides with the name and pin of the token's relay of
   the same host, else of the first token's first relay. Malloced; tokens and proxy stay the setup's. */
int setup_choices(struct setup *s, struct relay_choice **out, size_t *n, struct err *e) MUST_USE;

#endif
