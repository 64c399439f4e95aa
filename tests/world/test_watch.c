/* What watch.c sees: each rule that is broken ends the run. */
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../unit/cm.h"
#include "crypto/crypto.h"
#include "watch.h"
#include "wire/data.h"
#include "world.h"

static const uint8_t keys[2][32] = {{1}, {2}}, nonces[2][12] = {{1}, {2}};

static int seal(const uint8_t *key, const uint8_t *nonce) {
  uint8_t out[4], tag[AEAD_TAG_BYTES];
  struct aead *a = aead_new(AEAD_AES_256_GCM, key, true);
  int rc = a == NULL ? -1 : aead_seal(a, nonce, NULL, 0, (const uint8_t *)"text", sizeof out, out, tag);
  aead_free(a);
  return rc;
}

static int keep_the_rules(void *arg) {
  (void)arg;
  watch_opened(1);
  watch_opened(2);
  return seal(keys[0], nonces[0]) | seal(keys[0], nonces[1]) | seal(keys[1], nonces[0]);
}

static int seal_twice(void *arg) {
  (void)arg;
  return seal(keys[0], nonces[0]) | seal(keys[1], nonces[0]) | seal(keys[0], nonces[0]);
}

static int open_twice(void *arg) {
  (void)arg;
  for (uint64_t i = 0; i < 2000; i++) watch_opened(i);
  watch_opened(1000);
  return EXIT_SUCCESS;
}

/* Each time with another key. */
static int take_open(const char *visitor, uint8_t key) {
  struct number_keys k = {.open = {key}};
  struct open_message m = {.kind = STREAM_RAW_PLAIN}, got;
  uint8_t bytes[OPEN_MAX_BYTES];
  size_t n = 0;
  struct err e;
  if (addr_parse(visitor, &m.visitor, &e) != 0 || addr_parse("10.0.0.1:20000", &m.local, &e) != 0) return -1;
  return open_encode(&m, &k, bytes, &n) != 0 ? -1 : open_decode(bytes, n, &k, &got);
}

static int take_opens(void *arg) {
  (void)arg;
  return take_open("10.0.0.3:40000", 3) | take_open("10.0.0.3:40001", 4);
}

static int take_an_open_twice(void *arg) { return take_opens(arg) | take_open("10.0.0.3:40000", 5); }

static int tell_addresses(void *arg) {
  (void)arg;
  watch_address(0, "a.relay.test", 20000);
  watch_address(1, "b.relay.test", 20001);
  watch_address(0, "a.relay.test", 20000);
  watch_kept_address("a.relay.test", 20000);
  watch_kept_address("a.relay.test", 20000);
  return EXIT_SUCCESS;
}

static int tell_a_port_to_two(void *arg) {
  (void)tell_addresses(arg);
  watch_address(1, "c.relay.test", 20000);
  return EXIT_SUCCESS;
}

static int tell_a_name_to_two(void *arg) {
  (void)tell_addresses(arg);
  watch_address(1, "a.relay.test", 20002);
  return EXIT_SUCCESS;
}

static int keep_an_address_in_vain(void *arg) {
  (void)tell_addresses(arg);
  watch_kept_address("a.relay.test", 20003);
  return EXIT_SUCCESS;
}

/* In a process of its own, which a broken rule ends. */
static int status_of(int (*main)(void *arg)) {
  int status = -1;
  pid_t child = fork();
  if (child == 0) {
    (void)close(STDERR_FILENO);
    watch_begin();
    world_begin(&(struct world_options){.seed = 1});
    const struct process *p = process_start(host_new("host", 0x0a000001), "p", main, NULL);
    (void)world_run();
    _Exit(p->exited ? p->status : EXIT_FAILURE);
  }
  assert_int_equal(waitpid(child, &status, 0), child);
  return WEXITSTATUS(status);
}

static void rules_can_be_kept(void **state) {
  (void)state;
  assert_int_equal(status_of(keep_the_rules), EXIT_SUCCESS);
  assert_int_equal(status_of(take_opens), EXIT_SUCCESS);
  assert_int_equal(status_of(tell_addresses), EXIT_SUCCESS);
}

static void a_key_that_is_used_twice_with_one_number_is_seen(void **state) {
  (void)state;
  assert_int_equal(status_of(seal_twice), EXIT_FAILURE);
}

static void a_stream_that_is_opened_twice_is_seen(void **state) {
  (void)state;
  assert_int_equal(status_of(open_twice), EXIT_FAILURE);
  assert_int_equal(status_of(take_an_open_twice), EXIT_FAILURE);
}

static void an_address_of_two_owners_is_seen(void **state) {
  (void)state;
  assert_int_equal(status_of(tell_a_port_to_two), EXIT_FAILURE);
  assert_int_equal(status_of(tell_a_name_to_two), EXIT_FAILURE);
}

static void a_kept_address_that_changes_is_seen(void **state) {
  (void)state;
  assert_int_equal(status_of(keep_an_address_in_vain), EXIT_FAILURE);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(rules_can_be_kept),
                                     cmocka_unit_test(a_key_that_is_used_twice_with_one_number_is_seen),
                                     cmocka_unit_test(an_address_of_two_owners_is_seen),
                                     cmocka_unit_test(a_kept_address_that_changes_is_seen),
                                     cmocka_unit_test(a_stream_that_is_opened_twice_is_seen)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
