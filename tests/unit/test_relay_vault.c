/* What the key process does for a relay that may have been taken over, and what it does not. */
#include "cm.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <time.h>
#include <unistd.h>

#include "relay/vault.h"

enum { TLS13_N = 64 + 34 + 32 };
static const char domain[] = "r1.example.com";

struct fixture { char dir[64]; struct vault *vault; };

static int make_vault(void **out) {
  struct fixture *f = calloc(1, sizeof *f);
  if (f == NULL) return -1;
  *out = f;
  (void)snprintf(f->dir, sizeof f->dir, "/tmp/adit-test-XXXXXX");
  if (mkdtemp(f->dir) == NULL) return -1;
  f->vault = vault_new(f->dir, &(struct identity_source){.domain = domain});
  return f->vault == NULL ? -1 : 0;
}

static int remove_vault(void **in) {
  struct fixture *f = *in;
  char command[128];
  vault_free(f->vault);
  (void)snprintf(command, sizeof command, "rm -rf '%s'", f->dir);
  int rc = system(command);
  free(f);
  return rc;
}

/* What the answer points to is in b. */
static struct key_answer ask(struct fixture *f, const struct key_request *r, struct buf *b) {
  uint8_t frame[KEY_FRAME_HEADER_BYTES + KEY_REQUEST_MAX_BYTES];
  size_t n;
  struct key_answer a;
  buf_init(b, KEY_FRAME_HEADER_BYTES + KEY_ANSWER_MAX_BYTES);
  assert_int_equal(key_request_write(r, frame, &n), 0);
  assert_int_equal(vault_answer(f->vault, frame + KEY_FRAME_HEADER_BYTES, n - KEY_FRAME_HEADER_BYTES, b), 0);
  assert_true(b->len > KEY_FRAME_HEADER_BYTES);
  assert_int_equal(key_answer_read(buf_data(b) + KEY_FRAME_HEADER_BYTES, b->len - KEY_FRAME_HEADER_BYTES, &a), 0);
  return a;
}

static struct key_answer ask_briefly(struct fixture *f, const struct key_request *r) {
  struct buf b;
  struct key_answer a = ask(f, r, &b);
  buf_free(&b);
  return a;
}

static uint64_t loaded(struct fixture *f) {
  struct key_answer a = ask_briefly(f, &(struct key_request){.kind = KEY_LOAD});
  if (a.code != 0) fail_msg("%s", a.error);
  return a.handle;
}

static int signed_with(struct fixture *f, uint64_t handle) {
  uint8_t text[TLS13_N];
  memset(text, ' ', 64);
  memcpy(text + 64, "TLS 1.3, server CertificateVerify", 34);
  memset(text + 98, 7, 32);
  const struct key_request r = {.kind = KEY_SIGN, .handle = handle, .scheme = {SIGN_SHA256, SIGN_NO_PADDING},
                                .text = text, .text_n = sizeof text};
  return ask_briefly(f, &r).code;
}

static int issued(struct fixture *f, const char *host) {
  struct key_request r = {.kind = KEY_ISSUE};
  (void)snprintf(r.host, sizeof r.host, "%s", host);
  return ask_briefly(f, &r).code;
}

static void certificates_are_made_for_names_directly_under_the_domain_alone(void **in) {
  static const char *const others[] = {"example.com", "r1.example.com", "a.b.r1.example.com", "*.b.r1.example.com",
                                       "*.r1.example.com", "x.r1.example.com,DNS:y.test", "x.r2.example.com", ""};
  assert_int_equal(issued(*in, "x.r1.example.com"), ERR_NOT_NOW);      /* nothing was loaded yet */
  (void)loaded(*in);
  assert_int_equal(issued(*in, "x.r1.example.com"), 0);
  for (size_t i = 0; i < ARRAY_LEN(others); i++) assert_int_equal(issued(*in, others[i]), ERR_USAGE);
}

