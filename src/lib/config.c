/* adit_config_*: what a client starts from. */
#include <stdlib.h>
#include <string.h>

#include "agent/fork_gate.h"
#include "agent/setup.h"
#include "base/environment.h"
#include "base/home.h"
#include "lib/config.h"
#include "lib/error.h"
#include "lib/user_file.h"

struct adit_config *adit_config_new(void) {
  struct adit_config *config = calloc(1, sizeof *config);
  if (config == NULL) {
    error_set(ADIT_ENOMEM, "out of memory");
    return NULL;
  }
  setup_init(&config->setup);
  return config;
}

void adit_config_free(struct adit_config *config) {
  if (config == NULL) return;
  setup_free(&config->setup);
  free(config);
}

const char *adit_config_error(const struct adit_config *config) {
  return config == NULL ? "no configuration (adit_config_new failed)" : config->err.text;
}

static int config_result(struct adit_config *config, int r, int code) {
  if (r == 0) return 0;
  error_from(&config->err);
  return error_set(r == ERR_NOMEM ? ADIT_ENOMEM : code, "%s", config->err.text);
}

static int config_null(void) {
  return error_set(ADIT_EINVAL, "an argument is NULL");
}

int adit_config_add_token(struct adit_config *config, const char *token) {
  if (config == NULL || token == NULL) return config_null();
  fork_gate_enter();
  int r = setup_add_token(&config->setup, token, &config->err);
  fork_gate_leave_host();
  return config_result(config, r, ADIT_ECONFIG);
}

int adit_config_add_relay(struct adit_config *config, const char *address) {
  if (config == NULL || address == NULL) return config_null();
  int r = setup_add_relay(&config->setup, address, &config->err);
  return config_result(config, r, ADIT_EINVAL);
}

static int set_text(struct adit_config *config, char **at, const char *text) {
  char *copy = strdup(text);
  if (copy == NULL) return config_result(config, err_set(&config->err, ERR_NOMEM, "out of memory"), ADIT_ENOMEM);
  free(*at);
  *at = copy;
  return 0;
}

int adit_config_set_ca_file(struct adit_config *config, const char *path) {
  return config == NULL || path == NULL ? config_null() : set_text(config, &config->setup.ca_file, path);
}

/* As curl has it: the lower-case name first, and an empty value is none. */
static const char *environment_either(const char *lower, const char *upper, const char **name) {
  const char *value = getenv(*name = lower);
  if (value == NULL || value[0] == '\0') value = getenv(*name = upper);
  return value != NULL && value[0] != '\0' ? value : NULL;
}

/* given: asked for here or in the user's file; NULL: what the environment says. */
static int config_take_proxy(struct adit_config *config, const char *given) {
  const char *name = NULL, *none;
  const char *url = given, *no_proxy = environment_either("no_proxy", "NO_PROXY", &none);
  if (url == NULL) url = environment_either("https_proxy", "HTTPS_PROXY", &name);
  if (url == NULL) url = environment_either("all_proxy", "ALL_PROXY", &name);
  fork_gate_enter();
  int r = setup_set_proxy(&config->setup, url == NULL ? "none" : url, name, no_proxy, &config->err);
  fork_gate_leave_host();
  config->has_proxy = config->has_proxy || r == 0;
  return r;
}

int adit_config_set_proxy(struct adit_config *config, const char *url) {
  struct user_file f = {0};
  if (config == NULL) return config_null();
  if (url != NULL && url[0] == '\0')
    return config_result(config, err_set(&config->err, ERR_USAGE, "proxy: empty (give its URL, or none)"), ADIT_EINVAL);
  if (url == NULL) (void)!user_file_load(&f, NULL);      /* what is wrong with it is told to who asks for what else is
                                                            in it */
  int r = config_take_proxy(config, url != NULL ? url : f.proxy);
  user_file_free(&f);
  return config_result(config, r, url != NULL ? ADIT_EINVAL : ADIT_ECONFIG);
}

int adit_config_set_data(struct adit_config *config, const char *how) {
  static const char *const names[] = {
      [SETUP_DATA_AUTO] = "auto", [SETUP_DATA_PLAIN] = "plain", [SETUP_DATA_TLS] = "tls"};
  if (config == NULL) return config_null();
  for (int i = 0; i < (int)ARRAY_LEN(names); i++) {
    if (how != NULL && strcmp(how, names[i]) != 0) continue;
    config->setup.data = (enum setup_data)i;
    return 0;
  }
  return config_result(config, err_set(&config->err, ERR_USAGE, "data: \"%.30s\" (give auto, plain or tls)", how),
                       ADIT_EINVAL);
}

int adit_config_set_embedded(struct adit_config *config, const char *program) {
  return config == NULL || program == NULL ? config_null() : set_text(config, &config->setup.embedded, program);
}

static int config_load_environment(struct adit_config *config) {
  const char *token = config->setup.tokens_n == 0 ? getenv("ADIT_TOKEN") : NULL;
  const char *relay = config->setup.dials_n == 0 ? getenv("ADIT_RELAY") : NULL;
  int r = environment_check("ADIT_TOKEN", token, &config->err);
  if (r == 0) r = environment_check("ADIT_RELAY", relay, &config->err);
  if (r == 0 && token != NULL && (r = setup_add_token(&config->setup, token, &config->err)) != 0)
    err_prefix(&config->err, "ADIT_TOKEN");
  if (r == 0 && relay != NULL && (r = setup_add_relay(&config->setup, relay, &config->err)) != 0)
    err_prefix(&config->err, "ADIT_RELAY");
  return r;
}

/* The file's relays belong to the file's token: beside another token they would lead it astray. */
static int config_apply_file(struct adit_config *config, const struct user_file *f) {
  int r = 0;
  if (config->setup.ca_file == NULL && f->ca != NULL) r = set_text(config, &config->setup.ca_file, f->ca);
  if (r != 0 || config->setup.tokens_n > 0) return r;
  if (f->token == NULL && f->relays_n == 0) return 0;
  if (f->token == NULL)
    return err_set(&config->err, ERR_NOT_NOW,
                   "a relay is given but no token (store one with adit login, or remove the relay)");
  r = setup_add_token(&config->setup, f->token, &config->err);
  bool has_dials = config->setup.dials_n > 0;
  for (size_t i = 0; r == 0 && !has_dials && i < f->relays_n; i++)
    r = setup_add_relay(&config->setup, f->relays[i], &config->err);
  return r;
}

/* Whoever has not written the file by hand must be told where it is. */
static void config_name_file(struct adit_config *config) {
  char path[4096];
  if (home_config_file(path, sizeof path, NULL) == 0) err_prefix(&config->err, "%.200s", path);
}

int adit_config_load(struct adit_config *config, int *found) {
  if (config == NULL) return config_null();
  struct user_file f = {0};
  int r = user_file_load(&f, &config->err);   /* from a disk that may be slow: not in the gate */
  fork_gate_enter();
  if (r == 0) r = config_load_environment(config);
  if (r == 0 && (r = config_apply_file(config, &f)) != 0) config_name_file(config);
  fork_gate_leave_host();
  if (r == 0 && !config->has_proxy && (r = config_take_proxy(config, f.proxy)) != 0) config_name_file(config);
  user_file_free(&f);
  if (found != NULL) *found = config->setup.tokens_n > 0;
  return config_result(config, r, ADIT_ECONFIG);
}
