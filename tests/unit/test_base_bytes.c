/* Buffers, cursors, the map, secrets and error texts. */
#include "cm.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/cursor.h"
#include "base/err.h"
#include "base/list.h"
#include "base/map.h"
#include "base/secret.h"

static void buf_keeps_order_while_it_grows_and_is_consumed(void **state) {
  (void)state;
  struct buf b;
  buf_init(&b, 5000);
  uint8_t next_in = 0, next_out = 0;
  for (int round = 0; round < 200; round++) {
    for (int i = 0; i < 40; i++, next_in++) assert_int_equal(buf_append(&b, &next_in, 1), 0);
    for (int i = 0; i < 20; i++, next_out++) {
      assert_int_equal(*buf_data(&b), next_out);
      buf_consume(&b, 1);
    }
  }
  assert_int_equal(b.len, 200 * 20);
  assert_true(b.cap <= 5000);
  buf_free(&b);
  assert_int_equal(buf_append(&b, "x", 1), 0);
  buf_free(&b);
}

static void buf_refuses_more_than_its_maximum_and_appends_nothing(void **state) {
  (void)state;
  struct buf b;
  buf_init(&b, 300);
  uint8_t bytes[301] = {0};
  assert_int_equal(buf_append(&b, bytes, 301), ERR_LIMIT);
  assert_int_equal(b.len, 0);
  assert_int_equal(buf_append(&b, bytes, 300), 0);
  assert_int_equal(buf_append(&b, bytes, 1), ERR_LIMIT);
  assert_int_equal(buf_append(&b, bytes, SIZE_MAX), ERR_LIMIT);
  assert_null(buf_reserve(&b, 1));
  buf_consume(&b, 10);
  uint8_t *room = buf_reserve(&b, 10);
  assert_non_null(room);
  memset(room, 1, 10);
  buf_added(&b, 10);
  assert_int_equal(b.len, 300);
  buf_free(&b);
}

static void reader_reads_what_writer_wrote(void **state) {
  (void)state;
  uint8_t bytes[64];
  struct writer w = writer_of(bytes, sizeof bytes);
  write_u8(&w, 0x12);
  write_u16(&w, 0x3456);
  write_u32(&w, 0xdef01234);
  write_u64(&w, 0x56789abcdef01234);
  write_text8(&w, "text");
  size_t mark = write_open_vec(&w, 2);
  write_vec16(&w, "ab", 2);
  write_close_vec(&w, mark, 2);
  assert_false(w.bad);

  struct reader r = reader_of(bytes, w.len);
  char text[5];
  assert_int_equal(read_u8(&r), 0x12);
  assert_int_equal(read_u16(&r), 0x3456);
  assert_int_equal(read_u32(&r), 0xdef01234);
  assert_true(read_u64(&r) == 0x56789abcdef01234);
  read_text8(&r, text, sizeof text);
  assert_string_equal(text, "text");
  struct reader outer = read_vec16(&r), inner = read_vec16(&outer);
  assert_memory_equal(read_bytes(&inner, 2), "ab", 2);
  assert_true(reader_done(&inner) && reader_done(&outer) && reader_done(&r));
}

static void reader_past_the_end_yields_zeros_and_stays_bad(void **state) {
  (void)state;
  const uint8_t bytes[3] = {1, 2, 3};
  uint8_t copy[4] = {9, 9, 9, 9};
  struct reader r = reader_of(bytes, 3);
  assert_int_equal(read_u32(&r), 0);
  assert_true(r.bad);
  assert_int_equal(read_u8(&r), 0);
  read_copy(&r, copy, sizeof copy);
  assert_memory_equal(copy, "\0\0\0\0", 4);
  assert_null(read_bytes(&r, 0));
  assert_false(reader_done(&r));
}

static void a_vector_longer_than_its_input_is_bad(void **state) {
  (void)state;
  const uint8_t bytes[] = {0, 3, 1, 2};
  struct reader r = reader_of(bytes, sizeof bytes);
  struct reader v = read_vec16(&r);
  assert_true(v.bad && r.bad);
  assert_int_equal(v.left, 0);
}

static void read_text8_refuses_nul_and_too_long_a_text(void **state) {
  (void)state;
  const uint8_t with_nul[] = {3, 'a', 0, 'b'}, longer[] = {4, 'a', 'b', 'c', 'd'}, empty[] = {0};
  char text[4] = "xyz";
  struct reader r = reader_of(with_nul, sizeof with_nul);
  read_text8(&r, text, sizeof text);
  assert_true(r.bad);
  assert_string_equal(text, "");
  r = reader_of(longer, sizeof longer);
  read_text8(&r, text, sizeof text);
  assert_true(r.bad);
  r = reader_of(empty, sizeof empty);
  read_text8(&r, text, sizeof text);
  assert_true(reader_done(&r));
}

static void reading_nothing_from_nothing_is_no_failure(void **state) {
  (void)state;
  struct reader r = reader_of(NULL, 0);
  assert_non_null(read_bytes(&r, 0));
  assert_true(reader_done(&r));
}

