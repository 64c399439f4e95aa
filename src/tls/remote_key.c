/* A provider of OpenSSL's, of two operations: a key that has a public half, kept as OpenSSL's own provider keeps it,
   and a name for the private one; and the signature, which is passed on. The hard thing is that OpenSSL chooses among
   providers by itself: a key of ours says that it has a private half and will not export it, so whatever wants to sign
   comes to us; and since the default provider is there first, all other keys stay its own. */
#include "tls/remote_key.h"

#include <openssl/core_dispatch.h>
#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/params.h>
#include <openssl/provider.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "tls/pem.h"

#define PROVIDER "adit-remote"
#define ANY_OTHER "provider!=" PROVIDER
static const char where_param[] = "adit-where", handle_param[] = "adit-handle";

struct half {                      /* a key of ours */
  const char *type;
  EVP_PKEY *public;                /* of another provider */
  const struct remote_key *where;  /* NULL: a public key only, which OpenSSL compares with one of ours */
  uint64_t handle;
};

/* Keys */

static void *half_new(const char *type) {
  struct half *h = calloc(1, sizeof *h);
  if (h != NULL) h->type = type;
  return h;
}

static void half_free(void *key) {
  struct half *h = key;
  if (h == NULL) return;
  if (h->where != NULL) h->where->drop(h->where->user, h->handle);
  EVP_PKEY_free(h->public);
  free(h);
}

static int half_has(const void *key, int selection) {
  const struct half *h = key;
  if (h == NULL || h->public == NULL) return 0;
  return (selection & OSSL_KEYMGMT_SELECT_PRIVATE_KEY) == 0 || h->where != NULL;
}

static int half_match(const void *a, const void *b, int selection) {
  const struct half *one = a, *other = b;
  (void)selection;
  return one->public != NULL && other->public != NULL && EVP_PKEY_eq(one->public, other->public) == 1;
}

static int half_import(void *key, int selection, const OSSL_PARAM params[]) {
  struct half *h = key;
  const OSSL_PARAM *where = OSSL_PARAM_locate_const(params, where_param);
  const OSSL_PARAM *handle = OSSL_PARAM_locate_const(params, handle_param);
  EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(NULL, h->type, ANY_OTHER);
  OSSL_PARAM *copy = OSSL_PARAM_dup(params);
  (void)selection;
  bool good = ctx != NULL && copy != NULL && h->public == NULL && EVP_PKEY_fromdata_init(ctx) == 1 &&
              EVP_PKEY_fromdata(ctx, &h->public, EVP_PKEY_PUBLIC_KEY, copy) == 1;
  OSSL_PARAM_free(copy);
  EVP_PKEY_CTX_free(ctx);
  if (!good || where == NULL) return good;
  const void *at = NULL;
  size_t n;
  if (OSSL_PARAM_get_octet_ptr(where, &at, &n) != 1 || handle == NULL ||
      OSSL_PARAM_get_uint64(handle, &h->handle) != 1)
    return 0;
  h->where = at;
  return 1;
}

static int half_export(void *key, int selection, OSSL_CALLBACK *take, void *user) {
  const struct half *h = key;
  OSSL_PARAM *params = NULL;
  if (h->public == NULL || (selection & OSSL_KEYMGMT_SELECT_PRIVATE_KEY) != 0) return 0;
  int good = EVP_PKEY_todata(h->public, EVP_PKEY_PUBLIC_KEY, &params) == 1 && take(params, user) == 1;
  OSSL_PARAM_free(params);
  return good;
}

static const OSSL_PARAM *half_types(int selection) {
  static const OSSL_PARAM none[] = {OSSL_PARAM_END};
  (void)selection;
  return none;
}

static int half_get_params(void *key, OSSL_PARAM params[]) {
  const struct half *h = key;
  return h->public != NULL && EVP_PKEY_get_params(h->public, params) == 1;
}

static const OSSL_PARAM *half_gettable(void *provider) {
  static const OSSL_PARAM list[] = {OSSL_PARAM_int(OSSL_PKEY_PARAM_BITS, NULL),
                                    OSSL_PARAM_int(OSSL_PKEY_PARAM_SECURITY_BITS, NULL),
                                    OSSL_PARAM_int(OSSL_PKEY_PARAM_MAX_SIZE, NULL),
                                    OSSL_PARAM_utf8_string(OSSL_PKEY_PARAM_GROUP_NAME, NULL, 0),
                                    OSSL_PARAM_utf8_string(OSSL_PKEY_PARAM_DEFAULT_DIGEST, NULL, 0), OSSL_PARAM_END};
  (void)provider;
  return list;
}

