/* What pools lend. */
#include "cm.h"

#include "pump/pool.h"

static struct loop *loop;

static int set_up(void **state) {
  struct err e;
  (void)state;
  loop = loop_new(&e);
  return loop == NULL;
}

static int tear_down(void **state) {
  (void)state;
  loop_free(loop);
  return 0;
}

static struct pump_pool *pool_new(void) {
  struct err e;
  struct pump_pool *pool = pump_pool_new(loop, PUMP_SPLICE, &e);
  assert_non_null(pool);
  return pool;
}

static unsigned take_all(struct pump_pool *pool, struct pipe_pair *taken[PIPES_MAX + 1]) {
  unsigned n = 0;
  while (n <= PIPES_MAX && (taken[n] = pool_pipe_take(pool)) != NULL) n++;
  return n;
}

static void give_back(struct pump_pool *pool, struct pipe_pair *taken[], unsigned n) {
  while (n > 0) pool_pipe_return(pool, taken[--n]);
}

static void the_pools_of_a_process_share_its_pipes(void **state) {
  (void)state;
  struct pipe_pair *pipes[2][PIPES_MAX + 1];
  struct pump_pool *a = pool_new();
  assert_int_equal(take_all(a, pipes[0]), PIPES_MAX);
  struct pump_pool *b = pool_new();
  give_back(a, pipes[0], PIPES_MAX);
  assert_int_equal(a->pipes_made, PIPES_MAX / 2);                /* more than its share are not kept */
  assert_int_equal(take_all(a, pipes[0]), PIPES_MAX / 2);
  assert_int_equal(take_all(b, pipes[1]), PIPES_MAX / 2);
  give_back(a, pipes[0], PIPES_MAX / 2);
  give_back(b, pipes[1], PIPES_MAX / 2);
  pump_pool_free(b);
  assert_int_equal(take_all(a, pipes[0]), PIPES_MAX);            /* its share is what others leave */
  give_back(a, pipes[0], PIPES_MAX);
  pump_pool_free(a);
}

static void each_of_many_pools_has_one_pipe(void **state) {
  (void)state;
  struct pipe_pair *pipes[PIPES_MAX + 1];
  struct pump_pool *pools[PIPES_MAX + 1];
  for (size_t i = 0; i < ARRAY_LEN(pools); i++) pools[i] = pool_new();
  assert_int_equal(take_all(pools[0], pipes), 1);
  give_back(pools[0], pipes, 1);
  for (size_t i = 0; i < ARRAY_LEN(pools); i++) pump_pool_free(pools[i]);
}

static void what_is_lent_and_what_is_kept_is_counted_each_by_itself(void **state) {
  (void)state;
  struct pipe_pair *pipes[3];
  struct pump_pool *pool = pool_new();
  const struct pump_stats *s = pump_pool_stats(pool);
  for (size_t i = 0; i < ARRAY_LEN(pipes); i++) pipes[i] = pool_pipe_take(pool);
  struct buffer *full = pool_buffer_take(pool), *fitting = pool_buffer_take_fitting(pool, 100);
  assert_int_equal(s->pipes, 3);
  assert_int_equal(s->pipes_pooled, 0);
  assert_int_equal(s->buffers, 2);
  assert_int_equal(s->buffers_pooled, 0);
  pool_pipe_return(pool, pipes[0]);
  pool_pipe_return(pool, pipes[1]);
  pool_pipe_discard(pool, pipes[2]);
  pool_buffer_return(pool, full);
  pool_buffer_return(pool, fitting);           /* of no use to the next */
  assert_int_equal(s->pipes, 0);
  assert_int_equal(s->pipes_pooled, 2);
  assert_int_equal(s->buffers, 0);
  assert_int_equal(s->buffers_pooled, 1);
  pipes[0] = pool_pipe_take(pool);
  full = pool_buffer_take(pool);
  assert_int_equal(s->pipes + s->pipes_pooled, 2);
  assert_int_equal(s->buffers, 1);
  assert_int_equal(s->buffers_pooled, 0);
  pool_pipe_return(pool, pipes[0]);
  pool_buffer_return(pool, full);
  pump_pool_free(pool);
}

static void buffers_that_nobody_wants_for_a_while_are_freed(void **state) {
  (void)state;
  enum { N = 8 };
  struct buffer *b[N];
  struct pump_pool *pool = pool_new();
  const struct pump_stats *s = pump_pool_stats(pool);
  for (int i = 0; i < N; i++) b[i] = pool_buffer_take(pool);
  for (int i = 0; i < N; i++) pool_buffer_return(pool, b[i]);
  pool_buffers_trim(pool);
  assert_int_equal(s->buffers_pooled, N);      /* were wanted a moment ago */
  for (int i = 0; i < 3; i++) b[i] = pool_buffer_take(pool);
  for (int i = 0; i < 3; i++) pool_buffer_return(pool, b[i]);
  pool_buffers_trim(pool);
  assert_int_equal(s->buffers_pooled, 3);
  pool_buffers_trim(pool);
  assert_int_equal(s->buffers_pooled, 0);
  pool_buffers_trim(pool);
  pump_pool_free(pool);
}

static void where_descriptors_are_few_there_are_fewer_pipes(void **state) {
  (void)state;
  struct pipe_pair *pipes[PIPES_MAX + 1];
  struct pump_pool *pool = pool_new();
  pump_pool_limit(pool, 3, 1);
  assert_int_equal(take_all(pool, pipes), 3);
  give_back(pool, pipes, 3);
  pump_pool_free(pool);
  pool = pool_new();
  pump_pool_limit(pool, 0, 0);
  assert_null(pool_pipe_take(pool));           /* then streams copy */
  pump_pool_free(pool);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(the_pools_of_a_process_share_its_pipes), TEST(what_is_lent_and_what_is_kept_is_counted_each_by_itself),
      TEST(each_of_many_pools_has_one_pipe), TEST(buffers_that_nobody_wants_for_a_while_are_freed),
      TEST(where_descriptors_are_few_there_are_fewer_pipes)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
