/* What is done for every byte, message and visitor, alone and so often: for a counter of instructions (bench/guard.py),
   which looks at nothing but the functions named measured_*. What the other end does is not measured. */
#include <gnu/libc-version.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/secret.h"
#include "tls/authority.h"
#include "tls/client_hello.h"
#include "tls/sealed.h"
#include "tls/tls_conn.h"
#include "tls/tls_kdf.h"
#include "wire/data.h"
#include "wire/frame.h"

enum { RECORD_BYTES = RECORD_PLAIN_MAX, PING_BYTES = 64 };
static const uint8_t secret[2][TLS_SECRET_MAX_BYTES] = {{1}, {2}};

#define MEASURED __attribute__((noinline, used))

/* A counter must not take a failure for thrift. */
static void must(bool good, const char *what) {
  if (good) return;
  (void)fprintf(stderr, "guard: %s\n", what);
  exit(1);
}

static struct sealed *end_of(int mine) {
  const struct sealed_params p = {
      .suite = tls_suite_find(0x1301), .read_secret = secret[1 - mine], .write_secret = secret[mine]};
  struct sealed *s = sealed_new(&p);
  must(s != NULL, "no record layer");
  return s;
}

static void seal_and_open(struct sealed *from, struct sealed *to, uint8_t *record, size_t n) {
  size_t consumed, got;
  uint8_t *plain;
  must(sealed_write(from, record, n) == 0, "not sealed");
  must(sealed_read(to, record, n + RECORD_OVERHEAD_MAX, &consumed, &plain, &got) == SEALED_DATA && got == n,
       "not opened");
}

static uint8_t record[RECORD_BYTES + 2 * RECORD_OVERHEAD_MAX];

MEASURED static void measured_record(struct sealed *from, struct sealed *to) {
  seal_and_open(from, to, record, RECORD_BYTES);
}

MEASURED static void measured_ping(struct sealed *from, struct sealed *to) {
  seal_and_open(from, to, record, PING_BYTES);
}

static void carry(unsigned count, void (*measured)(struct sealed *from, struct sealed *to)) {
  struct sealed *from = end_of(0), *to = end_of(1);
  for (unsigned i = 0; i < count; i++) measured(from, to);
  sealed_free(from);
  sealed_free(to);
}

static void run_record(unsigned count) { carry(count, measured_record); }
static void run_ping(unsigned count) { carry(count, measured_ping); }

MEASURED static void measured_frames(uint16_t n) {
  uint8_t bytes[64];
  struct writer w = writer_of(bytes, sizeof bytes);
  uint16_t count = 0;
  uint64_t cookie = 0;
  frame_want_encode(&w, n);
  frame_ping_encode(&w, FRAME_PING, n);
  must(frame_want_decode(reader_of(bytes + FRAME_HEADER_BYTES, 2), &count) == 0 && count == n, "no WANT");
  must(frame_ping_decode(reader_of(bytes + 2 * FRAME_HEADER_BYTES + 2, 8), &cookie) == 0 && cookie == n, "no PING");
}

static void run_frames(unsigned count) {
  for (unsigned i = 0; i < count; i++) measured_frames((uint16_t)i);
}

MEASURED static void measured_handoff(struct link_keys *agent, struct link_keys *relay, struct open_message *open) {
  struct number_keys keys, theirs;
  struct preface p;
  uint8_t preface[PREFACE_BYTES], bytes[OPEN_MAX_BYTES], accept[ACCEPT_BYTES], id[LINK_ID_BYTES] = {0};
  uint64_t number;
  size_t n;
  enum accept_status status;
  must(link_keys_next(agent, &number, &keys) == 0 && preface_encode(id, number, &keys, preface) == 0, "no preface");
  must(preface_decode(preface, &p) == 0 && link_keys_peek(relay, number, 0, &theirs) == 0, "no number");
  must(preface_verify(&p, &theirs) == 0, "not verified");
  link_keys_claim(relay, number, 0);
  must(open_encode(open, &theirs, bytes, &n) == 0 && open_decode(bytes, n, &keys, open) == 0, "no OPEN");
  must(accept_encode(ACCEPT_OK, &keys, accept) == 0 && accept_decode(accept, &theirs, &status) == 0, "no ACCEPT");
}

static void run_handoff(unsigned count) {
  static const uint8_t exporter[32] = {3}, shared[X25519_BYTES] = {4};
  struct link_keys *agent = link_keys_new(exporter, shared), *relay = link_keys_new(exporter, shared);
  struct open_message open = {.tunnel_id = 1, .kind = STREAM_TLS13, .suite = 0x1301, .secret_n = 32};
  struct err e;
  must(agent != NULL && relay != NULL, "no keys");
  must(addr_parse("192.0.2.1:1", &open.visitor, &e) == 0 && addr_parse("192.0.2.2:443", &open.local, &e) == 0,
       "no address");
  for (unsigned i = 0; i < count; i++) measured_handoff(agent, relay, &open);
  link_keys_free(agent);
  link_keys_free(relay);
}

static const char host[] = "any-label.r1.example.com";

struct shop {                      /* what a relay and its visitors have for all of their connections */
  struct tls_server *server;
  struct tls_client *visitors;
};

