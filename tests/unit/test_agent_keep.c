/* The keep file of a tunnel, without the tunnel: one write at a time, and what is newer is not lost. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/keep.h"
#include "agent/ticket_file.h"
#include "cm.h"

enum { TICKET_BYTES = 100 };

static struct loop *loop;
static struct keep keep;
static char folder[64], path[80], old_path[88];
static unsigned told, failed, ended;
static bool asks_again;

static void on_told(struct keep *k, const struct err *e, const char *old) {
  (void)k, (void)old;
  told++;
  failed += e->code != 0;
}

static void on_ended(struct keep *k, bool again);
static const struct keep_handlers handlers = {.told = on_told, .ended = on_ended};

static void write_it(void) { keep_write(&keep, loop, "r1.example.com", "label.r1.example.com", &handlers); }

static void on_ended(struct keep *k, bool again) {
  (void)k;
  ended++;
  asks_again = again;
  if (again) write_it();
}

static int set_up(void **state) {
  (void)state;
  struct err e = {0};
  strcpy(folder, "/tmp/adit-keep-XXXXXX");
  if (mkdtemp(folder) == NULL || (loop = loop_new(&e)) == NULL) return -1;
  (void)snprintf(path, sizeof path, "%s/keep", folder);
  (void)snprintf(old_path, sizeof old_path, "%s.old", path);
  keep_init(&keep, path);
  told = failed = ended = 0;
  return 0;
}

static int tear_down(void **state) {
  (void)state;
  loop_free(loop);
  unlink(path);
  unlink(old_path);
  return rmdir(folder);
}

static void set(uint8_t number) {
  uint8_t ticket[TICKET_BYTES];
  memset(ticket, number, sizeof ticket);
  assert_true(keep_set(&keep, ticket, sizeof ticket));
}

static int ticket_in(const char *file) {
  struct ticket_file f;
  bool found;
  return ticket_file_read(file, &f, &found, NULL) == 0 && found ? f.ticket[0] : -1;
}

static void until_ended(unsigned n) {
  while (ended < n) (void)loop_turn(loop, -1);
}

static void what_is_newer_is_written_once_the_write_under_way_has_ended(void **state) {
  (void)state;
  set(1);
  write_it();
  set(2);
  write_it();
  set(3);
  write_it();
  until_ended(2);
  assert_false(asks_again);
  assert_int_equal(told, 2);
  assert_int_equal(ticket_in(path), 3);
}

static void a_read_raises_the_incarnation_on_the_disk(void **state) {
  (void)state;
  struct ticket_file f;
  struct err e = {0};
  bool found;
  assert_int_equal(keep_read(&keep, &e), 0);
  assert_int_equal(keep.ticket_n, 0);
  set(1);
  write_it();
  until_ended(1);
  assert_int_equal(keep_read(&keep, &e), 0);
  assert_int_equal(keep.incarnation, 1);
  assert_int_equal(ticket_file_read(path, &f, &found, &e), 0);
  assert_int_equal(f.incarnation, 1);
}

static void a_ticket_that_is_refused_while_it_is_written_is_set_aside_by_the_next(void **state) {
  (void)state;
  set(1);
  write_it();
  keep_forget(&keep);
  set(2);
  write_it();
  until_ended(2);
  assert_int_equal(ticket_in(path), 2);
  assert_int_equal(ticket_in(old_path), 1);
}

static void a_folder_that_has_gone_is_told_and_what_was_to_be_set_aside_still_is(void **state) {
  (void)state;
  keep_init(&keep, "/nonexistent/keep");
  keep_forget(&keep);
  set(1);
  write_it();
  until_ended(1);
  assert_int_equal(failed, 1);
  assert_true(keep.set_aside);
}

static void without_a_file_or_a_ticket_nothing_is_written(void **state) {
  (void)state;
  uint8_t ticket[TICKET_MAX_BYTES + 1] = {0};
  write_it();
  assert_false(keep_set(&keep, ticket, sizeof ticket));
  assert_false(keep_set(&keep, ticket, 0));
  keep_init(&keep, NULL);
  set(1);
  write_it();
  assert_false(keep_is_writing(&keep));
}

#define T(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
int main(void) {
  const struct CMUnitTest tests[] = {T(what_is_newer_is_written_once_the_write_under_way_has_ended),
                                     T(a_read_raises_the_incarnation_on_the_disk),
                                     T(a_ticket_that_is_refused_while_it_is_written_is_set_aside_by_the_next),
                                     T(a_folder_that_has_gone_is_told_and_what_was_to_be_set_aside_still_is),
                                     T(without_a_file_or_a_ticket_nothing_is_written)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