static void writer_past_the_end_writes_nothing_and_stays_bad(void **state) {
  (void)state;
  uint8_t bytes[4] = {9, 9, 9, 9};
  struct writer w = writer_of(bytes, 3);
  write_u16(&w, 1);
  write_u16(&w, 2);
  assert_true(w.bad);
  assert_int_equal(bytes[2], 9);
  write_u8(&w, 3);
  assert_int_equal(bytes[2], 9);
  assert_int_equal(w.len, 2);
}

static void a_vector_too_long_for_its_length_is_bad(void **state) {
  (void)state;
  static uint8_t bytes[400], zero[256];
  struct writer w = writer_of(bytes, sizeof bytes);
  write_vec8(&w, zero, 255);
  assert_false(w.bad);
  w = writer_of(bytes, sizeof bytes);
  write_vec8(&w, zero, 256);
  assert_true(w.bad);
}

static void map_agrees_with_a_plain_array(void **state) {
  (void)state;
  enum { KEYS = 2000 };
  static char here[KEYS];
  static int values[KEYS];
  struct map *m = map_new(sizeof(uint32_t));
  assert_non_null(m);
  uint32_t random = 1;
  size_t count = 0;
  for (int step = 0; step < 50000; step++) {
    random = random * 1664525 + 1013904223;
    uint32_t key = (random >> 8) % KEYS;
    if (random >> 31 != 0) {
      assert_ptr_equal(map_remove(m, &key), here[key] ? &values[key] : NULL);
      count -= here[key] ? 1 : 0;
      here[key] = 0;
    } else {
      assert_int_equal(map_put(m, &key, &values[key]), 0);
      count += here[key] ? 0 : 1;
      here[key] = 1;
    }
    assert_int_equal(map_count(m), count);
  }
  for (uint32_t key = 0; key < KEYS; key++) assert_ptr_equal(map_get(m, &key), here[key] ? &values[key] : NULL);
  size_t at = 0, seen = 0;
  const void *key;
  void *value;
  while (map_next(m, &at, &key, &value)) {
    uint32_t k;
    memcpy(&k, key, sizeof k);
    assert_ptr_equal(value, &values[k]);
    seen++;
  }
  assert_int_equal(seen, count);
  map_free(m);
}

static void map_put_replaces(void **state) {
  (void)state;
  int a, b;
  struct map *m = map_new(9);
  assert_null(map_get(m, "123456789"));
  assert_null(map_remove(m, "123456789"));
  assert_int_equal(map_put(m, "123456789", &a), 0);
  assert_int_equal(map_put(m, "123456789", &b), 0);
  assert_int_equal(map_count(m), 1);
  assert_ptr_equal(map_get(m, "123456789"), &b);
  assert_null(map_get(m, "123456780"));
  map_free(m);
  map_free(NULL);
}

static void secrets_come_zeroed_and_do_not_overlap(void **state) {
  (void)state;
  enum { COUNT = 300 };
  static uint8_t *cells[COUNT];
  static const uint8_t zero[4096];
  for (size_t i = 0; i < COUNT; i++) {
    size_t n = 1 + i * 13 % 4096;
    cells[i] = secret_alloc(n);
    assert_non_null(cells[i]);
    assert_memory_equal(cells[i], zero, n);
    memset(cells[i], (int)i, n);
  }
  for (size_t i = 0; i < COUNT; i++) {
    size_t n = 1 + i * 13 % 4096;
    assert_int_equal(cells[i][0], (uint8_t)i);
    assert_int_equal(cells[i][n - 1], (uint8_t)i);
    secret_free(cells[i], n);
  }
  uint8_t *again = secret_alloc(4096);
  assert_memory_equal(again, zero, 4096);
  secret_free(again, 4096);
  secret_free(NULL, 10);
  assert_null(secret_alloc(4097));
}

static void secrets_live_in_pages_that_a_dump_leaves_out(void **state) {
  (void)state;
  void *secret = secret_alloc(64);
  FILE *f = fopen("/proc/self/smaps", "r");
  char line[512];
  bool inside = false, found = false;
  assert_non_null(f);
  while (fgets(line, sizeof line, f) != NULL) {
    unsigned long from, to;
    if (sscanf(line, "%lx-%lx ", &from, &to) == 2) inside = (uintptr_t)secret >= from && (uintptr_t)secret < to;
    if (inside && strncmp(line, "VmFlags:", 8) == 0) found = strstr(line, " dd") != NULL;
  }
  fclose(f);
  assert_true(found);
  secret_free(secret, 64);
}

static void secrets_go_on_working_in_a_forked_child(void **state) {
  (void)state;
  uint8_t *secret = secret_alloc(64);
  secret[0] = 7;
  pid_t child = fork();
  if (child == 0) {
    uint8_t *other = secret_alloc(64);
    bool ok = secret[0] == 7 && other != NULL && other != secret && other[0] == 0;
    secret_free(secret, 64);
    secret_free(other, 64);
    _exit(ok ? 0 : 1);
  }
  int status;
  assert_int_equal(waitpid(child, &status, 0), child);
  assert_int_equal(status, 0);
  assert_int_equal(secret[0], 7);
  secret_free(secret, 64);
}