static void *rsa_new(void *provider) { return (void)provider, half_new("RSA"); }
static void *rsa_pss_new(void *provider) { return (void)provider, half_new("RSA-PSS"); }
static void *ec_new(void *provider) { return (void)provider, half_new("EC"); }
static void *ed25519_new(void *provider) { return (void)provider, half_new("ED25519"); }
static void *ed448_new(void *provider) { return (void)provider, half_new("ED448"); }
static const char *rsa_operation(int id) { return id == OSSL_OP_SIGNATURE ? "RSA" : NULL; }
static const char *ec_operation(int id) { return id == OSSL_OP_SIGNATURE ? "ECDSA" : NULL; }
static const char *ed25519_operation(int id) { return id == OSSL_OP_SIGNATURE ? "ED25519" : NULL; }
static const char *ed448_operation(int id) { return id == OSSL_OP_SIGNATURE ? "ED448" : NULL; }

#define FUNCTION(id, fn) {id, (void (*)(void))(fn)}
#define KEYS(name, make, operation) \
  static const OSSL_DISPATCH name[] = { \
    FUNCTION(OSSL_FUNC_KEYMGMT_NEW, make), FUNCTION(OSSL_FUNC_KEYMGMT_FREE, half_free), \
    FUNCTION(OSSL_FUNC_KEYMGMT_HAS, half_has), FUNCTION(OSSL_FUNC_KEYMGMT_MATCH, half_match), \
    FUNCTION(OSSL_FUNC_KEYMGMT_IMPORT, half_import), FUNCTION(OSSL_FUNC_KEYMGMT_IMPORT_TYPES, half_types), \
    FUNCTION(OSSL_FUNC_KEYMGMT_EXPORT, half_export), FUNCTION(OSSL_FUNC_KEYMGMT_EXPORT_TYPES, half_types), \
    FUNCTION(OSSL_FUNC_KEYMGMT_GET_PARAMS, half_get_params), \
    FUNCTION(OSSL_FUNC_KEYMGMT_GETTABLE_PARAMS, half_gettable), \
    FUNCTION(OSSL_FUNC_KEYMGMT_QUERY_OPERATION_NAME, operation), {0, NULL}}
KEYS(rsa_keys, rsa_new, rsa_operation);
KEYS(rsa_pss_keys, rsa_pss_new, rsa_operation);
KEYS(ec_keys, ec_new, ec_operation);
KEYS(ed25519_keys, ed25519_new, ed25519_operation);
KEYS(ed448_keys, ed448_new, ed448_operation);

/* Signatures */

struct signing { const struct half *key; struct sign_scheme scheme; };

static void *signing_new(void *provider, const char *properties) {
  (void)provider;
  (void)properties;
  return calloc(1, sizeof(struct signing));
}

static enum sign_hash hash_of(const char *name) {
  static const struct { const char *name; enum sign_hash hash; } hashes[] = {
    {"SHA224", SIGN_SHA224}, {"SHA2-224", SIGN_SHA224}, {"SHA256", SIGN_SHA256}, {"SHA2-256", SIGN_SHA256},
    {"SHA384", SIGN_SHA384}, {"SHA2-384", SIGN_SHA384}, {"SHA512", SIGN_SHA512}, {"SHA2-512", SIGN_SHA512}};
  for (size_t i = 0; name != NULL && i < ARRAY_LEN(hashes); i++)
    if (strcasecmp(name, hashes[i].name) == 0) return hashes[i].hash;
  return name == NULL || name[0] == '\0' ? SIGN_NO_HASH : SIGN_HASHES;
}

/* As text, and as a number by older callers. */
static int signing_set(void *context, const OSSL_PARAM params[]) {
  struct signing *s = context;
  const OSSL_PARAM *p = params == NULL ? NULL : OSSL_PARAM_locate_const(params, OSSL_SIGNATURE_PARAM_PAD_MODE);
  const char *text = NULL;
  int number = 0;
  if (p == NULL) return 1;
  if (p->data_type == OSSL_PARAM_UTF8_STRING) {
    if (OSSL_PARAM_get_utf8_string_ptr(p, &text) != 1) return 0;
    if (strcmp(text, OSSL_PKEY_RSA_PAD_MODE_PSS) == 0) s->scheme.padding = SIGN_PSS;
    else if (strcmp(text, OSSL_PKEY_RSA_PAD_MODE_PKCSV15) == 0) s->scheme.padding = SIGN_PKCS1;
    else return 0;
    return 1;
  }
  if (OSSL_PARAM_get_int(p, &number) != 1) return 0;
  s->scheme.padding = number == 6 ? SIGN_PSS : SIGN_PKCS1;
  return 1;
}

static int signing_init(void *context, const char *hash, void *key, const OSSL_PARAM params[]) {
  struct signing *s = context;
  const struct half *h = key;
  if (h == NULL || h->where == NULL) return 0;
  s->key = h;
  s->scheme = (struct sign_scheme){.hash = hash_of(hash)};
  if (strcmp(h->type, "RSA") == 0) s->scheme.padding = SIGN_PKCS1;
  if (strcmp(h->type, "RSA-PSS") == 0) s->scheme.padding = SIGN_PSS;
  return s->scheme.hash < SIGN_HASHES && signing_set(s, params);
}

