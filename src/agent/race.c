/* The race. The hard thing: whoever wins ends all others in the same event. */
#include "agent/race.h"

#include <stdlib.h>
#include <strings.h>

#include "agent/candidate.h"

struct race {
  struct adit_client *client;
  const struct race_handlers *handlers;
  struct err err;                  /* of the last that failed */
  bool certificate_failed;         /* some relay was reached that is not who it should be: the better thing to tell */
  size_t n, running;
  struct candidate *candidates[];
};

void race_stop(struct race *r) {
  if (r == NULL) return;
  for (size_t i = 0; i < r->n; i++) candidate_free(r->candidates[i]);
  free(r);
}

static void race_ended(void *user, struct candidate *k, const struct err *e) {
  struct race *r = user;
  struct adit_client *c = r->client;
  const struct race_handlers *handlers = r->handlers;
  if (e == NULL) {
    struct tls_conn *tls;
    struct reached reached;
    struct relay_choice *choice = candidate_choice(k);
    candidate_take(k, &reached, &tls);
    race_stop(r);
    handlers->won(c, choice, &reached, tls);
    return;
  }
  for (size_t i = 0; i < r->n; i++)
    if (r->candidates[i] == k) r->candidates[i] = NULL;
  candidate_choice(k)->tried = true;
  if (!r->certificate_failed) r->err = *e;
  if (e->code == ERR_AUTH) r->certificate_failed = true;
  candidate_free(k);
  if (--r->running > 0) return;
  struct err last = r->err;
  race_stop(r);
  handlers->lost(c, &last);
}

static bool race_eligible(const struct adit_client *c, const struct relay_choice *choice) {
  return !choice->refused && !choice->tried && (c->home[0] == '\0' || strcasecmp(choice->name, c->home) == 0);
}

struct race *race_start(struct adit_client *c, const struct race_handlers *handlers) {
  struct race *r = calloc(1, sizeof *r + c->choices_n * sizeof r->candidates[0]);
  if (r == NULL) return NULL;
  r->client = c;
  r->handlers = handlers;
  for (size_t i = 0; i < c->choices_n; i++) {
    if (!race_eligible(c, &c->choices[i])) continue;
    r->candidates[r->n] = candidate_start(c, &c->choices[i], race_ended, r);
    if (r->candidates[r->n] != NULL) r->n++;
  }
  r->running = r->n;
  if (r->n > 0) return r;
  free(r);
  return NULL;
}