static void *churn_secrets(void *arg) {
  uint8_t mark = *(uint8_t *)arg;
  for (int i = 0; i < 2000; i++) {
    uint8_t *p = secret_alloc(48);
    if (p == NULL || p[0] != 0) return arg;
    memset(p, mark, 48);
    if (p[47] != mark) return arg;
    secret_free(p, 48);
  }
  return NULL;
}

static void secrets_are_safe_from_several_threads(void **state) {
  (void)state;
  pthread_t threads[4];
  uint8_t marks[4] = {1, 2, 3, 4};
  for (size_t i = 0; i < 4; i++) assert_int_equal(pthread_create(&threads[i], NULL, churn_secrets, &marks[i]), 0);
  for (size_t i = 0; i < 4; i++) {
    void *failed;
    pthread_join(threads[i], &failed);
    assert_null(failed);
  }
}

static void equal_ct_compares_every_byte(void **state) {
  (void)state;
  uint8_t a[16] = {0}, b[16] = {0};
  for (size_t i = 0; i < 16; i++) {
    b[i] = 0x80;
    assert_false(equal_ct(a, b, 16));
    assert_true(equal_ct(a, b, i));
    b[i] = 0;
  }
  assert_true(equal_ct(a, b, 16));
  memset(a, 1, 16);
  wipe(a, 16);
  assert_true(equal_ct(a, b, 16));
}

static void error_texts_are_set_prefixed_and_cut(void **state) {
  (void)state;
  struct err e;
  assert_int_equal(err_set(&e, ERR_LIMIT, "port %d", 80), ERR_LIMIT);
  assert_string_equal(e.text, "port 80");
  assert_int_equal(err_prefix(&e, "forward"), ERR_LIMIT);
  assert_string_equal(e.text, "forward: port 80");
  errno = ENOENT;
  assert_int_equal(err_set_errno(&e, "open %s", "x"), ERR_IO);
  assert_string_equal(e.text, "open x: No such file or directory");
  assert_int_equal(errno, ENOENT);
  assert_int_equal(err_set(NULL, ERR_AUTH, "nobody reads this"), ERR_AUTH);
  assert_int_equal(err_set_errno(NULL, "nobody reads this"), ERR_IO);

  char longer[2 * ERR_TEXT_MAX];
  memset(longer, 'a', sizeof longer - 1);
  longer[sizeof longer - 1] = 0;
  assert_int_equal(err_set(&e, ERR_IO, "%s", longer), ERR_IO);
  assert_int_equal(strlen(e.text), ERR_TEXT_MAX - 1);
  assert_int_equal(err_prefix(&e, "%s", longer), ERR_IO);
  assert_int_equal(strlen(e.text), ERR_TEXT_MAX - 1);
}

static void every_error_has_a_name(void **state) {
  (void)state;
  assert_string_equal(err_name(ERR_NOMEM), "nomem");
  assert_string_equal(err_name(ERR_NOT_NOW), "not_now");
  assert_string_equal(err_name(ERR_UNSUPPORTED), "unsupported");
  assert_string_equal(err_name(ERR_UNSUPPORTED - 1), "unknown");
  assert_string_equal(err_name(1), "unknown");
}

static void a_list_removes_while_it_is_walked(void **state) {
  (void)state;
  struct list head, nodes[3];
  list_init(&head);
  for (size_t i = 0; i < 3; i++) list_push_tail(&head, &nodes[i]);
  size_t seen = 0;
  LIST_FOREACH(&head, it) {
    assert_ptr_equal(it, &nodes[seen++]);
    list_remove(it);
  }
  assert_int_equal(seen, 3);
  assert_true(list_empty(&head) && list_empty(&nodes[0]));
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(buf_keeps_order_while_it_grows_and_is_consumed),
      cmocka_unit_test(buf_refuses_more_than_its_maximum_and_appends_nothing),
      cmocka_unit_test(reader_reads_what_writer_wrote),
      cmocka_unit_test(reader_past_the_end_yields_zeros_and_stays_bad),
      cmocka_unit_test(a_vector_longer_than_its_input_is_bad),
      cmocka_unit_test(read_text8_refuses_nul_and_too_long_a_text),
      cmocka_unit_test(reading_nothing_from_nothing_is_no_failure),
      cmocka_unit_test(writer_past_the_end_writes_nothing_and_stays_bad),
      cmocka_unit_test(a_vector_too_long_for_its_length_is_bad),
      cmocka_unit_test(map_agrees_with_a_plain_array),
      cmocka_unit_test(map_put_replaces),
      cmocka_unit_test(secrets_come_zeroed_and_do_not_overlap),
      cmocka_unit_test(secrets_live_in_pages_that_a_dump_leaves_out),
      cmocka_unit_test(secrets_go_on_working_in_a_forked_child),
      cmocka_unit_test(secrets_are_safe_from_several_threads),
      cmocka_unit_test(equal_ct_compares_every_byte),
      cmocka_unit_test(error_texts_are_set_prefixed_and_cut),
      cmocka_unit_test(every_error_has_a_name),
      cmocka_unit_test(a_list_removes_while_it_is_walked)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
