/* An agent that keeps to no rule but the one that it is told, led by a test over stdin and stdout; kit/hostile.py is
 * its other end.
 *
 *     hostile-agent TOKEN_FILE
 *
 * Each line of stdin is a command, answered by a line when it has been done:
 *
 *     link                   a new control link, the TLS handshake done, nothing said
 *     hello | forged         HELLO, the signature right or not
 *     chain KIND             from now on another chain of certificates: see `kinds`
 *     repeat                 the last HELLO once more, byte by byte, on whatever link there is now
 *     frame TYPE HEX         a frame; `header TYPE LENGTH` is one without its body
 *     flood N | ports N      N BINDs for h2, or for a port each that is given back at once; as many to a record as fit
 *     updates N              N KeyUpdates
 *     dribble                a record that never ends, a byte every 100 ms
 *     silent                 PING is not answered any more
 *     data | again           a data connection with the next number, or with the number of the one before
 *     byte                   a byte on the last data connection
 *     accept STATUS          ACCEPT on the last data connection
 *     secrets                `secret HEX` for each that both ends of the link have had
 *
 * What comes meanwhile: `got TYPE HEX` for a frame (of UNBOUNDs the first 5000), `data open` and `data ended` of the
 * last data connection, `link ended`. */
#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/addr.h"
#include "base/text.h"
#include "link/engine.h"
#include "wire/data.h"
#include "wire/token.h"

enum { LINE_MAX = 4 * FRAME_BODY_MAX_BYTES, DRIBBLE_MS = 100, FLOOD_ID = 1000, UNBOUND_TOLD = 5000 };

static struct {
  struct token given, token;       /* what we were started with, and what HELLO shows */
  struct addr relay;
  int fd;                          /* of the link */
  struct engine engine;
  uint64_t sealed_n;               /* records that it has sealed */
  struct record_keys updating;     /* goes on from there in `updates`, after which it writes no more */
  struct tls_takeover takeover;
  uint8_t private_key[X25519_BYTES], shared[X25519_BYTES], id[LINK_ID_BYTES];
  struct link_keys *number_keys;
  uint8_t hello[FRAME_BEFORE_AUTH_MAX_BYTES];
  size_t hello_n;
  bool silent, dribbling;
  bool ports;                      /* the flood's kind */
  uint32_t flood_left, flood_id, updates_left, unbound;
  int data_fd;
  struct number_keys data_keys;
  uint8_t preface[PREFACE_BYTES];
} me = {.fd = -1, .data_fd = -1};

static void must(bool ok, const char *what) {
  if (ok) return;
  fprintf(stderr, "hostile-agent: %s\n", what);
  exit(1);
}

static void say(const char *what) {
  printf("%s\n", what);
  fflush(stdout);
}

static void send_all(int fd, const uint8_t *p, size_t n) {
  while (n > 0) {
    ssize_t sent = send(fd, p, n, MSG_NOSIGNAL);
    if (sent <= 0) return;         /* its end is told where it is read */
    p += sent;
    n -= (size_t)sent;
  }
}

