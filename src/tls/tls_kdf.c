/* A provider of one algorithm without state. The hard thing is that OpenSSL says nothing of the connection for which it
   asks: so whoever drives a handshake tells this thread first. */
#include "tls/tls_kdf.h"

#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/kdf.h>
#include <openssl/params.h>
#include <openssl/provider.h>
#include <string.h>

#include "base/secret.h"
#include "crypto/crypto.h"

enum { HASH_MAX_BYTES = 48, LABEL_CAP = 64 };
static const char name[] = "adit", prefix[] = "tls13 ", query[] = "?provider=adit";
static const uint8_t no_secret[HASH_MAX_BYTES];
static bool installed;
static _Thread_local struct tls_hooks *watched;

struct octets { const uint8_t *p; size_t n; };

/* What OpenSSL asks for: of extraction the secret before goes through an expansion of its own. */
struct request {
  int mode;
  enum hash_alg hash;
  struct octets secret, before, label, context;  /* p NULL: not given */
};

static struct octets octets_of(const OSSL_PARAM *params, const char *key) {
  const void *p = NULL;
  size_t n = 0;
  const OSSL_PARAM *param = OSSL_PARAM_locate_const(params, key);
  if (param == NULL || OSSL_PARAM_get_octet_string_ptr(param, &p, &n) != 1) return (struct octets){NULL, 0};
  return (struct octets){p, n};
}

static bool read_hash(const OSSL_PARAM *params, enum hash_alg *out) {
  const char *digest = NULL;
  const OSSL_PARAM *param = OSSL_PARAM_locate_const(params, OSSL_KDF_PARAM_DIGEST);
  if (param == NULL || OSSL_PARAM_get_utf8_string_ptr(param, &digest) != 1 || digest == NULL) return false;
  bool is_256 = strcmp(digest, "SHA2-256") == 0 || strcmp(digest, "SHA256") == 0;
  *out = is_256 ? HASH_SHA256 : HASH_SHA384;
  return is_256 || strcmp(digest, "SHA2-384") == 0 || strcmp(digest, "SHA384") == 0;
}

static bool fits(const struct octets *o, size_t n) { return o->p == NULL || o->n == n; }

/* Whatever TLS 1.3 does not ask for is refused. */
static bool read_request(struct request *r, const OSSL_PARAM *params) {
  const OSSL_PARAM *mode = OSSL_PARAM_locate_const(params, OSSL_KDF_PARAM_MODE);
  *r = (struct request){.secret = octets_of(params, OSSL_KDF_PARAM_KEY),
                        .before = octets_of(params, OSSL_KDF_PARAM_SALT),
                        .label = octets_of(params, OSSL_KDF_PARAM_LABEL),
                        .context = octets_of(params, OSSL_KDF_PARAM_DATA)};
  struct octets first = octets_of(params, OSSL_KDF_PARAM_PREFIX);
  if (mode == NULL || OSSL_PARAM_get_int(mode, &r->mode) != 1 || !read_hash(params, &r->hash)) return false;
  if (first.n != sizeof prefix - 1 || memcmp(first.p, prefix, first.n) != 0) return false;
  return r->label.n < LABEL_CAP && fits(&r->before, hash_bytes(r->hash));
}

static int expand(const struct request *r, const uint8_t *secret, struct octets context, uint8_t *out, size_t n) {
  char label[LABEL_CAP] = "";
  if (r->label.n > 0) memcpy(label, r->label.p, r->label.n);
  return hkdf_expand_label(r->hash, secret, label, context.p, context.n, out, n);
}