static struct tls_client *who_trusts(const char *chain) {
  char path[] = "/tmp/adit-guard-XXXXXX";
  struct err e;
  int fd = mkstemp(path);
  must(fd >= 0 && write(fd, chain, strlen(chain)) == (ssize_t)strlen(chain), "no temporary file");
  struct tls_client *visitors = tls_client_new(path, &e);
  (void)unlink(path);
  (void)close(fd);
  return visitors;
}

static struct shop shop_open(void) {
  static const char *const names[] = {"r1.example.com", "*.r1.example.com"};
  struct shop s;
  char *chain, *key;
  struct err e;
  struct authority *a = authority_make(names[0], time(NULL), &e);
  must(a != NULL, "no authority");
  must(authority_issue(a, names, 2, 30, time(NULL), &chain, &key, &e) == 0, "no certificate");
  s.server = tls_server_new(chain, strlen(chain), key, strlen(key), NULL, &e);
  s.visitors = who_trusts(chain);
  must(s.server != NULL && s.visitors != NULL, "no TLS");
  authority_pem_free(chain);
  authority_pem_free(key);
  authority_unref(a);
  return s;
}

static void shop_close(struct shop *s) {
  tls_server_unref(s->server);
  tls_client_free(s->visitors);
}

static struct tls_conn *visitor_of(const struct shop *s) {
  static const struct pin public = {.kind = PIN_PUBLIC_AUTHORITIES};
  struct err e;
  struct tls_conn *v = tls_conn_client(s->visitors, host, &public, "http/1.1", &e);
  must(v != NULL && tls_conn_feed(v, NULL, 0, &e) == TLS_GOING_ON, "no visitor");
  return v;
}

MEASURED static void measured_hello(const uint8_t *p, size_t n) {
  struct client_hello hello;
  uint8_t alert;
  client_hello_init(&hello);
  for (size_t at = 0, want; (want = client_hello_want(&hello)) > 0; at += want) {
    want = size_min(want, n - at);
    must(want > 0 && client_hello_feed(&hello, p + at, want, &alert) == 0, "no ClientHello");
  }
  client_hello_free(&hello);
}

static void run_hello(unsigned count) {
  struct shop s = shop_open();
  struct tls_conn *v = visitor_of(&s);
  size_t n;
  const uint8_t *p = tls_conn_output(v, &n);
  for (unsigned i = 0; i < count; i++) measured_hello(p, n);
  tls_conn_free(v);
  shop_close(&s);
}

MEASURED static struct tls_conn *measured_connection_begin(struct tls_server *server, const uint8_t *p, size_t n) {
  static const uint8_t alpn[] = "\x08http/1.1";
  const struct tls_server_policy policy = {.host = host, .alpn = alpn, .alpn_n = sizeof alpn - 1};
  struct err e;
  struct tls_conn *t = tls_conn_server(server, &policy, &e);
  must(t != NULL && tls_conn_feed(t, p, n, &e) == TLS_GOING_ON, "no handshake");
  return t;
}

/* What a relay does with the visitor's last flight. */
MEASURED static void measured_connection_end(struct tls_conn *t, const uint8_t *p, size_t n) {
  struct tls_takeover out;
  struct err e;
  must(tls_conn_feed(t, p, n, &e) == TLS_DONE, "the handshake does not end");
  must(tls_conn_take_over(t, &out) == 0, "no take-over");
  wipe(&out, sizeof out);
  tls_conn_free(t);
}

/* The relay's part of one handshake. */
static void run_connection(unsigned count) {
  struct shop s = shop_open();
  struct err e;
  for (unsigned i = 0; i < count; i++) {
    struct tls_conn *v = visitor_of(&s);
    size_t n;
    const uint8_t *p = tls_conn_output(v, &n);
    struct tls_conn *t = measured_connection_begin(s.server, p, n);
    tls_conn_output_sent(v, n);
    p = tls_conn_output(t, &n);
    must(tls_conn_feed(v, p, n, &e) == TLS_DONE, "the visitor does not agree");
    tls_conn_output_sent(t, n);
    p = tls_conn_output(v, &n);
    measured_connection_end(t, p, n);
    tls_conn_free(v);
  }
  shop_close(&s);
}

static void (*const runs[])(unsigned count) = {run_record,  run_ping,    run_frames,
                                               run_hello,   run_handoff, run_connection};

/* On what the counts depend, besides this program. */
static void tell_surroundings(void) {
#ifdef __clang__
  static const char compiler[] = "clang";
#else
  static const char compiler[] = "gcc";
#endif
  __builtin_cpu_init();
  (void)printf("%s %s, glibc %s, OpenSSL %s, %s\n", compiler, __VERSION__, gnu_get_libc_version(),
               OpenSSL_version(OPENSSL_VERSION_STRING), __builtin_cpu_supports("avx2") ? "AVX2" : "no AVX2");
}

/* The first of each finds nothing prepared: so there are two runs with different counts. */
int main(int argc, char **argv) {
  must(argc == 2, "usage: guard COUNT");
  must(tls_wipe_on_free_install() == 0, "OpenSSL was used before");
  tls_kdf_install();
  tell_surroundings();
  for (size_t i = 0; i < ARRAY_LEN(runs); i++) runs[i]((unsigned)strtoul(argv[1], NULL, 10));
}
