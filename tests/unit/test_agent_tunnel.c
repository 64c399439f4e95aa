/* A tunnel without a link: what it does with what a relay says, and with its keep file. */
#include "cm.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/stream.h"
#include "agent/ticket_file.h"
#include "agent/tunnel.h"

enum { TICKET_BYTES = 100 };

static struct adit_client client;
static struct adit_tunnel *tunnel;
static char folder[64], path[80], old_path[88];

static void nobody_asks(struct adit_client *c) { (void)c; }

static int set_up(void **state) {
  static const struct tunnel_handlers handlers = {.open = nobody_asks, .gone = nobody_asks};
  (void)state;
  struct err e = {0};
  strcpy(folder, "/tmp/adit-tunnel-XXXXXX");
  if (mkdtemp(folder) == NULL) return -1;
  (void)snprintf(path, sizeof path, "%s/keep", folder);
  (void)snprintf(old_path, sizeof old_path, "%s.old", path);
  client = (struct adit_client){.magic = CLIENT_MAGIC, .home = "r1.example.com", .on_tunnel = &handlers};
  pthread_mutex_init(&client.lock, NULL);
  pthread_cond_init(&client.changed, NULL);
  list_init(&client.handles);
  list_init(&client.tunnels);
  client.loop = loop_new(&e);
  struct tunnel_request request = {.app = {.tcp = {.host = "127.0.0.1", .port = 1}}, .keep_file = strdup(path)};
  if (events_init(&client.events, &e) != 0 || tunnel_new(&client, &request, &tunnel, &e) != 0) return -1;
  list_push_tail(&client.tunnels, &tunnel->node);
  return 0;
}

static int tear_down(void **state) {
  (void)state;
  tunnel_free(tunnel);
  events_free(&client.events);
  loop_free(client.loop);
  pthread_cond_destroy(&client.changed);
  pthread_mutex_destroy(&client.lock);
  unlink(path);
  unlink(old_path);
  return rmdir(folder);
}

/* The relay gives it the address and the ticket of this number. */
static void bound_to(uint8_t number) {
  uint8_t ticket[TICKET_BYTES];
  struct frame_bound f = {.port = 443, .ticket = ticket, .ticket_n = sizeof ticket};
  memset(ticket, number, sizeof ticket);
  (void)snprintf(f.host, sizeof f.host, "%024d.r1.example.com", number);
  tunnel->state = TUNNEL_BINDING;
  tunnel_bound(tunnel, &f);
}

static void until_kept(void) {
  while (keep_is_writing(&tunnel->keep)) (void)loop_turn(client.loop, -1);
}

static int ticket_in(const char *file) {
  struct ticket_file f;
  bool found;
  return ticket_file_read(file, &f, &found, NULL) == 0 && found ? f.ticket[0] : -1;
}

static void a_refused_ticket_stays_beside_that_of_the_new_address(void **state) {
  (void)state;
  bound_to(1);
  until_kept();
  tunnel_unbound(tunnel, REFUSE_TICKET, "");
  bound_to(2);
  until_kept();
  assert_int_equal(ticket_in(path), 2);
  assert_int_equal(ticket_in(old_path), 1);
  bound_to(2);
  until_kept();
  assert_int_equal(ticket_in(old_path), 1);
  assert_false(tunnel->keep.set_aside);
}

static void so_does_one_that_was_still_being_written(void **state) {
  (void)state;
  bound_to(1);
  assert_true(keep_is_writing(&tunnel->keep));
  tunnel_unbound(tunnel, REFUSE_TICKET, "");
  bound_to(2);
  until_kept();
  assert_int_equal(ticket_in(path), 2);
  assert_int_equal(ticket_in(old_path), 1);
}

/* As on a disk that hangs: of the write's end nothing is heard, since the loop does not turn. */
static void one_that_fails_while_it_finishes_waits_for_no_disk(void **state) {
  (void)state;
  tunnel->keep.file = "/proc/none/keep";         /* where nothing stays behind */
  bound_to(1);
  tunnel_finish_begin(tunnel);
  assert_int_not_equal(tunnel->finish, FINISH_DONE);
  assert_true(keep_is_writing(&tunnel->keep));
  tunnel_fail(tunnel, ADIT_EAUTH, "token_revoked", "the token was revoked");
  assert_int_equal(tunnel->finish, FINISH_DONE);
}

static void who_is_denied_is_not_served_also_where_the_relay_lets_them_in(void **state) {
  (void)state;
  struct open_message open = {.kind = STREAM_TLS13};
  assert_int_equal(addr_parse("192.0.2.7:1", &open.visitor, NULL), 0);
  assert_true(stream_is_wanted(tunnel, &open));
  assert_int_equal(cidr_parse("192.0.2.0/24", &tunnel->request.deny[tunnel->request.deny_n++], NULL), 0);
  assert_false(stream_is_wanted(tunnel, &open));
  assert_int_equal(addr_parse("192.0.3.7:1", &open.visitor, NULL), 0);
  assert_true(stream_is_wanted(tunnel, &open));
  open.kind = STREAM_RAW_SEALED;
  assert_false(stream_is_wanted(tunnel, &open));
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(a_refused_ticket_stays_beside_that_of_the_new_address, set_up, tear_down),
      cmocka_unit_test_setup_teardown(so_does_one_that_was_still_being_written, set_up, tear_down),
      cmocka_unit_test_setup_teardown(one_that_fails_while_it_finishes_waits_for_no_disk, set_up, tear_down),
      cmocka_unit_test_setup_teardown(who_is_denied_is_not_served_also_where_the_relay_lets_them_in, set_up,
                                      tear_down)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
