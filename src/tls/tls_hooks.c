/* OpenSSL's callbacks. The hard thing is the key log, where secrets are not seen as they are made (tls_kdf.h): it hands
   over every secret of the handshake as text, and all but the two that a handoff needs must never be copied, not even
   to be looked at. */
#include "tls/tls_hooks.h"

#include <string.h>

#include "base/secret.h"
#include "base/text.h"
#include "tls/authority.h"
#include "tls/client_hello.h"
#include "tls/tls_kdf.h"

void tls_hooks_keep(struct tls_kept_secret *kept, const uint8_t *secret, size_t n) {
  kept->logged++;
  if (kept->logged > 1 || n > TLS_SECRET_MAX_BYTES) return;
  kept->bytes = secret_alloc(TLS_SECRET_MAX_BYTES);
  if (kept->bytes == NULL) return;
  memcpy(kept->bytes, secret, n);
  kept->n = n;
}

static void keep_hex(struct tls_kept_secret *kept, const char *hex) {
  uint8_t secret[TLS_SECRET_MAX_BYTES];
  size_t chars = strlen(hex);
  bool fits = chars % 2 == 0 && chars / 2 <= sizeof secret && hex_decode(hex, secret, chars / 2) == 0;
  tls_hooks_keep(kept, secret, fits ? chars / 2 : 0);
  wipe(secret, sizeof secret);
}

/* NSS key log format: LABEL, client random and secret, one space between them. */
static void on_keylog(const SSL *ssl, const char *line) {
  static const char client_label[] = "CLIENT_TRAFFIC_SECRET_0 ", server_label[] = "SERVER_TRAFFIC_SECRET_0 ";
  struct tls_hooks *h = SSL_get_app_data(ssl);
  struct tls_kept_secret *kept = NULL;
  if (h == NULL) return;
  if (strncmp(line, client_label, sizeof client_label - 1) == 0) kept = &h->client;
  if (strncmp(line, server_label, sizeof server_label - 1) == 0) kept = &h->server;
  if (kept == NULL) return;
  const char *secret = strrchr(line, ' ');
  keep_hex(kept, secret + 1);
}

static bool offers_tls13(SSL *ssl) {
  const unsigned char *extension;
  size_t n;
  if (SSL_client_hello_get0_ext(ssl, TLSEXT_TYPE_supported_versions, &extension, &n) != 1) return false;
  for (size_t at = 1; at + 1 < n; at += 2) {     /* behind the list's length, of which OpenSSL makes sure */
    if (extension[at] == 3 && extension[at + 1] == 4) return true;
  }
  return false;
}

/* RFC 7627: without it a master secret may be that of two connections, and what is handed over that of another's. TLS
   1.3 has no such thing, and is chosen wherever it is offered; what is older than TLS 1.2 is refused for that. */
static bool lacks_extended_master_secret(SSL *ssl) {
  const unsigned char *extension;
  size_t n;
  if (SSL_client_hello_get0_legacy_version(ssl) < TLS1_2_VERSION || offers_tls13(ssl)) return false;
  return SSL_client_hello_get0_ext(ssl, TLSEXT_TYPE_extended_master_secret, &extension, &n) != 1;
}

/* Runs for each ClientHello, also for the one after HelloRetryRequest, in which OpenSSL itself would accept another
   name. */
static int on_client_hello(SSL *ssl, int *alert, void *unused) {
  (void)unused;
  struct tls_hooks *h = SSL_get_app_data(ssl);
  const unsigned char *extension;
  size_t n;
  *alert = SSL_AD_HANDSHAKE_FAILURE;
  if (lacks_extended_master_secret(ssl)) {
    if (h != NULL) h->refusal = TLS_REFUSED_NO_EMS;
    return SSL_CLIENT_HELLO_ERROR;
  }
  if (h == NULL || h->host[0] == 0) return SSL_CLIENT_HELLO_SUCCESS;
  char name[HOST_NAME_MAX_CHARS + 1];
  *alert = SSL_AD_ILLEGAL_PARAMETER;
  if (SSL_client_hello_get0_ext(ssl, TLSEXT_TYPE_server_name, &extension, &n) != 1) return SSL_CLIENT_HELLO_ERROR;
  if (client_hello_parse_sni(extension, n, name) != 0 || strcmp(name, h->host) != 0) return SSL_CLIENT_HELLO_ERROR;
  return SSL_CLIENT_HELLO_SUCCESS;
}

/* Our order decides. Called only when the visitor offers something. */
static int on_alpn_select(SSL *ssl, const unsigned char **out, unsigned char *out_n, const unsigned char *offer,
                          unsigned int offer_n, void *unused) {
  (void)unused;
  struct tls_hooks *h = SSL_get_app_data(ssl);
  if (h == NULL) return SSL_TLSEXT_ERR_ALERT_FATAL;
  for (size_t mine = 0; mine + 1 <= h->alpn_n; mine += 1u + h->alpn[mine]) {
    size_t n = h->alpn[mine];
    if (n > h->alpn_n - mine - 1) break;
    for (size_t at = 0; at + 1 <= offer_n; at += 1u + offer[at]) {
      if (offer[at] > offer_n - at - 1) break;
      if (offer[at] != n || memcmp(offer + at + 1, h->alpn + mine + 1, n) != 0) continue;
      *out = offer + at + 1;
      *out_n = (unsigned char)n;
      return SSL_TLSEXT_ERR_OK;
    }
  }
  h->refusal = TLS_REFUSED_ALPN;
  return SSL_TLSEXT_ERR_ALERT_FATAL;
}

