/* adit_client_*, events and errors: the public face of src/agent/client.c. The hard thing is fork: the child has no
   thread of ours and must not touch a loop whose epoll set it shares with its parent, so it only closes its copies, by
   close() alone. */
#include <errno.h>

#include "agent/fork_gate.h"
#include "base/deadline.h"
#include "lib/config.h"
#include "lib/error.h"
#include "lib/handle.h"

const char *adit_version(void) {
  return ADIT_VERSION;
}

int handle_check_client(const struct adit_client *c) {
  if (c == NULL || c->magic != CLIENT_MAGIC) return error_set(ADIT_EINVAL, "not a client (it is NULL, or was closed)");
  if (c->process == fork_gate_process()) return 0;
  descriptors_close_copies((struct descriptors *)(uintptr_t)&c->descriptors);
  return error_set(ADIT_EFORKED, "this client belongs to the process that made it (make a new one after fork)");
}

int handle_wait_for_token(struct adit_client *c, int timeout_ms) {
  if (c->setup.embedded == NULL) return 0;
  struct timespec deadline = deadline_after_ms(timeout_ms < 0 ? 0 : (unsigned)timeout_ms);
  int waited = 0, r = 0;
  pthread_mutex_lock(&c->lock);
  while (atomic_load(&c->ca_path) == NULL && c->trouble.code == 0 && waited != ETIMEDOUT)
    waited = handle_wait_for_change(c, timeout_ms, &deadline);
  if (atomic_load(&c->ca_path) == NULL)
    r = c->trouble.code != 0 ? error_set(c->trouble.code, "%s", c->trouble.text)
                             : error_set(ADIT_ETIMEDOUT, "the embedded relay has not started within %d ms", timeout_ms);
  pthread_mutex_unlock(&c->lock);
  return r;
}

struct adit_client *adit_client_new(struct adit_config *config) {
  if (config == NULL) {
    error_set(ADIT_EINVAL, "an argument is NULL");
    return NULL;
  }
  struct setup setup;
  struct adit_client *c = NULL;
  int r = setup_copy(&setup, &config->setup);
  if (r != 0) err_set(&config->err, r, "out of memory");
  else if ((r = client_start(&setup, &c, &config->err)) != 0 && config->err.code == 0)
    err_set(&config->err, r, "the client could not be started");
  if (r == 0) return c;
  if (error_from(&config->err) == ADIT_EINVAL) error_set(ADIT_ECONFIG, "%s", config->err.text);
  return NULL;
}

void adit_client_close(struct adit_client *client, uint32_t drain_ms) {
  if (handle_check_client(client) == 0) client_close(client, drain_ms);
}

const char *adit_error(const struct adit_client *client) {
  if (error_text()[0] != '\0' || client == NULL || handle_check_client(client) != 0) return error_text();
  struct trouble trouble;
  pthread_mutex_t *lock = (pthread_mutex_t *)(uintptr_t)&client->lock;
  pthread_mutex_lock(lock);
  trouble = client->trouble;
  pthread_mutex_unlock(lock);
  if (trouble.code != 0) error_set(trouble.code, "%s", trouble.text);
  return error_text();
}

int adit_errno_last(void) {
  return error_code();
}

const char *adit_client_ca_file(const struct adit_client *client) {
  return handle_check_client(client) == 0 ? atomic_load(&client->ca_path) : NULL;
}

const char *adit_client_relay_socket(const struct adit_client *client) {
  return handle_check_client(client) == 0 ? atomic_load(&client->relay_socket) : NULL;
}

const char *adit_client_relay(const struct adit_client *client) {
  return handle_check_client(client) == 0 ? atomic_load(&client->relay_name) : NULL;
}

int adit_next_event(struct adit_client *client, struct adit_event *event, int timeout_ms) {
  int r = handle_check_client(client);
  if (r != 0) return r;
  if (event == NULL) return error_set(ADIT_EINVAL, "an argument is NULL");
  return events_next(&client->events, event, timeout_ms);
}

int adit_event_fd(const struct adit_client *client) {
  int r = handle_check_client(client);
  if (r != 0) return r;
  return events_fd_is_ours(&client->events)
             ? client->events.fd
             : error_set(ADIT_ESYSTEM, "the program has closed this client's descriptors (make a new client)");
}
