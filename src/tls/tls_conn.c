/* A handshake over memory, and the way out of OpenSSL. The hard thing is knowing, at the end, that nothing but two
   secrets, two sequence numbers and, in TLS 1.2, one nonce describes the connection: every condition of
   tls_conn_take_over is one way in which that could be untrue, and a handoff that overlooked it would give the agent a
   stream that it cannot read. */
#include "tls/tls_conn.h"

#include <limits.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <stdlib.h>
#include <string.h>

#include "base/addr.h"
#include "base/fibre.h"
#include "base/secret.h"
#include "tls/pem.h"
#include "tls/record.h"
#include "tls/tls12_keys.h"
#include "tls/tls_ctx.h"
#include "tls/tls_hooks.h"
#include "tls/tls_kdf.h"

enum { CHANGE_CIPHER_SPEC_BYTES = RECORD_HEADER_BYTES + 1 };
enum conn_state { CONN_HANDSHAKE, CONN_DONE, CONN_FAILED, CONN_TAKEN };

struct tls_conn {
  SSL *ssl;
  BIO *in, *out;                   /* owned by ssl */
  struct tls_server *server;       /* NULL on a client */
  struct tls_hooks hooks;
  struct fibres *fibres;           /* NULL: signatures are waited for in the call */
  struct tls_waiter *waiter;
  struct fibre *paused;            /* on which OpenSSL waits for a signature */
  bool has_waited;                 /* there is but one */
  int shaken;                      /* what SSL_do_handshake has returned */
  struct { uint64_t written; bool all_sent, protects; } before;  /* SSL_do_handshake was called */
  enum conn_state state;
  bool wants_exporter;
  bool protects;                   /* OpenSSL has written a protected TLS 1.3 record */
  uint8_t fatal_alert;             /* that OpenSSL has written; 0: none */
  uint64_t written, read;          /* records since the ChangeCipherSpec of that direction: TLS 1.2's sequence
                                      numbers */
  uint8_t explicit_nonce[TLS_EXPLICIT_NONCE_BYTES]; /* TLS 1.2: of our Finished, which is record number 0 */
  uint64_t late_bytes;             /* written by the very call that completed the handshake */
  size_t fed;                      /* server: in the handshake */
  uint8_t header[RECORD_HEADER_BYTES]; /* of the record that is being fed */
  size_t header_n, body_left;
  char host[HOST_NAME_MAX_CHARS + 1];  /* client: for texts */
  char required_alpn[64];          /* client; empty: none */
};

/* OpenSSL tells the header of each record that it writes, and what stands in an alert. */
static void on_message(int writing, int version, int type, const void *bytes, size_t n, SSL *ssl, void *arg) {
  (void)version;
  (void)ssl;
  struct tls_conn *t = arg;
  const uint8_t *p = bytes;
  if (writing && type == SSL3_RT_ALERT && n == 2 && p[0] == SSL3_AL_FATAL) t->fatal_alert = p[1];
  if (type != SSL3_RT_HEADER || n == 0) return;
  if (writing && p[0] == RECORD_APPLICATION_DATA) t->protects = true;
  uint64_t *count = writing ? &t->written : &t->read;
  *count = p[0] == RECORD_CHANGE_CIPHER_SPEC ? 0 : *count + 1;
}

static struct tls_conn *conn_new(SSL_CTX *ctx, struct err *e) {
  struct tls_conn *t = calloc(1, sizeof *t);
  if (t == NULL) goto fail;
  t->ssl = SSL_new(ctx);
  t->in = BIO_new(BIO_s_mem());
  t->out = BIO_new(BIO_s_mem());
  if (t->ssl == NULL || t->in == NULL || t->out == NULL) {
    BIO_free(t->in);
    BIO_free(t->out);
    SSL_free(t->ssl);
    goto fail;
  }
  BIO_set_mem_eof_return(t->in, -1);
  SSL_set_bio(t->ssl, t->in, t->out);
  tls_hooks_bind(&t->hooks, t->ssl);
  SSL_set_msg_callback(t->ssl, on_message);
  SSL_set_msg_callback_arg(t->ssl, t);
  return t;
fail:
  free(t);
  err_set(e, ERR_NOMEM, "TLS: no connection object: %s", pem_openssl_reason());
  return NULL;
}