static X509 *find_pinned(const STACK_OF(X509) *chain, const uint8_t pin[SHA256_BYTES]) {
  for (int i = 0; i < sk_X509_num(chain); i++) {
    X509 *cert = sk_X509_value(chain, i);
    uint8_t spki[SHA256_BYTES];
    if (authority_pin_of_cert(cert, spki) == 0 && equal_ct(spki, pin, sizeof spki)) return cert;
  }
  return NULL;
}

/* The pinned certificate comes from the presented chain itself and becomes the only trust anchor; everything else
   (signatures, times, constraints, host name) is verified as ever. */
static int verify_pinned(X509_STORE_CTX *ctx, const struct pin *pin) {
  X509 *cert = find_pinned(X509_STORE_CTX_get0_untrusted(ctx), pin->spki_sha256);
  if (cert == NULL) {
    X509_STORE_CTX_set_error(ctx, X509_V_ERR_CERT_UNTRUSTED);
    return TLS_VERIFY_PIN;
  }
  STACK_OF(X509) *trusted = sk_X509_new_null();
  if (trusted == NULL || sk_X509_push(trusted, cert) == 0) {
    sk_X509_free(trusted);
    X509_STORE_CTX_set_error(ctx, X509_V_ERR_OUT_OF_MEM);
    return X509_V_ERR_OUT_OF_MEM;
  }
  X509_STORE_CTX_set0_trusted_stack(ctx, trusted);
  X509_VERIFY_PARAM_set_flags(X509_STORE_CTX_get0_param(ctx), X509_V_FLAG_PARTIAL_CHAIN);
  int ok = X509_verify_cert(ctx);
  int error = X509_STORE_CTX_get_error(ctx);
  sk_X509_free(trusted);
  if (ok == 1) return X509_V_OK;
  return error == X509_V_OK ? X509_V_ERR_UNSPECIFIED : error;
}

static int on_verify(X509_STORE_CTX *ctx, void *unused) {
  (void)unused;
  SSL *ssl = X509_STORE_CTX_get_ex_data(ctx, SSL_get_ex_data_X509_STORE_CTX_idx());
  struct tls_hooks *h = ssl == NULL ? NULL : SSL_get_app_data(ssl);
  if (h == NULL) return 0;
  if (h->pin.kind == PIN_SPKI_SHA256) {
    h->verify_error = verify_pinned(ctx, &h->pin);
  } else {
    int ok = X509_verify_cert(ctx);
    int error = X509_STORE_CTX_get_error(ctx);
    h->verify_error = ok == 1 ? X509_V_OK : error == X509_V_OK ? X509_V_ERR_UNSPECIFIED : error;
  }
  return h->verify_error == X509_V_OK;
}

void tls_hooks_bind(struct tls_hooks *h, SSL *ssl) { SSL_set_app_data(ssl, h); }

static void drop_secret(struct tls_kept_secret *kept) {
  if (kept->bytes != NULL) secret_free(kept->bytes, TLS_SECRET_MAX_BYTES);
  kept->bytes = NULL;
  kept->n = 0;
}

void tls_hooks_free(struct tls_hooks *h) {
  drop_secret(&h->client);
  drop_secret(&h->server);
}

/* No tickets needs all three: num_tickets alone leaves TLS 1.2's, SSL_OP_NO_TICKET alone still sends a stateful one in
   1.3, which would shift the sequence number of a handoff; and no cache, since nothing may be resumed. */
int tls_hooks_set_up(SSL_CTX *ctx) {
  static const char suites[] = "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256";
  SSL_CTX_set_options(ctx, SSL_OP_NO_TICKET | SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION);
#ifdef SSL_OP_NO_TX_CERTIFICATE_COMPRESSION   /* OpenSSL 3.2; SSL_OP_NO_COMPRESSION is of records only */
  SSL_CTX_set_options(ctx, SSL_OP_NO_TX_CERTIFICATE_COMPRESSION | SSL_OP_NO_RX_CERTIFICATE_COMPRESSION);
#endif
  SSL_CTX_set_options(ctx, SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_PRIORITIZE_CHACHA);
  SSL_CTX_set_mode(ctx, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_NO_AUTO_CHAIN);
  SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
  SSL_CTX_set_read_ahead(ctx, 0);
  SSL_CTX_set_keylog_callback(ctx, on_keylog);
  if (SSL_CTX_set_num_tickets(ctx, 0) != 1 || SSL_CTX_set_max_early_data(ctx, 0) != 1) return ERR_CRYPTO;
  if (SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION) != 1) return ERR_CRYPTO;
  if (SSL_CTX_set_max_proto_version(ctx, TLS1_3_VERSION) != 1) return ERR_CRYPTO;
  if (SSL_CTX_set_ciphersuites(ctx, suites) != 1) return ERR_CRYPTO;
  if (SSL_CTX_set_cipher_list(ctx, "ECDHE+AESGCM:ECDHE+CHACHA20") != 1) return ERR_CRYPTO;
  int groups[] = {NID_X25519, NID_X9_62_prime256v1, NID_secp384r1};
  return SSL_CTX_set1_groups(ctx, groups, (int)ARRAY_LEN(groups)) == 1 ? 0 : ERR_CRYPTO;
}

void tls_hooks_set_up_server(SSL_CTX *ctx) {
  if (tls_kdf_query() != NULL) SSL_CTX_set_keylog_callback(ctx, NULL);
  SSL_CTX_set_client_hello_cb(ctx, on_client_hello, NULL);
  SSL_CTX_set_alpn_select_cb(ctx, on_alpn_select, NULL);
}

void tls_hooks_set_up_client(SSL_CTX *ctx) {
  SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER, NULL);
  SSL_CTX_set_cert_verify_callback(ctx, on_verify, NULL);
}
