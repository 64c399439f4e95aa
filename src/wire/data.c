/* Preface, OPEN and ACCEPT. OPEN is the one message that carries a visitor's traffic secrets: its key is used for one
   message only, which is why its nonce may be zero, and its header is authenticated with it. */
#include "wire/data.h"

#include <string.h>

#include "base/cursor.h"
#include "base/secret.h"

enum {
  DATA_VERSION = 1,
  OPEN_TLS12_VERSION = 2,          /* of an OPEN for kind 2: in version 1 that was re-sealed by the relay */
  MAC_BYTES = 16,
  PREFACE_SIGNED_BYTES = PREFACE_BYTES - MAC_BYTES,
  ACCEPT_SIGNED_BYTES = ACCEPT_BYTES - MAC_BYTES,
  FRAGMENT_MIN = 64                /* RFC 8449 4: the least that a peer may ask for */
};

static const uint8_t preface_magic[4] = {PREFACE_FIRST_BYTE, 'D', 'I', 'T'};
static const uint8_t open_magic[4] = {PREFACE_FIRST_BYTE, 'O', 'P', 'N'};
static const uint8_t accept_magic[4] = {PREFACE_FIRST_BYTE, 'A', 'C', 'C'};

static int mac_of(const uint8_t key[32], const uint8_t *p, size_t n, uint8_t mac[MAC_BYTES]) {
  uint8_t full[SHA256_BYTES];
  int r = hmac_sha256(key, 32, p, n, full);
  if (r == 0) memcpy(mac, full, MAC_BYTES);
  wipe(full, sizeof full);
  return r;
}

/* Preface */

static void preface_write_signed(const uint8_t link_id[LINK_ID_BYTES], uint64_t number,
                                 uint8_t out[PREFACE_SIGNED_BYTES]) {
  struct writer w = writer_of(out, PREFACE_SIGNED_BYTES);
  write_bytes(&w, preface_magic, sizeof preface_magic);
  write_u8(&w, DATA_VERSION);
  write_bytes(&w, link_id, LINK_ID_BYTES);
  write_u64(&w, number);
  ASSERT(!w.bad && w.len == PREFACE_SIGNED_BYTES);
}

int preface_encode(const uint8_t link_id[LINK_ID_BYTES], uint64_t number, const struct number_keys *k,
                   uint8_t out[PREFACE_BYTES]) {
  preface_write_signed(link_id, number, out);
  return mac_of(k->preface, out, PREFACE_SIGNED_BYTES, out + PREFACE_SIGNED_BYTES);
}

int preface_decode(const uint8_t in[PREFACE_BYTES], struct preface *p) {
  struct reader r = reader_of(in, PREFACE_BYTES);
  const uint8_t *magic = read_bytes(&r, sizeof preface_magic);
  if (memcmp(magic, preface_magic, sizeof preface_magic) != 0 || read_u8(&r) != DATA_VERSION) return ERR_SYNTAX;
  read_copy(&r, p->link_id, sizeof p->link_id);
  p->number = read_u64(&r);
  read_copy(&r, p->mac, sizeof p->mac);
  return reader_done(&r) ? 0 : ERR_SYNTAX;
}

int preface_verify(const struct preface *p, const struct number_keys *k) {
  uint8_t bytes[PREFACE_SIGNED_BYTES], mac[MAC_BYTES];
  preface_write_signed(p->link_id, p->number, bytes);
  int r = mac_of(k->preface, bytes, sizeof bytes, mac);
  if (r == 0 && !equal_ct(mac, p->mac, sizeof mac)) r = ERR_AUTH;
  wipe(mac, sizeof mac);
  return r;
}

/* OPEN */

/* What OPEN says of either side: a traffic secret, or in TLS 1.2 a key and 12 bytes of iv. 0: that suite is not of that
   kind. */
static size_t suite_secret_bytes(uint8_t kind, uint16_t suite) {
  switch (suite) {
    case 0x1301:
    case 0x1303: return kind == STREAM_TLS12 ? 0 : 32;
    case 0x1302: return kind == STREAM_TLS12 ? 0 : 48;
    case 0xc02b:
    case 0xc02f: return kind == STREAM_TLS12 ? 16 + 12 : 0;
    case 0xc02c:
    case 0xc030:
    case 0xcca8:
    case 0xcca9: return kind == STREAM_TLS12 ? 32 + 12 : 0;
    default: return 0;
  }
}

static bool open_is_consistent(const struct open_message *m) {
  if (m->kind < STREAM_TLS13 || m->kind > STREAM_RAW_PLAIN || m->alpn_n > 255) return false;
  if (m->kind == STREAM_RAW_PLAIN) {
    return m->suite == 0 && m->secret_n == 0 && m->client_sequence == 0 && m->server_sequence == 0 &&
           m->fragment_max == 0;
  }
  if (m->fragment_max != 0 && (m->fragment_max < FRAGMENT_MIN || m->fragment_max > RECORD_PLAIN_MAX)) return false;
  return m->secret_n != 0 && m->secret_n == suite_secret_bytes(m->kind, m->suite);
}

static uint8_t open_version(uint8_t kind) { return kind == STREAM_TLS12 ? OPEN_TLS12_VERSION : DATA_VERSION; }

static int seal_once(const uint8_t key[32], const uint8_t header[OPEN_HEADER_BYTES], uint8_t *body, size_t n,
                     bool seal) {
  static const uint8_t nonce[12];
  struct aead *a = aead_new(AEAD_AES_256_GCM, key, seal);
  if (a == NULL) return ERR_NOMEM;
  int r = seal ? aead_seal(a, nonce, header, OPEN_HEADER_BYTES, body, n, body, body + n)
               : aead_open(a, nonce, header, OPEN_HEADER_BYTES, body, n, body, body + n);
  aead_free(a);
  return r;
}

