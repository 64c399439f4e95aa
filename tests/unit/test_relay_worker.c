/* What other threads may ask of a worker. */
#include "cm.h"

#include <pthread.h>
#include <string.h>

#include "loop/loop.h"
#include "relay/registry.h"
#include "relay/worker.h"

static struct relay relay;
static struct relay_options options;
static struct worker worker;

static int set_up(void **state) {
  struct err e = {0};
  (void)state;
  memset(&relay, 0, sizeof relay);
  relay.options = &options;
  relay.workers_n = 1;
  if (registry_new(&relay, &relay.registry) != 0) return -1;
  return worker_open(&worker, &relay, &e);
}

static int tear_down(void **state) {
  (void)state;
  worker_free(&worker);
  registry_free(relay.registry);
  return 0;
}

static void orders_run_in_their_own_order_and_once(void **state) {
  (void)state;
  worker_order(&worker, ORDER_GOODBYE);
  worker_order(&worker, ORDER_CLOSE_DOORS);
  worker_order(&worker, ORDER_CLOSE_DOORS);
  assert_true(worker.accepting);
  worker_settle(&worker);
  assert_false(worker.accepting);
  assert_int_equal(worker.orders, 0);
  worker.accepting = true;
  worker_settle(&worker);
  assert_true(worker.accepting);   /* it was one message */
  worker_order(&worker, ORDER_CLOSE_DOORS);
  worker_settle(&worker);
  assert_false(worker.accepting);  /* and can be given again */
}

static void *give_many(void *unused) {
  (void)unused;
  for (int i = 0; i < 1000; i++) worker_order(&worker, ORDER_END_OWNERS);
  worker_order(&worker, ORDER_CLOSE_DOORS);
  return NULL;
}

static void orders_of_several_threads_are_all_run(void **state) {
  (void)state;
  pthread_t threads[3];
  struct err e = {0};
  assert_int_equal(worker_run(&worker, &e), 0);
  for (size_t i = 0; i < 3; i++) assert_int_equal(pthread_create(&threads[i], NULL, give_many, NULL), 0);
  for (size_t i = 0; i < 3; i++) pthread_join(threads[i], NULL);
  worker_order(&worker, ORDER_STOP);
  worker_wait(&worker);
  worker_settle(&worker);
  assert_false(worker.accepting);
  assert_int_equal(worker.orders, 0);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(orders_run_in_their_own_order_and_once, set_up, tear_down),
      cmocka_unit_test_setup_teardown(orders_of_several_threads_are_all_run, set_up, tear_down)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