/* RFC 8446 7.1: the salt is Derive-Secret(the secret before, "derived", ""). */
static int extract(const struct request *r, uint8_t *out) {
  static const uint8_t of_nothing[][HASH_MAX_BYTES] = {
      [HASH_SHA256] = {0xe3, 0xb0, 0xc4, 0x42, 0x98, 0xfc, 0x1c, 0x14, 0x9a, 0xfb, 0xf4, 0xc8, 0x99, 0x6f, 0xb9, 0x24,
                       0x27, 0xae, 0x41, 0xe4, 0x64, 0x9b, 0x93, 0x4c, 0xa4, 0x95, 0x99, 0x1b, 0x78, 0x52, 0xb8, 0x55},
      [HASH_SHA384] = {0x38, 0xb0, 0x60, 0xa7, 0x51, 0xac, 0x96, 0x38, 0x4c, 0xd9, 0x32, 0x7e, 0xb1, 0xb1, 0xe3, 0x6a,
                       0x21, 0xfd, 0xb7, 0x11, 0x14, 0xbe, 0x07, 0x43, 0x4c, 0x0c, 0xc7, 0xbf, 0x63, 0xf6, 0xe1, 0xda,
                       0x27, 0x4e, 0xde, 0xbf, 0xe7, 0x6f, 0x65, 0xfb, 0xd5, 0x1a, 0xd2, 0xf1, 0x48, 0x98, 0xb9, 0x5b}};
  size_t n = hash_bytes(r->hash);
  uint8_t salt[HASH_MAX_BYTES] = {0};
  struct octets ikm = r->secret.p != NULL ? r->secret : (struct octets){no_secret, n};
  int rc = r->before.p == NULL ? 0 : expand(r, r->before.p, (struct octets){of_nothing[r->hash], n}, salt, n);
  if (rc == 0) rc = hkdf_extract(r->hash, salt, n, ikm.p, ikm.n, out);
  wipe(salt, sizeof salt);
  return rc;
}

static bool label_is(const struct request *r, const char *label) {
  return r->label.n == strlen(label) && memcmp(r->label.p, label, r->label.n) == 0;
}

static void show(const struct request *r, const uint8_t *secret, size_t n) {
  if (watched == NULL) return;
  if (label_is(r, "c ap traffic")) tls_hooks_keep(&watched->client, secret, n);
  if (label_is(r, "s ap traffic")) tls_hooks_keep(&watched->server, secret, n);
}

static int derive(void *unused, unsigned char *out, size_t n, const OSSL_PARAM params[]) {
  struct request r;
  (void)unused;
  if (!read_request(&r, params)) return 0;
  if (r.mode == EVP_KDF_HKDF_MODE_EXTRACT_ONLY) return n == hash_bytes(r.hash) && extract(&r, out) == 0;
  if (r.mode != EVP_KDF_HKDF_MODE_EXPAND_ONLY || r.secret.p == NULL || !fits(&r.secret, hash_bytes(r.hash))) return 0;
  if (expand(&r, r.secret.p, r.context, out, n) != 0) return 0;
  show(&r, out, n);
  return 1;
}

static void *new_context(void *provider) { return provider; }
static void free_context(void *unused) { (void)unused; }
static void reset_context(void *unused) { (void)unused; }

static const OSSL_ALGORITHM *algorithms(void *unused, int operation, int *no_cache) {
  static const OSSL_DISPATCH calls[] = {{OSSL_FUNC_KDF_NEWCTX, (void (*)(void))new_context},
                                        {OSSL_FUNC_KDF_FREECTX, (void (*)(void))free_context},
                                        {OSSL_FUNC_KDF_RESET, (void (*)(void))reset_context},
                                        {OSSL_FUNC_KDF_DERIVE, (void (*)(void))derive},
                                        {0, NULL}};
  static const OSSL_ALGORITHM all[] = {{OSSL_KDF_NAME_TLS1_3_KDF, "provider=adit", calls, NULL},
                                       {NULL, NULL, NULL, NULL}};
  (void)unused;
  *no_cache = 0;
  return operation == OSSL_OP_KDF ? all : NULL;
}

static int begin(const OSSL_CORE_HANDLE *handle, const OSSL_DISPATCH *core, const OSSL_DISPATCH **out, void **context) {
  static const OSSL_DISPATCH calls[] = {{OSSL_FUNC_PROVIDER_QUERY_OPERATION, (void (*)(void))algorithms}, {0, NULL}};
  static char something;           /* contexts must not be NULL */
  (void)handle, (void)core;
  *out = calls;
  *context = &something;
  return 1;
}

void tls_kdf_install(void) {
  if (OSSL_PROVIDER_add_builtin(NULL, name, begin) != 1 || OSSL_PROVIDER_try_load(NULL, name, 1) == NULL) return;
  EVP_KDF *kdf = EVP_KDF_fetch(NULL, OSSL_KDF_NAME_TLS1_3_KDF, query);
  installed = kdf != NULL && strcmp(OSSL_PROVIDER_get0_name(EVP_KDF_get0_provider(kdf)), name) == 0;
  EVP_KDF_free(kdf);
}

const char *tls_kdf_query(void) { return installed ? query : NULL; }

void tls_kdf_watch(struct tls_hooks *h) { watched = h; }