static const OSSL_PARAM *signing_settable(void *context, void *provider) {
  static const OSSL_PARAM list[] = {OSSL_PARAM_utf8_string(OSSL_SIGNATURE_PARAM_PAD_MODE, NULL, 0),
                                    OSSL_PARAM_utf8_string(OSSL_SIGNATURE_PARAM_PSS_SALTLEN, NULL, 0), OSSL_PARAM_END};
  (void)context;
  (void)provider;
  return list;
}

static int signing_sign(void *context, unsigned char *signature, size_t *n, size_t cap, const unsigned char *text,
                        size_t text_n) {
  const struct signing *s = context;
  int size = EVP_PKEY_get_size(s->key->public);
  if (size <= 0) return 0;
  *n = (size_t)size;
  if (signature == NULL) return 1;
  if (cap < *n) return 0;
  return s->key->where->sign(s->key->where->user, s->key->handle, &s->scheme, text, text_n, signature, n) == 0;
}

static const OSSL_DISPATCH signatures[] = {
  FUNCTION(OSSL_FUNC_SIGNATURE_NEWCTX, signing_new), FUNCTION(OSSL_FUNC_SIGNATURE_FREECTX, free),
  FUNCTION(OSSL_FUNC_SIGNATURE_DIGEST_SIGN_INIT, signing_init), FUNCTION(OSSL_FUNC_SIGNATURE_DIGEST_SIGN, signing_sign),
  FUNCTION(OSSL_FUNC_SIGNATURE_SET_CTX_PARAMS, signing_set),
  FUNCTION(OSSL_FUNC_SIGNATURE_SETTABLE_CTX_PARAMS, signing_settable), {0, NULL}};

static const OSSL_ALGORITHM *query(void *provider, int operation, int *no_cache) {
  static const char properties[] = "provider=" PROVIDER;
  static const OSSL_ALGORITHM keys[] = {
    {"RSA", properties, rsa_keys, NULL}, {"RSA-PSS", properties, rsa_pss_keys, NULL}, {"EC", properties, ec_keys, NULL},
    {"ED25519", properties, ed25519_keys, NULL}, {"ED448", properties, ed448_keys, NULL}, {NULL, NULL, NULL, NULL}};
  static const OSSL_ALGORITHM operations[] = {
    {"RSA", properties, signatures, NULL}, {"ECDSA", properties, signatures, NULL},
    {"ED25519", properties, signatures, NULL}, {"ED448", properties, signatures, NULL}, {NULL, NULL, NULL, NULL}};
  (void)provider;
  *no_cache = 0;
  return operation == OSSL_OP_KEYMGMT ? keys : operation == OSSL_OP_SIGNATURE ? operations : NULL;
}

static int provider_begin(const OSSL_CORE_HANDLE *core, const OSSL_DISPATCH *from, const OSSL_DISPATCH **out,
                          void **provider) {
  static const OSSL_DISPATCH functions[] = {FUNCTION(OSSL_FUNC_PROVIDER_QUERY_OPERATION, query), {0, NULL}};
  (void)core;
  (void)from;
  *out = functions;
  *provider = NULL;
  return 1;
}

int remote_key_install(struct err *e) {
  (void)OSSL_PROVIDER_available(NULL, "default");      /* it comes first, or what the configuration has in its place */
  if (OSSL_PROVIDER_add_builtin(NULL, PROVIDER, provider_begin) == 1 &&
      OSSL_PROVIDER_try_load(NULL, PROVIDER, 1) != NULL)
    return 0;
  return err_set(e, ERR_CRYPTO, "TLS: OpenSSL takes no keys of another process: %s", pem_openssl_reason());
}

EVP_PKEY *remote_key_new(EVP_PKEY *public, const struct remote_key *where, uint64_t handle, struct err *e) {
  EVP_PKEY *key = NULL;
  const void *at = where;
  void *address;
  memcpy(&address, &at, sizeof address);
  OSSL_PARAM ours[] = {OSSL_PARAM_construct_octet_ptr(where_param, &address, sizeof *where),
                       OSSL_PARAM_construct_uint64(handle_param, &handle), OSSL_PARAM_construct_end()};
  OSSL_PARAM *theirs = NULL, *both = NULL;
  EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(NULL, EVP_PKEY_get0_type_name(public), "provider=" PROVIDER);
  if (ctx == NULL || EVP_PKEY_todata(public, EVP_PKEY_PUBLIC_KEY, &theirs) != 1 ||
      (both = OSSL_PARAM_merge(theirs, ours)) == NULL || EVP_PKEY_fromdata_init(ctx) != 1 ||
      EVP_PKEY_fromdata(ctx, &key, EVP_PKEY_KEYPAIR, both) != 1)
    err_set(e, ERR_USAGE, "certificate: its kind of key cannot be used: %s (use ECDSA P-256, or RSA)",
            pem_openssl_reason());
  OSSL_PARAM_free(both);
  OSSL_PARAM_free(theirs);
  EVP_PKEY_CTX_free(ctx);
  return key;
}
