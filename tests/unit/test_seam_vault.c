/* The key process when memory fails it: each allocation of a request in turn, or some of very many. It is answered each
   time, and the same request is fulfilled when there is memory again. */
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "seam_memory.h"

#include "relay/vault.h"

enum { TLS13_N = 64 + 34 + 32, SOME = 211 };      /* certificates take many thousands of allocations */
static char dir[64];
static struct vault *vault;
static struct key_request request;
static struct buf answered;        /* with room for whatever comes, as a desk has it */
static unsigned refusals;

static struct key_answer ask(const struct key_request *r) {
  uint8_t frame[KEY_FRAME_HEADER_BYTES + KEY_REQUEST_MAX_BYTES];
  size_t n;
  struct key_answer a = {.code = 0};
  buf_cut(&answered, 0);
  assert_int_equal(key_request_write(r, frame, &n), 0);
  int rc = vault_answer(vault, frame + KEY_FRAME_HEADER_BYTES, n - KEY_FRAME_HEADER_BYTES, &answered);
  armed = false;
  assert_int_equal(rc, 0);
  if (r->kind == KEY_DROP) return a;
  assert_int_equal(key_answer_read(buf_data(&answered) + KEY_FRAME_HEADER_BYTES,
                                   answered.len - KEY_FRAME_HEADER_BYTES, &a), 0);
  return a;
}

/* Of what has a handle none is kept, so that there is always room. */
static int asked(void) {
  struct key_answer a = ask(&request);
  bool kept = request.kind == KEY_LOAD || request.kind == KEY_ISSUE;
  if (a.code == 0 && kept) (void)ask(&(struct key_request){.kind = KEY_DROP, .handle = a.handle});
  return a.code;
}

static void scenario(void) {
  armed = true;
  refusals += asked() != 0;
  assert_int_equal(asked(), 0);
}

static void fails_every(unsigned step, struct key_request r) {
  request = r;
  refusals = 0;
  until_failure = UINT_MAX;
  scenario();                      /* what is made once is there */
  fail_every(step, scenario);
  assert_true(refusals > 0);
}

static int set_up(void **state) {
  (void)state;
  strcpy(dir, "/tmp/adit-test-XXXXXX");
  if (mkdtemp(dir) == NULL) return -1;
  vault = vault_new(dir, &(struct identity_source){.domain = "r1.example.com"});
  buf_init(&answered, KEY_FRAME_HEADER_BYTES + KEY_ANSWER_MAX_BYTES);
  return vault != NULL && buf_reserve(&answered, answered.max) != NULL ? 0 : -1;
}

static int tear_down(void **state) {
  char command[128];
  (void)state;
  vault_free(vault);
  buf_free(&answered);
  (void)snprintf(command, sizeof command, "rm -rf '%s'", dir);
  return system(command);
}

static void a_certificate_is_loaded(void **state) {
  (void)state;
  fails_every(SOME, (struct key_request){.kind = KEY_LOAD});
}

static void one_is_issued(void **state) {
  (void)state;
  assert_int_equal(ask(&(struct key_request){.kind = KEY_LOAD}).code, 0);
  fails_every(SOME, (struct key_request){.kind = KEY_ISSUE, .host = "x.r1.example.com"});
}

static void a_handshake_is_signed(void **state) {
  static uint8_t text[TLS13_N];
  (void)state;
  struct key_answer a = ask(&(struct key_request){.kind = KEY_LOAD});
  assert_int_equal(a.code, 0);
  memset(text, ' ', 64);
  memcpy(text + 64, "TLS 1.3, server CertificateVerify", 34);
  fails_every(1, (struct key_request){.kind = KEY_SIGN, .handle = a.handle, .scheme = {SIGN_SHA256, SIGN_NO_PADDING},
                                  .text = text, .text_n = sizeof text});
}

static void tickets_are_read_and_made(void **state) {
  (void)state;
  fails_every(1, (struct key_request){.kind = KEY_TICKETS});
  fails_every(1, (struct key_request){.kind = KEY_TICKET_MAKE, .ticket = {.relay = "r1.example.com", .owner = {7},
                                  .label = "aaaaaaaaaaaaaaaaaaaaaaaa", .tcp_port = 20000}});
}

#define T(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
int main(void) {
  if (!seam_memory_install()) return 1;
  const struct CMUnitTest tests[] = {T(a_certificate_is_loaded), T(one_is_issued), T(a_handshake_is_signed),
                                     T(tickets_are_read_and_made)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