static void a_key_signs_until_it_is_given_up(void **in) {
  struct fixture *f = *in;
  uint8_t drop[KEY_FRAME_HEADER_BYTES + KEY_REQUEST_MAX_BYTES];
  struct buf none;
  size_t n;
  uint64_t handle = loaded(f), other = loaded(f);
  buf_init(&none, KEY_ANSWER_MAX_BYTES);
  assert_int_equal(signed_with(f, handle), 0);
  assert_int_equal(key_request_write(&(struct key_request){.kind = KEY_DROP, .handle = handle}, drop, &n), 0);
  assert_int_equal(vault_answer(f->vault, drop + KEY_FRAME_HEADER_BYTES, n - KEY_FRAME_HEADER_BYTES, &none), 0);
  assert_int_equal(none.len, 0);
  assert_int_equal(signed_with(f, handle), ERR_NOT_NOW);
  assert_int_equal(signed_with(f, other), 0);
}

static void no_ticket_lasts_longer_than_tickets_do(void **in) {
  struct fixture *f = *in;
  struct key_request make = {.kind = KEY_TICKET_MAKE, .ticket = {.relay = "r1.example.com", .owner = {7},
                             .label = "aaaaaaaaaaaaaaaaaaaaaaaa", .tcp_port = 20000}};
  struct buf b;
  assert_int_equal(ask_briefly(f, &make).code, ERR_NOT_NOW);           /* there are no keys yet */
  assert_int_equal(ask_briefly(f, &(struct key_request){.kind = KEY_TICKETS}).code, 0);
  for (int century = 0; century < 2; century++) {
    int64_t before_s = time(NULL), short_s = before_s + 60;
    make.ticket.expires_s = century == 0 ? short_s : short_s + 36525LL * 24 * 3600;
    struct key_answer ticket = ask(f, &make, &b);
    assert_int_equal(ticket.code, 0);
    struct key_answer read = ask_briefly(f, &(struct key_request){.kind = KEY_TICKET_READ, .text = ticket.bytes,
                                                                  .text_n = ticket.n});
    buf_free(&b);
    assert_int_equal(read.code, 0);
    assert_int_equal(read.ticket.tcp_port, 20000);
    if (century == 0) assert_int_equal(read.ticket.expires_s, short_s);
    else assert_in_range(read.ticket.expires_s, before_s + TICKET_LIFE_S, time(NULL) + TICKET_LIFE_S);
  }
}

static void *read_tickets(void *arg) {
  struct fixture *f = arg;
  assert_int_equal(ask_briefly(f, &(struct key_request){.kind = KEY_TICKETS}).code, 0);
  return NULL;
}

static void handshakes_are_signed_while_the_folder_is_waited_for(void **in) {
  struct fixture *f = *in;
  char path[96];
  struct inotify_event event;
  pthread_t thread;
  uint64_t handle = loaded(f);
  (void)snprintf(path, sizeof path, "%s/lock", f->dir);
  int lock = open(path, O_RDWR | O_CLOEXEC), watch = inotify_init1(IN_CLOEXEC);
  assert_true(lock >= 0 && watch >= 0 && inotify_add_watch(watch, path, IN_OPEN) >= 0);
  assert_int_equal(flock(lock, LOCK_EX), 0);
  assert_int_equal(pthread_create(&thread, NULL, read_tickets, f), 0);
  assert_int_equal(read(watch, &event, sizeof event), sizeof event);   /* it is there */
  assert_int_equal(signed_with(f, handle), 0);
  assert_int_equal(issued(f, "x.r1.example.com"), 0);
  close(lock);
  pthread_join(thread, NULL);
  close(watch);
}

int main(void) {
  const struct CMUnitTest tests[] = {
#define WITH_VAULT(name) cmocka_unit_test_setup_teardown(name, make_vault, remove_vault)
      WITH_VAULT(certificates_are_made_for_names_directly_under_the_domain_alone),
      WITH_VAULT(a_key_signs_until_it_is_given_up),
      WITH_VAULT(no_ticket_lasts_longer_than_tickets_do),
      WITH_VAULT(handshakes_are_signed_while_the_folder_is_waited_for),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