struct tls_conn *tls_conn_server(struct tls_server *s, const struct tls_server_policy *policy, struct err *e) {
  size_t host_n = policy->host == NULL ? 0 : strlen(policy->host);
  if (policy->alpn_n > ALPN_LIST_MAX_BYTES || host_n > HOST_NAME_MAX_CHARS) {
    err_set(e, ERR_USAGE, "TLS: the policy's host or ALPN list is too long");
    return NULL;
  }
  struct tls_conn *t = conn_new(tls_server_ctx(s), e);
  if (t == NULL) return NULL;
  t->server = tls_server_ref(s);
  t->wants_exporter = policy->wants_exporter;
  t->fibres = policy->fibres;
  t->waiter = policy->waiter;
  if (policy->host != NULL) strcpy(t->hooks.host, policy->host);
  if (policy->alpn_n > 0) memcpy(t->hooks.alpn, policy->alpn, policy->alpn_n);
  t->hooks.alpn_n = policy->alpn_n;
  SSL_set_accept_state(t->ssl);
  if ((policy->tls13_only && SSL_set_min_proto_version(t->ssl, TLS1_3_VERSION) != 1) ||
      (policy->whole_chain && tls_server_send_whole_chain(s, t->ssl) != 0)) {
    err_set(e, ERR_CRYPTO, "TLS: %s", pem_openssl_reason());
    tls_conn_free(t);
    return NULL;
  }
  return t;
}

