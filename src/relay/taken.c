/* See the header. */
#include "relay/taken.h"

#include <string.h>

#include "base/secret.h"
#include "loop/net.h"
#include "tls/sealed.h"

int taken_from(struct tls_conn *conn, struct open_message *m) {
  struct tls_takeover t;
  size_t n;
  const uint8_t *alpn = tls_conn_alpn(conn, &n);
  if (n > ALPN_LIST_MAX_BYTES) return ERR_LIMIT;
  int rc = tls_conn_take_over(conn, &t);
  if (rc != 0) return rc;
  if (n > 0) memcpy(m->alpn, alpn, n);
  m->alpn_n = n;
  m->kind = tls_conn_version(conn) == TLS_VERSION_13 ? STREAM_TLS13 : STREAM_TLS12;
  m->suite = t.suite;
  m->secret_n = t.secret_n;
  memcpy(m->client_secret, t.client_secret, t.secret_n);
  memcpy(m->server_secret, t.server_secret, t.secret_n);
  m->client_sequence = t.client_sequence;
  m->server_sequence = t.server_sequence;
  m->fragment_max = (uint16_t)t.fragment_max;
  wipe(&t, sizeof t);
  return 0;
}

void taken_write(const struct open_message *m, struct writer *w) {
  write_u8(w, m->kind);
  write_u16(w, m->suite);
  write_bytes(w, m->client_secret, m->secret_n);
  write_bytes(w, m->server_secret, m->secret_n);
  write_u64(w, m->client_sequence);
  write_u64(w, m->server_sequence);
  write_u16(w, m->fragment_max);
  write_vec8(w, m->alpn, m->alpn_n);
}

int taken_read(struct reader *r, struct open_message *m) {
  m->kind = read_u8(r);
  m->suite = read_u16(r);
  const struct tls_suite *suite = tls_suite_find(m->suite);
  if (suite == NULL || m->kind != (suite->version == TLS_VERSION_13 ? STREAM_TLS13 : STREAM_TLS12)) return ERR_SYNTAX;
  m->secret_n = tls_suite_secret_bytes(suite);
  read_copy(r, m->client_secret, m->secret_n);
  read_copy(r, m->server_secret, m->secret_n);
  m->client_sequence = read_u64(r);
  m->server_sequence = read_u64(r);
  m->fragment_max = read_u16(r);
  struct reader alpn = read_vec8(r);
  m->alpn_n = alpn.left;
  read_copy(&alpn, m->alpn, m->alpn_n);
  return r->bad || m->fragment_max > RECORD_PLAIN_MAX ? ERR_SYNTAX : 0;
}

void taken_refuse(struct worker *w, int fd, const struct open_message *m, uint8_t alert) {
  uint8_t owed[SEALED_OWED_MAX];
  struct sealed *s = sealed_new(&(struct sealed_params){.suite = tls_suite_find(m->suite),
                                                        .read_secret = m->client_secret,
                                                        .write_secret = m->server_secret,
                                                        .read_sequence = m->client_sequence,
                                                        .write_sequence = m->server_sequence,
                                                        .fragment_max = m->fragment_max});
  if (s != NULL) {
    sealed_fail(s, alert);
    size_t n = sealed_write_owed(s, owed);
    if (n > 0) (void)!net_send(fd, owed, n);     /* best effort: it is a refusal */
    sealed_free(s);
  }
  pump_linger_close(w->pool, fd);
}