static int dial(void) {
  int fd = socket(me.relay.u.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;
  must(fd >= 0 && connect(fd, &me.relay.u.any, addr_len(&me.relay)) == 0, "the relay cannot be reached");
  (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  return fd;
}

/* Chains. Two children's keys; their certificates say what the token's does, but no raw port and visitors from
   127.0.0.0/8 only. */

static const uint8_t child_seed[ED25519_KEY_BYTES] = {1}, grandchild_seed[ED25519_KEY_BYTES] = {2};

static void chain_add(uint32_t more_tunnels, const uint8_t seed[ED25519_KEY_BYTES],
                      const uint8_t for_seed[ED25519_KEY_BYTES]) {
  struct token *t = &me.token;
  struct certificate c = me.given.info;
  c.max_tunnels += more_tunnels;
  c.no_raw = true;
  c.allow[0] = (struct cidr){.family = 4, .bits = 8, .bytes = {127}};
  c.allow_n = 1;
  must(ed25519_public(for_seed, c.public_key) == 0 &&
           chain_extend(t->chain, sizeof t->chain, &t->chain_n, &c, seed) == 0,
       "no certificate");
  memcpy(t->seed, for_seed, sizeof t->seed);
}

static void chain_narrower(void) { chain_add(0, me.given.seed, child_seed); }
static void chain_narrowest(void) { chain_narrower(); chain_add(0, child_seed, grandchild_seed); }
static void chain_wider(void) { chain_add(1, me.given.seed, child_seed); }
static void chain_usurped(void) { chain_add(0, child_seed, child_seed); }
static void chain_four(void) { chain_narrowest(); chain_add(0, grandchild_seed, child_seed); }
static void chain_cut(void) { chain_narrower(); me.token.chain_n--; }
static void chain_headless(void) {
  chain_narrower();
  memmove(me.token.chain, me.token.chain + me.given.chain_n, me.token.chain_n -= me.given.chain_n);
}
static void chain_stolen(void) { chain_narrower(); memcpy(me.token.seed, me.given.seed, sizeof me.token.seed); }

/* A grandchild's certificate, taken from beneath one child to beneath another of the same key. */
static void chain_moved(void) {
  chain_narrowest();
  struct token there = me.token;
  me.token = me.given;
  me.given.info.issued_s++;
  chain_narrower();
  me.given.info.issued_s--;
  size_t at = me.token.chain_n;
  memcpy(me.token.chain + at, there.chain + at, there.chain_n - at);
  me.token.chain_n = there.chain_n;
  memcpy(me.token.seed, grandchild_seed, sizeof me.token.seed);
}

static const struct { const char *name; void (*make)(void); } kinds[] = {
  {"narrower", chain_narrower}, {"narrowest", chain_narrowest}, {"wider", chain_wider}, {"usurped", chain_usurped},
  {"four", chain_four},
  {"cut", chain_cut}, {"headless", chain_headless}, {"stolen", chain_stolen}, {"moved", chain_moved}};

static void chain_make(const char *name) {
  me.token = me.given;
  for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
    if (strcmp(kinds[i].name, name) != 0) continue;
    kinds[i].make();
    return;
  }
  must(false, "no such chain");
}

/* The link */

static void link_close(void) {
  if (me.fd >= 0) close(me.fd);
  me.fd = -1;
  engine_free(&me.engine);
  record_keys_free(&me.updating);
  link_keys_free(me.number_keys);
  me.number_keys = NULL;
  me.flood_left = me.updates_left = 0;
  me.sealed_n = 0;
  me.dribbling = false;
}

static void send_output(struct tls_conn *tls) {
  size_t n;
  const uint8_t *p = tls_conn_output(tls, &n);
  send_all(me.fd, p, n);
  tls_conn_output_sent(tls, n);
}

static const struct engine_role hostile_role;

static void link_open(void) {
  struct err e = {0};
  const struct token_relay *r = &me.token.relays[0];
  const char *name = r->name[0] != '\0' ? r->name : r->dial.host;
  link_close();
  me.fd = dial();
  struct tls_client *client = tls_client_new(NULL, &e);
  must(client != NULL, e.text);
  struct tls_conn *tls = tls_conn_client(client, name, &r->pin, WIRE_ALPN, &e);
  must(tls != NULL, e.text);
  enum tls_status status = tls_conn_feed(tls, NULL, 0, &e);
  send_output(tls);
  while (status == TLS_GOING_ON) {
    uint8_t bytes[4096];
    ssize_t n = recv(me.fd, bytes, size_min(tls_conn_want(tls), sizeof bytes), 0);
    must(n > 0, "the relay ended the handshake");
    status = tls_conn_feed(tls, bytes, (size_t)n, &e);
    send_output(tls);
  }
  must(status == TLS_DONE, e.text);
  must(tls_conn_take_over(tls, &me.takeover) == 0, "the link cannot be taken over");
  must(engine_start(&me.engine, &hostile_role, &me.takeover) == 0, "out of memory");
  engine_open(&me.engine);         /* whatever comes is heard */
  tls_conn_free(tls);
  tls_client_free(client);
}

/* What fits one record. */
static void link_say(const uint8_t *p, size_t n) {
  uint8_t bytes[RECORD_PLAIN_MAX];
  must(n <= sizeof bytes, "too much to say");
  memcpy(bytes, p, n);
  engine_send(&me.engine, &(struct writer){.base = bytes, .cap = sizeof bytes, .len = n});
  me.sealed_n++;
}

/* What no engine would say. */
static void link_say_raw(const void *p, size_t n) { must(buf_append(&me.engine.out, p, n) == 0, "too much to say"); }

static void hello(bool forged) {
  struct frame_hello f = {
      .version = WIRE_VERSION, .chain = me.token.chain, .chain_n = me.token.chain_n, .software = "hostile"};
  struct writer w = writer_of(me.hello, sizeof me.hello);
  must(x25519_keypair(me.private_key, f.share) == 0, "no key could be made");
  must(frame_hello_sign(&f, me.takeover.exporter, me.token.seed) == 0, "the token does not sign");
  if (forged) f.signature[0] ^= 1;
  frame_hello_encode(&w, &f);
  me.hello_n = w.len;
  link_say(me.hello, me.hello_n);
}

/* It keeps what it made its keys from, which an engine would not: `secrets` tells it. */
static int welcomed(struct engine *e, const struct frame *frame) {
  (void)e;
  struct frame_welcome f;
  if (frame_welcome_decode(frame->body, &f) != 0 || x25519_shared(me.private_key, f.share, me.shared) != 0) return 0;
  must(link_id_derive(me.takeover.exporter, me.id) == 0, "no id of the link");
  link_keys_free(me.number_keys);
  me.number_keys = link_keys_new(me.takeover.exporter, me.shared);
  return 0;
}

static void tell_secret(const uint8_t secret[32]) {
  char hex[65];
  hex_encode(secret, 32, hex);
  printf("secret %s\n", hex);
}

static void tell_secrets(void) {
  tell_secret(me.takeover.exporter);
  tell_secret(me.shared);
}

static int pinged(struct engine *e, const struct frame *frame) {
  (void)e;
  uint8_t bytes[16];
  uint64_t cookie;
  struct writer w = writer_of(bytes, sizeof bytes);
  if (me.silent || frame_ping_decode(frame->body, &cookie) != 0) return 0;
  frame_ping_encode(&w, FRAME_PONG, cookie);
  link_say(bytes, w.len);
  return 0;
}

static int tell_frame(struct engine *e, const struct frame *f) {
  (void)e;
  static char hex[2 * FRAME_BODY_MAX_BYTES + 1];
  hex_encode(f->body.at, f->total - FRAME_HEADER_BYTES, hex);
  if (f->type != FRAME_UNBOUND || me.unbound++ < UNBOUND_TOLD) printf("got %d %s\n", f->type, hex);
  return 0;
}

static uint64_t no_time(struct engine *e) {
  (void)e;
  return 0;
}

static const struct engine_role hostile_role = {
    .now_ms = no_time, .heard = tell_frame,
    .rules = {[FRAME_WELCOME] = {WHILE_UP, welcomed}, [FRAME_PING] = {WHILE_UP, pinged}}};

/* False: the link has ended. */
static bool link_read(void) {
  size_t room;
  uint8_t *to = engine_room(&me.engine, &room);
  ssize_t got = to != NULL ? recv(me.fd, to, room, 0) : 0;
  if (got <= 0) return false;
  engine_received(&me.engine, (size_t)got);
  enum engine_result result = engine_work(&me.engine, SIZE_MAX);
  fflush(stdout);
  return result == ENGINE_IDLE;
}

/* Floods */

static void flood_on(void) {
  static const uint8_t h2[] = "\x02h2";
  static uint8_t bytes[RECORD_PLAIN_MAX];
  struct writer w = writer_of(bytes, sizeof bytes);
  while (me.flood_left > 0 && w.len + 64 < sizeof bytes) {
    struct frame_bind f = {.id = FLOOD_ID + me.flood_id++,
                           .flags = TUNNEL_H2 | (me.ports ? TUNNEL_TCP : 0),
                           .alpn = h2,
                           .alpn_n = sizeof h2 - 1};
    frame_bind_encode(&w, &f);
    if (me.ports) frame_unbind_encode(&w, f.id);
    me.flood_left--;
  }
  link_say(bytes, w.len);
  if (me.flood_left == 0) say(me.ports ? "ports" : "flood");
}

static void updates_on(void) {
  static const uint8_t update[] = {24, 0, 0, 1, 1};
  const struct tls_suite *suite = tls_suite_find(me.takeover.suite);
  if (me.updating.aead == NULL)
    must(record_keys_init(&me.updating, suite, me.takeover.client_secret, me.sealed_n, true) == 0, "out of memory");
  for (int i = 0; me.updates_left > 0 && i < 512; i++, me.updates_left--) {
    uint8_t record[sizeof update + RECORD_OVERHEAD_BYTES];
    memcpy(record + RECORD_HEADER_BYTES, update, sizeof update);
    must(record_seal(&me.updating, RECORD_HANDSHAKE, record, sizeof update) == 0, "out of memory");
    must(record_keys_update(&me.updating) == 0, "out of memory");
    link_say_raw(record, sizeof record);
  }
  if (me.updates_left == 0) say("updates");
}

static void link_write(void) {
  size_t left;
  if (engine_waiting(&me.engine) == 0 && me.flood_left > 0) flood_on();
  if (engine_waiting(&me.engine) == 0 && me.updates_left > 0) updates_on();
  const uint8_t *p = engine_output(&me.engine, &left);
  ssize_t n = p != NULL ? send(me.fd, p, left, MSG_NOSIGNAL | MSG_DONTWAIT) : 0;
  if (n > 0) engine_sent(&me.engine, (size_t)n);
}

/* Data connections */

static void data_open(bool again) {
  uint64_t number = 0;
  if (!again) {
    must(me.number_keys != NULL && link_keys_next(me.number_keys, &number, &me.data_keys) == 0, "there is no link yet");
    must(preface_encode(me.id, number, &me.data_keys, me.preface) == 0, "no preface");
  }
  if (me.data_fd >= 0 && !again) close(me.data_fd);   /* again: both stand, and the second is watched */
  me.data_fd = dial();
  send_all(me.data_fd, me.preface, sizeof me.preface);
}

static void data_accept(enum accept_status status) {
  uint8_t bytes[ACCEPT_BYTES];
  must(accept_encode(status, &me.data_keys, bytes) == 0, "no ACCEPT");
  send_all(me.data_fd, bytes, sizeof bytes);
}

static void data_read(void) {
  uint8_t bytes[4096];
  if (recv(me.data_fd, bytes, sizeof bytes, 0) > 0) {
    say("data open");
    return;
  }
  close(me.data_fd);
  me.data_fd = -1;
  say("data ended");
}

/* Commands */

static void put_frame(unsigned type, size_t length, const char *hex) {
  static uint8_t bytes[FRAME_HEADER_BYTES + FRAME_BODY_MAX_BYTES];
  size_t n = strlen(hex) / 2;
  must(n <= FRAME_BODY_MAX_BYTES && hex_decode(hex, bytes + FRAME_HEADER_BYTES, n) == 0, "no hexadecimal body");
  bytes[0] = (uint8_t)type;
  for (int i = 0; i < 3; i++) bytes[1 + i] = (uint8_t)(length >> 8 * (2 - i));
  link_say(bytes, FRAME_HEADER_BYTES + n);
}

static void obey(char *line) {
  static const uint8_t endless[] = {RECORD_APPLICATION_DATA, 3, 3, 0x40, 0};
  const char *word = strtok(line, " "), *first = strtok(NULL, " "), *second = strtok(NULL, " ");
  unsigned long number = first != NULL ? strtoul(first, NULL, 10) : 0;
  must(word != NULL, "an empty command");
  if (strcmp(word, "link") == 0) link_open();
  else if (strcmp(word, "hello") == 0 || strcmp(word, "forged") == 0) hello(word[0] == 'f');
  else if (strcmp(word, "chain") == 0) chain_make(first != NULL ? first : "");
  else if (strcmp(word, "repeat") == 0) link_say(me.hello, me.hello_n);
  else if (strcmp(word, "frame") == 0)
    put_frame((unsigned)number, second != NULL ? strlen(second) / 2 : 0, second != NULL ? second : "");
  else if (strcmp(word, "header") == 0) put_frame((unsigned)number, second != NULL ? strtoul(second, NULL, 10) : 0, "");
  else if (strcmp(word, "silent") == 0) me.silent = true;
  else if (strcmp(word, "data") == 0 || strcmp(word, "again") == 0) data_open(word[0] == 'a');
  else if (strcmp(word, "byte") == 0) send_all(me.data_fd, (const uint8_t *)"x", 1);
  else if (strcmp(word, "secrets") == 0) tell_secrets();
  else if (strcmp(word, "accept") == 0) data_accept((enum accept_status)number);
  else if (strcmp(word, "flood") == 0 || strcmp(word, "ports") == 0) {
    me.ports = word[0] == 'p';
    me.flood_left = (uint32_t)number;
  }
  else if (strcmp(word, "updates") == 0) me.updates_left = (uint32_t)number;
  else if (strcmp(word, "dribble") == 0) {
    link_say_raw(endless, sizeof endless);
    me.dribbling = true;
  }
  else must(false, "an unknown command");
  if (me.flood_left == 0 && me.updates_left == 0) say(word);     /* those two are done later */
}

static bool obey_next(void) {
  static char line[LINE_MAX];
  if (fgets(line, sizeof line, stdin) == NULL) return false;
  line[strcspn(line, "\n")] = '\0';
  obey(line);
  return true;
}

int main(int argc, char **argv) {
  static char text[TOKEN_TEXT_MAX_CHARS + 2];
  struct err e = {0};
  FILE *file = argc == 2 ? fopen(argv[1], "r") : NULL;
  must(file != NULL, "usage: hostile-agent TOKEN_FILE");
  size_t n = fread(text, 1, sizeof text - 1, file);
  fclose(file);
  must(token_decode(text, n, &me.given, &e) == 0, e.text);
  me.token = me.given;
  host_port_format(&me.token.relays[0].dial, text, sizeof text);
  must(addr_parse(text, &me.relay, &e) == 0, e.text);
  setvbuf(stdin, NULL, _IONBF, 0);
  link_close();
  for (;;) {
    bool writes = engine_waiting(&me.engine) > 0 || me.flood_left > 0 || me.updates_left > 0;
    struct pollfd fds[] = {{.fd = STDIN_FILENO, .events = POLLIN},
                           {.fd = me.fd, .events = (short)(POLLIN | (writes ? POLLOUT : 0))},
                           {.fd = me.data_fd, .events = POLLIN}};
    int ready = poll(fds, ARRAY_LEN(fds), me.dribbling ? DRIBBLE_MS : -1);
    if (ready == 0 && me.dribbling) send_all(me.fd, (const uint8_t *)"", 1);
    /* It reads first: a relay gives up a link that does not take its answers. */
    if ((fds[1].revents & (POLLOUT | POLLIN)) == POLLOUT) link_write();
    if (fds[1].revents & (POLLIN | POLLHUP | POLLERR) && !link_read()) {
      link_close();
      say("link ended");
    }
    if (fds[2].revents != 0) data_read();
    if (fds[0].revents != 0 && !obey_next()) break;
  }
  link_close();
  return 0;
}