int open_encode(const struct open_message *m, const struct number_keys *k, uint8_t out[OPEN_MAX_BYTES], size_t *n) {
  *n = 0;
  if (!open_is_consistent(m)) return ERR_USAGE;
  struct writer w = writer_of(out + OPEN_HEADER_BYTES, OPEN_BODY_MAX_BYTES);
  write_u32(&w, m->tunnel_id);
  write_u8(&w, m->kind);
  addr_write(&w, &m->visitor);
  addr_write(&w, &m->local);
  write_u16(&w, m->suite);
  write_vec8(&w, m->client_secret, m->secret_n);
  write_vec8(&w, m->server_secret, m->secret_n);
  write_u64(&w, m->client_sequence);
  write_u64(&w, m->server_sequence);
  write_u16(&w, m->fragment_max);
  write_vec8(&w, m->alpn, m->alpn_n);
  ASSERT(!w.bad); /* OPEN_BODY_MAX_BYTES has room for the largest */

  struct writer h = writer_of(out, OPEN_HEADER_BYTES);
  write_bytes(&h, open_magic, sizeof open_magic);
  write_u8(&h, open_version(m->kind));
  write_u16(&h, (uint16_t)(w.len + AEAD_TAG_BYTES));
  int r = seal_once(k->open, out, out + OPEN_HEADER_BYTES, w.len, true);
  if (r != 0) {
    wipe(out, OPEN_HEADER_BYTES + w.len);
    return r;
  }
  *n = OPEN_HEADER_BYTES + w.len + AEAD_TAG_BYTES;
  return 0;
}

int open_length(const uint8_t header[OPEN_HEADER_BYTES], size_t *total) {
  struct reader r = reader_of(header, OPEN_HEADER_BYTES);
  const uint8_t *magic = read_bytes(&r, sizeof open_magic);
  uint8_t version = read_u8(&r);
  if (memcmp(magic, open_magic, sizeof open_magic) != 0) return ERR_SYNTAX;
  if (version != DATA_VERSION && version != OPEN_TLS12_VERSION) return ERR_SYNTAX;
  size_t length = read_u16(&r);
  if (length <= AEAD_TAG_BYTES || length > OPEN_BODY_MAX_BYTES + AEAD_TAG_BYTES) return ERR_SYNTAX;
  *total = OPEN_HEADER_BYTES + length;
  return 0;
}

static int open_parse(struct reader r, struct open_message *m) {
  m->tunnel_id = read_u32(&r);
  m->kind = read_u8(&r);
  if (addr_read(&r, &m->visitor) != 0 || addr_read(&r, &m->local) != 0) return ERR_SYNTAX;
  m->suite = read_u16(&r);
  struct reader client = read_vec8(&r), server = read_vec8(&r);
  if (client.left > TLS_SECRET_MAX_BYTES || client.left != server.left) return ERR_SYNTAX;
  m->secret_n = client.left;
  read_copy(&client, m->client_secret, m->secret_n);
  read_copy(&server, m->server_secret, m->secret_n);
  m->client_sequence = read_u64(&r);
  m->server_sequence = read_u64(&r);
  m->fragment_max = read_u16(&r);
  struct reader alpn = read_vec8(&r);
  m->alpn_n = alpn.left;
  read_copy(&alpn, m->alpn, m->alpn_n);
  return reader_done(&r) && open_is_consistent(m) ? 0 : ERR_SYNTAX;
}

int open_decode(uint8_t *in, size_t n, const struct number_keys *k, struct open_message *m) {
  size_t total;
  memset(m, 0, sizeof *m);
  if (n < OPEN_HEADER_BYTES || open_length(in, &total) != 0 || total != n) return ERR_SYNTAX;
  size_t body = total - OPEN_HEADER_BYTES - AEAD_TAG_BYTES;
  int r = seal_once(k->open, in, in + OPEN_HEADER_BYTES, body, false);
  if (r == 0) r = open_parse(reader_of(in + OPEN_HEADER_BYTES, body), m);
  if (r == 0 && in[sizeof open_magic] != open_version(m->kind)) r = ERR_SYNTAX;
  if (r != 0) wipe(m, sizeof *m);
  return r;
}

/* ACCEPT */

int accept_encode(enum accept_status status, const struct number_keys *k, uint8_t out[ACCEPT_BYTES]) {
  memcpy(out, accept_magic, sizeof accept_magic);
  out[4] = (uint8_t)status;
  return mac_of(k->accept, out, ACCEPT_SIGNED_BYTES, out + ACCEPT_SIGNED_BYTES);
}

int accept_decode(const uint8_t in[ACCEPT_BYTES], const struct number_keys *k, enum accept_status *status) {
  uint8_t mac[MAC_BYTES];
  if (memcmp(in, accept_magic, sizeof accept_magic) != 0) return ERR_SYNTAX;
  int r = mac_of(k->accept, in, ACCEPT_SIGNED_BYTES, mac);
  if (r == 0 && !equal_ct(mac, in + ACCEPT_SIGNED_BYTES, sizeof mac)) r = ERR_AUTH;
  wipe(mac, sizeof mac);
  if (r != 0) return r;
  if (in[4] > ACCEPT_NO_TUNNEL) return ERR_SYNTAX;
  *status = (enum accept_status)in[4];
  return 0;
}
