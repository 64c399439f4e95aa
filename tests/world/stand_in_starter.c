/* What takes the place of src/relay/starter.c in the world, where nobody can fork: the starter is a process all the
   same, which outlives its relay and ends what was started unless it was let go. */
#include "stand_in_starter.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/limits.h"
#include "cast.h"
#include "kernel.h"
#include "relay/starter.h"

struct birth {
  struct list of_all;
  struct process *relay, *starter;
  struct process *child;           /* NULL: none, or none any more */
  bool let_go;
};
static struct list births = {&births, &births};

static struct birth *birth_of(const struct process *relay) {
  LIST_FOREACH(&births, it) {
    struct birth *b = CONTAINER_OF(it, struct birth, of_all);
    if (b->relay == relay) return b;
  }
  return NULL;
}

/* One that is about to end by itself may do so. */
static int end_child(struct birth *b) {
  struct process *child = b->child;
  uint64_t until_ns = world_now_ns() + STARTER_GRACE_MS * WORLD_NS_PER_MS;
  b->child = NULL;
  if (child == NULL) return 0;
  while (!child->exited && task_park(&child->ended, until_ns)) continue;
  if (!child->exited) process_kill(child);
  return child->status;
}

static int starter_main(void *arg) {
  struct birth *b = arg;
  (void)process_wait(b->relay);
  if (!b->let_go) (void)end_child(b);
  return EXIT_SUCCESS;
}

int starter_begin(struct starter *s, int not_its, struct err *e) {
  (void)not_its;
  s->fd = eventfd(0, EFD_CLOEXEC);
  if (s->fd < 0) return err_set_errno(e, "the relay's starter");
  struct birth *b = world_alloc(sizeof *b);
  b->relay = process_current();
  b->starter = process_start(b->relay->host, "starter", starter_main, b);
  list_push_tail(&births, &b->of_all);
  return 0;
}

/* An upgrade is asked for by a signal only. */
int starter_start(struct starter *s, int carrier, int asked, struct err *e) {
  struct birth *b = birth_of(process_current());
  if (s->fd < 0 || b == NULL) return err_set(e, ERR_IO, "the relay's starter is not there");
  if (asked >= 0) world_fail("a request at the upgrade door is not simulated");
  b->child = process_start(b->relay->host, "relay", cast_relay, NULL);
  int fd = files_install(b->child->files, file_ref(file_of(carrier)), STDERR_FILENO + 1);
  if (fd < 0) world_fail("a new process has no room for a descriptor");
  b->child->variable = STARTER_VARIABLE;
  (void)snprintf(b->child->value, sizeof b->child->value, "%d", fd);
  return 0;
}

void starter_kill(struct starter *s, char how[STARTER_HOW_CAP]) {
  struct birth *b = birth_of(process_current());
  int status = b == NULL ? 0 : end_child(b);
  (void)s;
  how[0] = '\0';
  if (WIFEXITED(status)) (void)snprintf(how, STARTER_HOW_CAP, "it ended with status %d", WEXITSTATUS(status));
}

void starter_let_go(struct starter *s) {
  birth_of(process_current())->let_go = true;
  starter_end(s);
}

void starter_end(struct starter *s) {
  if (s->fd >= 0) (void)close(s->fd);
  s->fd = -1;
}

struct process *starter_child(const struct process *relay) {
  const struct birth *b = birth_of(relay);
  return b == NULL || b->relay->exited ? NULL : b->child;
}

struct process *starter_heir(const struct process *relay) {
  const struct birth *b = birth_of(relay);
  if (b == NULL) return NULL;
  (void)process_wait(b->starter);
  return b->child != NULL && !b->child->exited ? b->child : NULL;
}