static int set_host(struct tls_conn *t, const char *host) {
  X509_VERIFY_PARAM *param = SSL_get0_param(t->ssl);
  strcpy(t->host, host);
  if (host_is_ip(host)) return X509_VERIFY_PARAM_set1_ip_asc(param, host) == 1 ? 0 : ERR_CRYPTO;
  X509_VERIFY_PARAM_set_hostflags(param, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
  if (X509_VERIFY_PARAM_set1_host(param, host, 0) != 1) return ERR_CRYPTO;
  return SSL_set_tlsext_host_name(t->ssl, t->host) == 1 ? 0 : ERR_CRYPTO;
}

static int set_alpn(struct tls_conn *t, const char *alpn) {
  uint8_t list[1 + sizeof t->required_alpn];
  size_t n = strlen(alpn);
  strcpy(t->required_alpn, alpn);
  list[0] = (uint8_t)n;
  memcpy(list + 1, alpn, n);
  return SSL_set_alpn_protos(t->ssl, list, (unsigned)(n + 1)) == 0 ? 0 : ERR_CRYPTO;
}

struct tls_conn *tls_conn_client(struct tls_client *c, const char *host, const struct pin *pin, const char *alpn,
                                 struct err *e) {
  if (strlen(host) > HOST_NAME_MAX_CHARS ||
      (alpn != NULL && (strlen(alpn) == 0 || strlen(alpn) >= sizeof ((struct tls_conn *)0)->required_alpn))) {
    err_set(e, ERR_USAGE, "TLS: host name or ALPN too long");
    return NULL;
  }
  SSL_CTX *ctx = tls_client_ctx(c, (enum pin_kind)pin->kind, e);
  if (ctx == NULL) return NULL;
  struct tls_conn *t = conn_new(ctx, e);
  if (t == NULL) return NULL;
  t->hooks.pin = *pin;
  t->wants_exporter = true;
  SSL_set_connect_state(t->ssl);
  bool relay = alpn != NULL;
  if (set_host(t, host) != 0 ||
      (relay && (set_alpn(t, alpn) != 0 || SSL_set_min_proto_version(t->ssl, TLS1_3_VERSION) != 1))) {
    err_set(e, ERR_CRYPTO, "TLS: %s", pem_openssl_reason());
    tls_conn_free(t);
    return NULL;
  }
  return t;
}

void tls_conn_free(struct tls_conn *t) {
  if (t == NULL) return;
  if (t->paused != NULL) {
    fibre_cancel(t->paused);
    ERR_clear_error();             /* it says there that it failed, which would be taken for another's reason */
  }
  SSL_free(t->ssl);
  tls_hooks_free(&t->hooks);
  tls_server_unref(t->server);
  wipe(t, sizeof *t);
  free(t);
}

static int describe_verify(const struct tls_conn *t, struct err *e) {
  const char *what;
  switch (t->hooks.verify_error) {
    case TLS_VERIFY_PIN:
      return err_set(e, ERR_AUTH, "its certificate for %s does not match the token's pin "
                                  "(get a new token from the operator, or check the relay's address)", t->host);
    case X509_V_ERR_HOSTNAME_MISMATCH:
    case X509_V_ERR_IP_ADDRESS_MISMATCH:
      return err_set(e, ERR_AUTH, "its certificate is for another name than %s "
                                  "(use the relay's own name as the address)", t->host);
    case X509_V_ERR_CERT_HAS_EXPIRED:
      return err_set(e, ERR_AUTH, "its certificate for %s has expired "
                                  "(the operator must renew it; or this machine's clock is wrong)", t->host);
    case X509_V_ERR_CERT_NOT_YET_VALID:
      return err_set(e, ERR_AUTH, "its certificate for %s is not valid yet "
                                  "(this machine's clock is wrong, or the relay's is)", t->host);
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
    case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
      return err_set(e, ERR_AUTH,
                     "its certificate for %s is from an unknown authority, or comes without the intermediate "
                     "one (the operator must give --cert the whole chain; else give the authority's file, or "
                     "use a token that carries its pin)",
                     t->host);
    case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
    case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
      return err_set(e, ERR_AUTH, "its certificate for %s is from an unknown authority (give the authority's file, "
                                  "or use a token that carries its pin)", t->host);
    default:
      what = X509_verify_cert_error_string(t->hooks.verify_error);
      return err_set(e, ERR_AUTH, "its certificate for %s cannot be trusted: %s (ask the relay's operator)",
                     t->host, what);
  }
}

/* The fatal alert of the peer that has just ended the handshake; negative: it ended otherwise. */
static int alert_of_peer(void) {
  int alert = ERR_GET_REASON(ERR_peek_last_error()) - SSL_AD_REASON_OFFSET;
  return alert < 256 ? alert : -1;
}

static enum tls_status fail_handshake(struct tls_conn *t, struct err *e) {
  t->state = CONN_FAILED;
  if (t->hooks.verify_error != X509_V_OK) {
    describe_verify(t, e);
    ERR_clear_error();
  } else if (alert_of_peer() >= 0) {
    const char *alert = SSL_alert_desc_string_long(alert_of_peer());
    if (t->server != NULL) err_set(e, ERR_CLOSED, "TLS handshake: the peer refused it: %s", alert);
    else
      err_set(e, ERR_CLOSED,
              "it refused the TLS handshake for %s: %s (check the address, and that the relay there has "
              "this name)",
              t->host, alert);
    ERR_clear_error();
  } else {
    err_set(e, ERR_SYNTAX, "TLS handshake: %s%s", pem_openssl_reason(),
            t->server != NULL ? "" : " (check the address and port: what answers there seems not to speak TLS)");
  }
  return TLS_FAILED;
}

static const struct tls_suite *current_suite(const struct tls_conn *t) {
  const SSL_CIPHER *cipher = SSL_get_current_cipher(t->ssl);
  return cipher == NULL ? NULL : tls_suite_find(SSL_CIPHER_get_protocol_id(cipher));
}

static bool secret_is_good(const struct tls_kept_secret *kept, const struct tls_suite *suite) {
  return kept->logged == 1 && kept->n == hash_bytes(suite->hash);
}

static void put_plain_alert(struct tls_conn *t, uint8_t alert) {
  uint8_t plain[PLAIN_ALERT_BYTES];
  tls_plain_alert(alert, plain);
  (void)BIO_write(t->out, plain, sizeof plain);
}

/* In the next record of ours: nothing that is not counted has been written under the keys. */
static int put_sealed_alert(struct tls_conn *t, const struct tls_suite *suite, const uint8_t *secret, uint64_t sequence,
                            uint8_t alert) {
  uint8_t record[RECORD_OVERHEAD_MAX + 2];
  struct record_keys keys;
  if (record_keys_init(&keys, suite, secret, sequence, true) != 0) return ERR_NOT_NOW;
  record[suite->lead] = 2;
  record[suite->lead + 1] = alert;
  int n = suite->overhead + 2, rc = record_seal(&keys, RECORD_ALERT, record, 2);
  record_keys_free(&keys);
  if (rc != 0) return rc;
  return BIO_write(t->out, record, n) == n ? 0 : ERR_NOMEM;
}

static int seal_tls13_alert(struct tls_conn *t, uint8_t alert) {
  const struct tls_suite *suite = current_suite(t);
  const struct tls_kept_secret *kept = t->server != NULL ? &t->hooks.server : &t->hooks.client;
  if (suite == NULL || !secret_is_good(kept, suite)) return ERR_NOT_NOW;
  if (t->server != NULL && t->late_bytes != 0) return ERR_NOT_NOW;
  return put_sealed_alert(t, suite, kept->bytes, 0, alert);
}

static int seal_tls12_alert(struct tls_conn *t, uint8_t alert) {
  const struct tls_suite *suite = current_suite(t);
  uint8_t client[TLS_SECRET_MAX_BYTES], server[TLS_SECRET_MAX_BYTES];
  if (suite == NULL) return ERR_NOT_NOW;
  int rc = tls12_keys_derive(t->ssl, suite, t->explicit_nonce, client, server);
  if (rc == 0) rc = put_sealed_alert(t, suite, t->server != NULL ? server : client, t->written, alert);
  wipe(client, sizeof client);
  wipe(server, sizeof server);
  return rc;
}

/* When the failure is OpenSSL's own (memory), what it has just written cannot be relied upon: its alert comes under the
   keys before a change that the flight in front of it announced, or under the number after one that a failed record has
   used up. The visitor could not decrypt it. So that flight is taken back, and we say it under the keys of those
   before; when part of one was still here, the connection ends in the midst of a record. */
static void take_back(struct tls_conn *t, bool all_sent, bool protects) {
  if (t->server == NULL || alert_of_peer() >= 0 || (t->fatal_alert != 0 && t->fatal_alert != ALERT_INTERNAL_ERROR))
    return;
  (void)BIO_reset(t->out);
  if (all_sent && !protects) put_plain_alert(t, ALERT_INTERNAL_ERROR);
  else if (all_sent) (void)seal_tls13_alert(t, ALERT_INTERNAL_ERROR);
}

static enum tls_status check_client_alpn(struct tls_conn *t, struct err *e) {
  size_t n;
  const uint8_t *alpn = tls_conn_alpn(t, &n);
  if (t->server != NULL || t->required_alpn[0] == '\0' ||
      (n == strlen(t->required_alpn) && memcmp(alpn, t->required_alpn, n) == 0))
    return TLS_DONE;
  tls_conn_alert(t, ALERT_NO_APPLICATION_PROTOCOL);
  t->state = CONN_FAILED;
  err_set(e, ERR_CLOSED, "it does not speak %s (check the address: this is some other TLS server)", t->required_alpn);
  return TLS_FAILED;
}

/* Of the last n bytes of the output, a flight, the last record: of our last flight that is Finished. */
static void keep_explicit_nonce(struct tls_conn *t, uint64_t n) {
  size_t all;
  const uint8_t *p = tls_conn_output(t, &all);
  if (n > all) return;
  for (size_t left = (size_t)n, full; left > RECORD_HEADER_BYTES; left -= full) {
    const uint8_t *record = p + all - left;
    full = size_min(record_length(record, left), left);
    if (full >= RECORD_HEADER_BYTES + sizeof t->explicit_nonce)
      memcpy(t->explicit_nonce, record + RECORD_HEADER_BYTES, sizeof t->explicit_nonce);
  }
}

static void shake_hands(void *arg) {
  struct tls_conn *t = arg;
  t->shaken = SSL_do_handshake(t->ssl);
}

static void wake_waiter(void *arg) {
  struct tls_conn *t = arg;
  t->waiter->ready(t->waiter);
}

/* False: it waits. Without memory for a stack it waits in the call. */
static bool call_openssl(struct tls_conn *t) {
  ERR_clear_error();
  if (t->server != NULL) tls_kdf_watch(&t->hooks);
  if (t->paused != NULL) t->paused = fibre_resume(t->paused);
  else if (t->fibres == NULL || t->has_waited ||
           fibre_start(t->fibres, shake_hands, wake_waiter, t, &t->paused) != 0)
    shake_hands(t);
  tls_kdf_watch(NULL);
  if (t->paused != NULL) t->has_waited = true;
  return t->paused == NULL;
}

static enum tls_status drive_handshake(struct tls_conn *t, struct err *e) {
  if (t->paused == NULL) {
    t->before.written = BIO_number_written(t->out);
    t->before.all_sent = BIO_ctrl_pending(t->out) == 0;
    t->before.protects = t->protects;
  }
  if (!call_openssl(t)) return TLS_WAITS;
  uint64_t wrote = BIO_number_written(t->out) - t->before.written;
  keep_explicit_nonce(t, wrote);
  if (t->shaken == 1) {
    t->late_bytes = wrote;
    t->state = CONN_DONE;
    return check_client_alpn(t, e);
  }
  if (SSL_get_error(t->ssl, t->shaken) == SSL_ERROR_WANT_READ) return TLS_GOING_ON;
  take_back(t, t->before.all_sent, t->before.protects);
  return fail_handshake(t, e);
}

/* Follows the framing of what is fed; true when OpenSSL should look: at the end of a record, or at a header so long
   that its body is not worth waiting for. */
static bool follow_records(struct tls_conn *t, const uint8_t *p, size_t n) {
  bool look = false;
  while (n > 0) {
    size_t take;
    if (t->body_left > 0) {
      take = size_min(n, t->body_left);
      t->body_left -= take;
    } else {
      take = size_min(n, sizeof t->header - t->header_n);
      memcpy(t->header + t->header_n, p, take);
      t->header_n += take;
      if (t->header_n == sizeof t->header) t->body_left = record_length(t->header, sizeof t->header) - sizeof t->header;
      if (t->body_left > SSL3_RT_MAX_ENCRYPTED_LENGTH) look = true;
    }
    if (t->header_n == sizeof t->header && t->body_left == 0) {
      t->header_n = 0;
      look = true;
    }
    p += take;
    n -= take;
  }
  return look;
}

/* OpenSSL bounds the client's messages, generously, and neither their records nor the bytes altogether. */
static bool says_too_much(struct tls_conn *t, size_t n) {
  if (t->server == NULL || t->state != CONN_HANDSHAKE) return false;
  t->fed += n;
  return t->fed > HANDSHAKE_MAX_BYTES;
}

enum tls_status tls_conn_feed(struct tls_conn *t, const uint8_t *p, size_t n, struct err *e) {
  ASSERT(t->state != CONN_TAKEN && (t->paused == NULL || n == 0));
  if (t->state == CONN_FAILED) {
    err_set(e, ERR_NOT_NOW, "TLS handshake: it has failed before");
    return TLS_FAILED;
  }
  if (says_too_much(t, n)) {
    tls_conn_alert(t, ALERT_RECORD_OVERFLOW);
    err_set(e, ERR_LIMIT, "TLS handshake: the client says too much");
    return TLS_FAILED;
  }
  bool look = n == 0 || follow_records(t, p, n);
  if (n > 0 && (n > INT_MAX || BIO_write(t->in, p, (int)n) != (int)n)) return fail_handshake(t, e);
  if (t->state == CONN_DONE) return TLS_DONE;
  return look ? drive_handshake(t, e) : TLS_GOING_ON;
}

enum tls_refusal tls_conn_refusal(const struct tls_conn *t) { return t->hooks.refusal; }

/* Amid a handshake at least a Finished is still to come, which is longer than the ChangeCipherSpec that may be in front
   of it and the header behind that: most visitors' last flight is so read in two steps instead of four. */
size_t tls_conn_want(const struct tls_conn *t) {
  if (t->body_left > 0) return t->body_left;
  bool between = t->header_n == 0 && t->state == CONN_HANDSHAKE;
  return between ? CHANGE_CIPHER_SPEC_BYTES + sizeof t->header : sizeof t->header - t->header_n;
}

const uint8_t *tls_conn_output(struct tls_conn *t, size_t *n) {
  char *p = NULL;
  long length = BIO_get_mem_data(t->out, &p);
  *n = length > 0 ? (size_t)length : 0;
  return (const uint8_t *)p;
}

void tls_conn_output_sent(struct tls_conn *t, size_t n) {
  uint8_t scratch[4096];           /* a memory BIO gives up its bytes only by copying them out */
  while (n > 0) {
    int got = BIO_read(t->out, scratch, (int)size_min(n, sizeof scratch));
    ASSERT(got > 0);
    n -= (size_t)got;
  }
}

int tls_conn_version(const struct tls_conn *t) { return SSL_version(t->ssl); }

const uint8_t *tls_conn_alpn(const struct tls_conn *t, size_t *n) {
  const unsigned char *p = NULL;
  unsigned length = 0;
  SSL_get0_alpn_selected(t->ssl, &p, &length);
  *n = length;
  return p;
}

/* A client's last call writes its own Finished; a server's must write nothing. */
static bool tls13_is_known(const struct tls_conn *t, const struct tls_suite *suite) {
  if (t->server != NULL && t->late_bytes != 0) return false;
  return secret_is_good(&t->hooks.client, suite) && secret_is_good(&t->hooks.server, suite);
}

static bool tls12_is_known(const struct tls_conn *t) {
  if (t->server != NULL && SSL_get_extms_support(t->ssl) != 1) return false;
  return t->written == 1 && t->read > 0;
}

/* See the header. */
static bool may_take_over(const struct tls_conn *t) {
  if (t->state != CONN_DONE || !SSL_is_init_finished(t->ssl) || SSL_session_reused(t->ssl)) return false;
  if (t->header_n != 0 || t->body_left != 0 || BIO_ctrl_pending(t->in) != 0 || SSL_has_pending(t->ssl)) return false;
  if (BIO_ctrl_pending(t->out) != 0) return false;
  const struct tls_suite *suite = current_suite(t);
  if (suite == NULL) return false;
  return suite->version == TLS_VERSION_13 ? tls13_is_known(t, suite) : tls12_is_known(t);
}

/* RFC 6066 4: codes 1 to 4 stand for 512 to 4096 bytes. */
static size_t negotiated_fragment_max(const struct tls_conn *t) {
  const SSL_SESSION *session = SSL_get0_session(t->ssl);
  unsigned code = session == NULL ? 0 : SSL_SESSION_get_max_fragment_length(session);
  return code >= 1 && code <= 4 ? (size_t)256 << code : 0;
}

static int take_tls13(const struct tls_conn *t, const struct tls_suite *suite, struct tls_takeover *out) {
  memcpy(out->client_secret, t->hooks.client.bytes, hash_bytes(suite->hash));
  memcpy(out->server_secret, t->hooks.server.bytes, hash_bytes(suite->hash));
  return 0;
}

static int take_tls12(const struct tls_conn *t, const struct tls_suite *suite, struct tls_takeover *out) {
  out->client_sequence = t->server != NULL ? t->read : t->written;
  out->server_sequence = t->server != NULL ? t->written : t->read;
  return tls12_keys_derive(t->ssl, suite, t->explicit_nonce, out->client_secret, out->server_secret);
}

int tls_conn_take_over(struct tls_conn *t, struct tls_takeover *out) {
  static const char label[] = "EXPORTER-adit-link";
  memset(out, 0, sizeof *out);
  if (!may_take_over(t)) return ERR_NOT_NOW;
  const struct tls_suite *suite = current_suite(t);
  size_t exporter_n = t->wants_exporter ? sizeof out->exporter : 0;
  if (exporter_n > 0 &&
      SSL_export_keying_material(t->ssl, out->exporter, exporter_n, label, sizeof label - 1, NULL, 0, 0) != 1) {
    wipe(out, sizeof *out);
    ERR_clear_error();
    return ERR_NOT_NOW;
  }
  int rc = suite->version == TLS_VERSION_13 ? take_tls13(t, suite, out) : take_tls12(t, suite, out);
  if (rc != 0) {
    wipe(out, sizeof *out);
    ERR_clear_error();
    return ERR_NOT_NOW;
  }
  out->suite = suite->id;
  out->secret_n = tls_suite_secret_bytes(suite);
  out->fragment_max = negotiated_fragment_max(t);
  tls_hooks_free(&t->hooks);
  t->state = CONN_TAKEN;
  return 0;
}

/* After the handshake: OpenSSL has no call that sends an alert of choice, so we protect the record ourselves. */
static int seal_alert(struct tls_conn *t, uint8_t alert) {
  return SSL_version(t->ssl) == TLS1_3_VERSION ? seal_tls13_alert(t, alert) : seal_tls12_alert(t, alert);
}

/* Where only OpenSSL has the keys (amid a handshake) it is made to send a fatal alert by a record that it must refuse:
   the peer learns of the failure, though under OpenSSL's description (record_overflow) instead of ours. */
static void provoke_alert(struct tls_conn *t) {
  static const uint8_t oversize[RECORD_HEADER_BYTES] = {RECORD_APPLICATION_DATA, 3, 3, 0xff, 0xff};
  uint8_t none[1];
  (void)BIO_reset(t->in);
  if (BIO_write(t->in, oversize, sizeof oversize) != (int)sizeof oversize) return;
  if (t->state == CONN_DONE) {
    while (SSL_read(t->ssl, none, sizeof none) > 0) continue; /* what is decrypted comes first: a record at most */
  } else {
    (void)SSL_do_handshake(t->ssl);
  }
}

void tls_conn_alert(struct tls_conn *t, uint8_t alert) {
  ASSERT(t->state != CONN_TAKEN && t->paused == NULL);
  if (t->state == CONN_FAILED) return; /* OpenSSL has told the peer already */
  if (t->state == CONN_DONE) {
    if (seal_alert(t, alert) != 0) provoke_alert(t);
  } else if (t->server == NULL || BIO_number_written(t->out) == 0) {
    put_plain_alert(t, alert);
  } else {
    provoke_alert(t);
  }
  ERR_clear_error();
  t->state = CONN_FAILED;
}
