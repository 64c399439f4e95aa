/* The Python face of adit.h, one to one: what users see is in the .py files. Everything that waits does so without the
 * GIL.
 *
 * The hard thing is the end of an object: the library forbids to free one while another thread uses it, and Python
 * programs do just that. So each object counts the calls that are inside the library; close() turns new ones away,
 * calls back those that wait, and frees only when the last has left. The counts are touched under the GIL and the
 * mutex, which is held for no wait but that one. Whoever may run Python code, a signal's handler above all or by the
 * garbage collector, is not counted meanwhile: it may close the very object that its thread waits for. After fork() the
 * child touches neither: its copies tell of threads that it does not have, one of which may have held the mutex. */
#include <Python.h>
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <openssl/crypto.h>
#include <openssl/ssl.h>

#include "adit.h"

enum { WAIT_SLICE_MS = 50 };       /* how late Ctrl-C, a signal or close() may reach a thread that waits for a tunnel */

static PyObject *failure;          /* adit._adit.Failure(code, text) */

static PyObject *fail(int code, const char *text) {
  PyObject *words = PyUnicode_DecodeUTF8(text, (Py_ssize_t)strlen(text), "replace");
  if (words == NULL) return NULL;
  PyObject *arguments = Py_BuildValue("(iN)", code, words);
  if (arguments == NULL) return NULL;
  PyErr_SetObject(failure, arguments);
  Py_DECREF(arguments);
  return NULL;
}

/* --- calls that are inside the library --- */

struct guard {
  pthread_mutex_t lock;
  pthread_cond_t left;
  unsigned users;
  bool closing;
  unsigned owner;                  /* forks when it was made */
};

/* How many forks lie between the first process and this one. A pid would not do: a parent and its child may both be
 * number 1, each of a PID namespace. */
static unsigned forks;

static void count_fork(void) { forks++; }

static void guard_init(struct guard *g) {
  pthread_mutex_init(&g->lock, NULL);
  pthread_cond_init(&g->left, NULL);
  g->users = 0;
  g->closing = false;
  g->owner = forks;
}

static bool guard_is_foreign(const struct guard *g) {
  return g->owner != forks;
}

static void guard_enter(struct guard *g) {
  if (guard_is_foreign(g)) return;
  pthread_mutex_lock(&g->lock);
  g->users++;
  pthread_mutex_unlock(&g->lock);
}

static void guard_leave(struct guard *g) {
  if (guard_is_foreign(g)) return;
  pthread_mutex_lock(&g->lock);
  if (--g->users == 0) pthread_cond_broadcast(&g->left);
  pthread_mutex_unlock(&g->lock);
}

/* Without the GIL, after closing was set. */
static void guard_wait(struct guard *g) {
  if (guard_is_foreign(g)) return;
  pthread_mutex_lock(&g->lock);
  while (g->users > 0) pthread_cond_wait(&g->left, &g->lock);
  pthread_mutex_unlock(&g->lock);
}

/* --- calling back who waits --- */

/* A pair of sockets, of which one is shut down to end a poll of the other: not closed, as a forked child may have a
 * copy. Programs close descriptors that they do not know (os.closerange), so both are only used while they are what
 * they were. */
enum { WAKER_POLLED, WAKER_SHUT };

struct waker {
  int ends[2];
  ino_t inodes[2];
};

static bool waker_has(const struct waker *w, int end) {
  struct stat now;
  return fstat(w->ends[end], &now) == 0 && S_ISSOCK(now.st_mode) && now.st_ino == w->inodes[end];
}

static bool waker_init(struct waker *w) {
  struct stat made;
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, w->ends) != 0) return false;
  for (int end = 0; end < 2; end++) w->inodes[end] = fstat(w->ends[end], &made) == 0 ? made.st_ino : 0;
  return true;
}

static void waker_wake(const struct waker *w) {
  if (waker_has(w, WAKER_SHUT)) (void)shutdown(w->ends[WAKER_SHUT], SHUT_RDWR);
}

static void waker_free(const struct waker *w) {
  for (int end = 0; end < 2; end++)
    if (waker_has(w, end)) close(w->ends[end]);
}

/* --- objects --- */

struct tunnel;

struct client {
  PyObject_HEAD
  struct adit_client *handle;      /* NULL once closed */
  struct guard guard;
  struct waker waker;              /* of next_event() */
  struct tunnel *tunnels;          /* whose handles events may name; no references */
  unsigned forwarding;             /* calls that may have made one of which we do not know yet; under the guard's lock,
                                      too */
};

struct tunnel {
  PyObject_HEAD
  struct client *client;           /* owned reference */
  struct tunnel *next;             /* of the client's */
  struct adit_tunnel *handle;      /* freed with the client's; NULL once it is being closed */
  PyObject *tag;                   /* by which users know it */
  struct guard guard;
};

static PyObject *client_type, *tunnel_type;

static bool client_is_closing(const struct client *self) {
  return self->handle == NULL || self->guard.closing;
}

static bool client_enter(struct client *self) {
  if (guard_is_foreign(&self->guard)) {
    fail(ADIT_EFORKED,
         "this client belongs to the process that made it (call forward() or adit.Client() anew after fork)");
    return false;
  }
  if (client_is_closing(self)) {
    fail(ADIT_ECLOSED, "the client was closed");
    return false;
  }
  guard_enter(&self->guard);
  return true;
}

static bool tunnel_enter(struct tunnel *self) {
  if (self->handle == NULL || self->guard.closing) {
    fail(ADIT_ECLOSED, "the tunnel was closed");
    return false;
  }
  if (!client_enter(self->client)) return false;
  guard_enter(&self->guard);
  return true;
}

static void tunnel_leave(struct tunnel *self) {
  guard_leave(&self->guard);
  guard_leave(&self->client->guard);
}

/* --- whose an event is --- */

/* An event names a handle, which is known as soon as adit_forward() has returned, in whatever thread. So no event is
 * taken while such a call is under way; and as it is taken under the GIL, whoever is found is not being closed. */
static void forwarding_begin(struct client *c) {
  pthread_mutex_lock(&c->guard.lock);
  c->forwarding++;
  pthread_mutex_unlock(&c->guard.lock);
}

static void forwarding_end(struct client *c) {
  if (guard_is_foreign(&c->guard)) return;
  pthread_mutex_lock(&c->guard.lock);
  c->forwarding--;
  pthread_cond_broadcast(&c->guard.left);
  pthread_mutex_unlock(&c->guard.lock);
}

/* Without the GIL. */
static void forwarding_wait(struct client *c) {
  pthread_mutex_lock(&c->guard.lock);
  while (c->forwarding > 0) pthread_cond_wait(&c->guard.left, &c->guard.lock);
  pthread_mutex_unlock(&c->guard.lock);
}

static void tunnel_enlist(struct tunnel *t) {
  t->next = t->client->tunnels;
  t->client->tunnels = t;
}

static void tunnel_delist(struct tunnel *t) {
  for (struct tunnel **at = &t->client->tunnels; *at != NULL; at = &(*at)->next) {
    if (*at != t) continue;
    *at = t->next;
    return;
  }
}

/* A new reference; NULL for an event of the client, or of a tunnel that is being closed. */
static struct tunnel *event_tunnel(const struct client *c, const struct adit_event *event) {
  struct tunnel *t = c->tunnels;
  while (t != NULL && t->handle != event->tunnel) t = t->next;
  Py_XINCREF((PyObject *)t);
  return t;
}

static PyObject *event_tuple(const struct adit_event *event, struct tunnel *of) {
  PyObject *text = PyUnicode_DecodeUTF8(event->text, (Py_ssize_t)strlen(event->text), "replace");
  PyObject *tunnel = of == NULL ? Py_None : (PyObject *)of, *tag = of == NULL ? Py_None : of->tag;
  return Py_BuildValue("(iizNOO)", (int)event->kind, event->error, event->reason, text, tunnel, tag);
}

/* --- keywords --- */

/* A value by its name, borrowed: NULL when it is not given, or None. */
static PyObject *keyword(PyObject *given, const char *name, Py_ssize_t *known) {
  PyObject *value = given == NULL ? NULL : PyDict_GetItemString(given, name);
  if (value != NULL) ++*known;
  return value == Py_None ? NULL : value;
}

/* After all that are known were asked for. */
static bool keywords_end(PyObject *given, Py_ssize_t known) {
  if (given == NULL || PyDict_Size(given) == known) return true;
  PyErr_Format(PyExc_TypeError, "not all of these are known: %R", given);
  return false;
}

/* --- configuration --- */

typedef int (*add_fn)(struct adit_config *config, const char *text);

static bool add_each(struct adit_config *config, PyObject *words, add_fn add) {
  Py_ssize_t n = PySequence_Size(words);
  for (Py_ssize_t i = 0; i < n; i++) {
    PyObject *word = PySequence_GetItem(words, i);
    PyObject *bytes = word == NULL ? NULL : PyUnicode_AsUTF8String(word);
    Py_XDECREF(word);
    char *text;
    int code = bytes == NULL || PyBytes_AsStringAndSize(bytes, &text, NULL) != 0 ? 0 : add(config, text);
    Py_XDECREF(bytes);
    if (PyErr_Occurred()) return false;
    if (code != 0) {
      fail(code, adit_config_error(config));
      return false;
    }
  }
  return n >= 0;
}

/* What adit_config_set_NAME takes, as a string or a path. */
static const struct setting_row {
  const char *name;
  add_fn set;
} setting_rows[] = {
  {"ca_file", adit_config_set_ca_file},
  {"proxy", adit_config_set_proxy},
  {"data", adit_config_set_data},
};

static bool set_one(struct adit_config *config, add_fn set, PyObject *value) {
  PyObject *bytes;
  if (!PyUnicode_FSConverter(value, &bytes)) return false;
  int code = set(config, PyBytes_AsString(bytes));
  Py_DECREF(bytes);
  if (code != 0) fail(code, adit_config_error(config));
  return code == 0;
}

static bool set_all(struct adit_config *config, PyObject *settings) {
  Py_ssize_t known = 0;
  for (size_t i = 0; i < sizeof setting_rows / sizeof *setting_rows; i++) {
    PyObject *value = keyword(settings, setting_rows[i].name, &known);
    if (value != NULL && !set_one(config, setting_rows[i].set, value)) return false;
  }
  return keywords_end(settings, known);
}

/* What is given first; then, if asked, environment and the user's file; and without any token the embedded relay of
   that program. */
static bool configure(struct adit_config *config, PyObject *tokens, PyObject *relays, PyObject *settings, bool load,
                      const char *program) {
  /* unless one is given; to load looks for it by itself */
  int code = load ? 0 : adit_config_set_proxy(config, NULL);
  if (code != 0) fail(code, adit_config_error(config));
  if (code != 0 || !add_each(config, tokens, adit_config_add_token) ||
      !add_each(config, relays, adit_config_add_relay) || !set_all(config, settings))
    return false;
  int found = PySequence_Size(tokens) > 0;
  if (load) code = adit_config_load(config, &found);
  if (code == 0 && found == 0) {
    if (program == NULL) {
      fail(ADIT_ECONFIG, "token: there is none (set ADIT_TOKEN, store one with adit login, or use adit.Client(token))");
      return false;
    }
    code = adit_config_set_embedded(config, program);
  }
  if (code != 0) fail(code, adit_config_error(config));
  return code == 0;
}

static struct adit_client *start(struct adit_config *config) {
  struct adit_client *handle;
  Py_BEGIN_ALLOW_THREADS
  handle = adit_client_new(config);
  Py_END_ALLOW_THREADS
  if (handle == NULL) fail(adit_errno_last(), adit_config_error(config));
  return handle;
}

static const char *path_of(PyObject *bytes) { return bytes == NULL ? NULL : PyBytes_AsString(bytes); }

/* PyArg's "O&" for a path or None: bytes, or NULL for None. */
static int take_path(PyObject *from, void *to) {
  if (from != NULL && from != Py_None) return PyUnicode_FSConverter(from, to);
  if (from == NULL) Py_CLEAR(*(PyObject **)to);
  return Py_CLEANUP_SUPPORTED;
}

/* Client(tokens, relays, load, program, **settings) */
static PyObject *client_new(PyTypeObject *type, PyObject *args, PyObject *settings) {
  PyObject *tokens, *relays, *program = NULL, *made = NULL;
  int load;
  if (!PyArg_ParseTuple(args, "OOpO&", &tokens, &relays, &load, take_path, &program)) return NULL;
  struct adit_config *config = adit_config_new();
  struct adit_client *handle = NULL;
  struct waker waker;
  bool woken = waker_init(&waker);
  if (config == NULL) PyErr_NoMemory();
  else if (!woken) fail(ADIT_ESYSTEM, "no descriptor is free (close files, or raise the limit: ulimit -n)");
  else if (configure(config, tokens, relays, settings, load != 0, path_of(program))) handle = start(config);
  if (handle != NULL) {
    struct client *self = (struct client *)PyType_GenericAlloc(type, 0);
    if (self != NULL) {
      self->handle = handle;
      guard_init(&self->guard);
      self->waker = waker;
      made = (PyObject *)self;
    } else {
      adit_client_close(handle, 0);
    }
  }
  if (made == NULL && woken) waker_free(&waker);
  if (config != NULL) adit_config_free(config);
  Py_XDECREF(program);
  return made;
}

static void client_end(struct client *self) {
  if (self->handle == NULL || self->guard.closing) return;
  self->guard.closing = true;
  if (!guard_is_foreign(&self->guard)) waker_wake(&self->waker);
  Py_BEGIN_ALLOW_THREADS
  guard_wait(&self->guard);
  adit_client_close(self->handle, 0);
  Py_END_ALLOW_THREADS
  self->handle = NULL;
  waker_free(&self->waker);        /* in a child its copies */
}

static PyObject *client_close(PyObject *object, PyObject *none) {
  (void)none;
  client_end((struct client *)object);
  Py_RETURN_NONE;
}

static void client_dealloc(PyObject *object) {
  struct client *self = (struct client *)object;
  PyTypeObject *type = Py_TYPE(object);
  client_end(self);
  freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);
  release(object);
  Py_DECREF(type);
}

static PyObject *text_or_none(const char *text) {
  if (text == NULL) Py_RETURN_NONE;
  return PyUnicode_DecodeFSDefault(text);
}

static PyObject *client_relay(PyObject *object, PyObject *none) {
  (void)none;
  struct client *self = (struct client *)object;
  if (!client_enter(self)) return NULL;
  PyObject *text = text_or_none(adit_client_relay(self->handle));
  guard_leave(&self->guard);
  return text;
}

static PyObject *client_relay_socket(PyObject *object, PyObject *none) {
  (void)none;
  struct client *self = (struct client *)object;
  if (!client_enter(self)) return NULL;
  PyObject *text = text_or_none(adit_client_relay_socket(self->handle));
  guard_leave(&self->guard);
  return text;
}

static PyObject *client_ca_file(PyObject *object, PyObject *none) {
  (void)none;
  struct client *self = (struct client *)object;
  if (!client_enter(self)) return NULL;
  PyObject *text = text_or_none(adit_client_ca_file(self->handle));
  guard_leave(&self->guard);
  return text;
}

/* next_event() -> (kind, error, reason, text, tunnel or None, its tag or None), or None when the client closes. */
static PyObject *client_next_event(PyObject *object, PyObject *none) {
  (void)none;
  struct client *self = (struct client *)object;
  struct adit_event event;
  struct tunnel *of = NULL;
  int r = 0;
  while (r == 0) {
    if (client_is_closing(self)) Py_RETURN_NONE;
    if (!client_enter(self)) return NULL;
    if (self->forwarding > 0) {
      Py_BEGIN_ALLOW_THREADS
      forwarding_wait(self);
      Py_END_ALLOW_THREADS
      guard_leave(&self->guard);
      continue;
    }
    struct pollfd fds[] = {{.fd = adit_event_fd(self->handle), .events = POLLIN},
        {.fd = self->waker.ends[WAKER_POLLED], .events = POLLIN}};
    r = adit_next_event(self->handle, &event, 0);   /* also where there are no descriptors any more */
    of = r == 1 ? event_tunnel(self, &event) : NULL;
    if (r == 1 && event.tunnel != NULL && of == NULL) r = 0;   /* it is being closed */
    if (r == 0 && fds[0].fd < 0) r = fds[0].fd;
    if (r == 0) {
      Py_BEGIN_ALLOW_THREADS
      if (!waker_has(&self->waker, WAKER_POLLED) || (poll(fds, 2, -1) < 0 && errno != EINTR)) r = ADIT_ESYSTEM;
      Py_END_ALLOW_THREADS
    }
    guard_leave(&self->guard);
    if (r == 0 && PyErr_CheckSignals() != 0) return NULL;   /* which may also collect garbage, and so close a client */
  }
  if (r < 0) return fail(r, adit_error(NULL));
  PyObject *made = event_tuple(&event, of);
  Py_XDECREF((PyObject *)of);
  return made;
}

/* --- options --- */

enum option_kind { OPTION_INT, OPTION_U32, OPTION_U64, OPTION_I64, OPTION_TEXT, OPTION_PATH, OPTION_WORDS };

/* By the names that they have in adit.h; of words there is their number, too. */
struct option_row {
  const char *name;
  enum option_kind kind;
  size_t at, n_at;
};
#define OPTION_IN(options, field, kind) {#field, kind, offsetof(struct options, field), 0}
#define OPTION_OF_WORDS_IN(options, field) \
  {#field, OPTION_WORDS, offsetof(struct options, field), offsetof(struct options, field##_n)}

/* Of a tunnel. */
#define OPTION(field, kind) OPTION_IN(adit_options, field, kind)
#define OPTION_OF_WORDS(field) OPTION_OF_WORDS_IN(adit_options, field)
static const struct option_row option_rows[] = {
  OPTION(unencrypted, OPTION_INT), OPTION(h2, OPTION_INT), OPTION(proxy_protocol, OPTION_INT),
  OPTION(alpn, OPTION_TEXT), OPTION_OF_WORDS(allow), OPTION_OF_WORDS(deny), OPTION(keep_file, OPTION_PATH),
  OPTION(name, OPTION_TEXT), OPTION(app_wait_ms, OPTION_I64), OPTION(retry_ms, OPTION_I64)};
enum { OPTIONS_N = sizeof option_rows / sizeof *option_rows };

/* Of a token that is to be narrower. */
#define NARROW(field, kind) OPTION_IN(adit_narrow_options, field, kind)
static const struct option_row narrow_rows[] = {NARROW(name, OPTION_TEXT),
                                                NARROW(expires_s, OPTION_I64),
                                                NARROW(max_tunnels, OPTION_U32),
                                                NARROW(max_streams, OPTION_U32),
                                                NARROW(max_visitors_per_s, OPTION_U32),
                                                NARROW(max_rate, OPTION_U64),
                                                NARROW(no_raw, OPTION_INT),
                                                OPTION_OF_WORDS_IN(adit_narrow_options, allow)};
enum { NARROW_N = sizeof narrow_rows / sizeof *narrow_rows, OPTIONS_MAX = 32 };
_Static_assert((int)OPTIONS_N <= (int)OPTIONS_MAX && (int)NARROW_N <= (int)OPTIONS_MAX,
               "there is room for the words of each");

/* What the options point to. */
struct options_held {
  PyObject *strings;               /* a list of bytes */
  const char **words[OPTIONS_MAX];
};

static void options_release(struct options_held *held) {
  for (size_t i = 0; i < OPTIONS_MAX; i++) free(held->words[i]);
  Py_XDECREF(held->strings);
}

/* Takes the bytes, and any error of making them. */
static const char *options_hold(struct options_held *held, PyObject *bytes) {
  char *text = NULL;
  bool held_now = bytes != NULL && PyBytes_AsStringAndSize(bytes, &text, NULL) == 0 &&
                  PyList_Append(held->strings, bytes) == 0;
  Py_XDECREF(bytes);
  return held_now ? text : NULL;
}

static const char **options_hold_words(struct options_held *held, PyObject *words, size_t *n) {
  Py_ssize_t size = PySequence_Size(words);
  const char **texts = size < 0 ? NULL : calloc((size_t)size + 1, sizeof *texts);
  if (texts == NULL) {
    if (size >= 0) PyErr_NoMemory();
    return NULL;
  }
  for (Py_ssize_t i = 0; i < size; i++) {
    PyObject *word = PySequence_GetItem(words, i);
    texts[i] = options_hold(held, word == NULL ? NULL : PyUnicode_AsUTF8String(word));
    Py_XDECREF(word);
    if (texts[i] == NULL) {
      free(texts);
      return NULL;
    }
  }
  *n = (size_t)size;
  return texts;
}

/* Numbers that the .py files have found to fit. */
static bool number_take(void *field, size_t n, const char *format, PyObject *value) {
  unsigned long long number = 0;
  if (!PyArg_Parse(value, format, &number)) return false;
  uint32_t narrow = (uint32_t)number;
  memcpy(field, n == sizeof narrow ? (void *)&narrow : (void *)&number, n);
  return true;
}

static bool option_take(void *o, struct options_held *held, const struct option_row *row, const char ***words,
                        PyObject *value) {
  char *field = (char *)o + row->at;
  PyObject *path = NULL;
  switch (row->kind) {
  case OPTION_INT:
    return PyArg_Parse(value, "i", field) != 0;
  case OPTION_U32:
    return number_take(field, sizeof(uint32_t), "K", value);
  case OPTION_U64:
    return number_take(field, sizeof(uint64_t), "K", value);
  case OPTION_I64:
    return number_take(field, sizeof(int64_t), "L", value);
  case OPTION_TEXT:
    return (*(const char **)(void *)field = options_hold(held, PyUnicode_AsUTF8String(value))) != NULL;
  case OPTION_PATH:
    return PyUnicode_FSConverter(value, &path) && (*(const char **)(void *)field = options_hold(held, path)) != NULL;
  case OPTION_WORDS:
    *words = options_hold_words(held, value, (size_t *)(void *)((char *)o + row->n_at));
    *(const char ***)(void *)field = *words;
    return *words != NULL;
  }
  return false;
}

static bool options_take(void *o, struct options_held *held, const struct option_row *rows, size_t n, PyObject *given) {
  Py_ssize_t known = 0;
  if ((held->strings = PyList_New(0)) == NULL) return false;
  for (size_t i = 0; i < n; i++) {
    PyObject *value = keyword(given, rows[i].name, &known);
    if (value != NULL && !option_take(o, held, &rows[i], &held->words[i], value)) return false;
  }
  return keywords_end(given, known);
}

/* narrow(**options) -> the token, as a string; waits for an embedded relay to start. */
static PyObject *client_narrow(PyObject *object, PyObject *args, PyObject *options) {
  struct client *self = (struct client *)object;
  struct adit_narrow_options o = ADIT_NARROW_OPTIONS_INIT;
  struct options_held held = {0};
  char token[ADIT_TOKEN_CAP];
  PyObject *word = NULL;
  int code = ADIT_ETIMEDOUT;
  if (!PyArg_ParseTuple(args, "") || !options_take(&o, &held, narrow_rows, NARROW_N, options)) goto out;
  while (code == ADIT_ETIMEDOUT) {
    if (!client_enter(self)) goto out;
    struct adit_client *handle = self->handle;
    Py_BEGIN_ALLOW_THREADS
    code = adit_client_narrow(handle, &o, WAIT_SLICE_MS, token, sizeof token);
    Py_END_ALLOW_THREADS
    guard_leave(&self->guard);
    if (code == ADIT_ETIMEDOUT && PyErr_CheckSignals() != 0) goto out;
  }
  if (code == 0) word = PyUnicode_FromString(token);
  else fail(code, adit_error(NULL));
  OPENSSL_cleanse(token, sizeof token);
out:
  options_release(&held);
  return word;
}

/* revoke(narrowed, expires_s, timeout_ms): waits for the relay's answer, negative: as long as it takes. */
static PyObject *client_revoke(PyObject *object, PyObject *args) {
  struct client *self = (struct client *)object;
  const char *narrowed;
  long long expires_s, left_ms;
  int code = ADIT_ETIMEDOUT;
  if (!PyArg_ParseTuple(args, "sLL", &narrowed, &expires_s, &left_ms)) return NULL;
  do {
    int slice_ms = left_ms < 0 || left_ms > WAIT_SLICE_MS ? WAIT_SLICE_MS : (int)left_ms;
    if (!client_enter(self)) return NULL;
    struct adit_client *handle = self->handle;
    Py_BEGIN_ALLOW_THREADS
    code = adit_client_revoke(handle, narrowed, expires_s, slice_ms);
    Py_END_ALLOW_THREADS
    guard_leave(&self->guard);
    if (code == ADIT_ETIMEDOUT && PyErr_CheckSignals() != 0) return NULL;
    if (left_ms > 0) left_ms -= slice_ms;
  } while (code == ADIT_ETIMEDOUT && left_ms != 0);
  if (code != 0) return fail(code, adit_error(NULL));
  Py_RETURN_NONE;
}

/* --- tunnels --- */

static struct tunnel *tunnel_make(struct client *client, PyObject *tag) {
  struct tunnel *made = (struct tunnel *)PyType_GenericAlloc((PyTypeObject *)tunnel_type, 0);
  if (made == NULL) return NULL;
  guard_init(&made->guard);
  Py_INCREF((PyObject *)client);
  made->client = client;
  Py_INCREF(tag);
  made->tag = tag;
  return made;
}

/* forward(tag, app, **options) */
static PyObject *client_forward(PyObject *object, PyObject *args, PyObject *options) {
  struct client *self = (struct client *)object;
  struct adit_options o = ADIT_OPTIONS_INIT;
  struct options_held held = {0};
  PyObject *tag;
  const char *app;
  struct tunnel *made = NULL;
  if (!PyArg_ParseTuple(args, "Os", &tag, &app) || !options_take(&o, &held, option_rows, OPTIONS_N, options) ||
      (made = tunnel_make(self, tag)) == NULL || !client_enter(self))
    goto fail;
  forwarding_begin(self);
  Py_BEGIN_ALLOW_THREADS
  made->handle = adit_forward(self->handle, app, &o);
  Py_END_ALLOW_THREADS
  if (made->handle != NULL) tunnel_enlist(made);
  forwarding_end(self);
  guard_leave(&self->guard);
  if (made->handle == NULL) {
    fail(adit_errno_last(), adit_error(NULL));
    goto fail;
  }
  options_release(&held);
  return (PyObject *)made;
fail:
  options_release(&held);
  Py_XDECREF((PyObject *)made);
  return NULL;
}

typedef int (*wait_fn)(struct adit_tunnel *tunnel, int timeout_ms);

/* Waits in slices, and looks for signals between them: true and the result, ADIT_ETIMEDOUT at the end of time; false
 * with a Python error when a signal raised one, or the tunnel closes. What `ignored` says is no reason to give up
 * before the end of time, unless the tunnel has. */
static bool tunnel_wait(struct tunnel *self, wait_fn wait, unsigned long timeout_ms, int ignored, int *code) {
  for (unsigned long waited = 0;; waited += WAIT_SLICE_MS) {
    unsigned long left = timeout_ms > waited ? timeout_ms - waited : 0;
    if (!tunnel_enter(self)) return false;
    struct adit_tunnel *handle = self->handle;   /* which close() takes as it begins, and frees when we have left */
    Py_BEGIN_ALLOW_THREADS
    *code = wait(handle, left < WAIT_SLICE_MS ? (int)left : WAIT_SLICE_MS);
    Py_END_ALLOW_THREADS
    bool ended = wait == adit_wait_open && *code != 0 && adit_tunnel_reason(handle) != NULL;
    tunnel_leave(self);
    if (*code == 0 || ended || (*code != ADIT_ETIMEDOUT && *code != ignored) || left <= WAIT_SLICE_MS) return true;
    if (PyErr_CheckSignals() != 0) return false;
  }
}

/* wait_open(timeout_ms, patient): a relay that cannot be reached fails it, but for the patient only when the time is
   over. */
static PyObject *tunnel_wait_open(PyObject *object, PyObject *args) {
  struct tunnel *self = (struct tunnel *)object;
  unsigned long timeout_ms;
  int patient, code;
  if (!PyArg_ParseTuple(args, "kp", &timeout_ms, &patient)) return NULL;
  if (!tunnel_wait(self, adit_wait_open, timeout_ms, patient ? ADIT_EUNREACHABLE : 0, &code)) return NULL;
  if (code == 0) Py_RETURN_NONE;
  if (code == ADIT_ETIMEDOUT)
    return fail(code, "the relay has not answered in time (is it an adit relay? timeout= gives it more time)");
  return fail(code, adit_error(NULL));
}

/* finish(timeout_ms) -> whether all visitors have left */
static PyObject *tunnel_finish(PyObject *object, PyObject *args) {
  struct tunnel *self = (struct tunnel *)object;
  unsigned long timeout_ms;
  int code;
  if (!PyArg_ParseTuple(args, "k", &timeout_ms) || !tunnel_wait(self, adit_tunnel_finish, timeout_ms, 0, &code))
    return NULL;
  return PyBool_FromLong(code == 0);
}

/* addresses() -> (host, port, tcp_host or None, tcp_port) */
static PyObject *tunnel_addresses(PyObject *object, PyObject *none) {
  (void)none;
  struct tunnel *self = (struct tunnel *)object;
  if (!tunnel_enter(self)) return NULL;
  /* Strings are no concern of the collector, which a tuple may set off. */
  PyObject *host = text_or_none(adit_tunnel_host(self->handle)),
           *tcp_host = text_or_none(adit_tunnel_tcp_host(self->handle));
  int port = adit_tunnel_port(self->handle), tcp_port = adit_tunnel_tcp_port(self->handle);
  tunnel_leave(self);
  return Py_BuildValue("(NiNi)", host, port, tcp_host, tcp_port);
}

/* end() -> None while it goes on, then why it has ended for good by itself: (error, reason, text) */
static PyObject *tunnel_end_of(PyObject *object, PyObject *none) {
  (void)none;
  struct tunnel *self = (struct tunnel *)object;
  if (!tunnel_enter(self)) return NULL;
  const char *reason = adit_tunnel_reason(self->handle);
  int error = reason == NULL ? 0 : adit_wait_open(self->handle, 0);
  tunnel_leave(self);
  if (reason == NULL) Py_RETURN_NONE;
  const char *why = adit_error(NULL);   /* until a tuple is made, which may collect garbage, and so call the library */
  PyObject *text = PyUnicode_DecodeUTF8(why, (Py_ssize_t)strlen(why), "replace");
  return Py_BuildValue("(isN)", error, reason, text);
}

/* stats() -> (visitors_now, visitors_total, bytes_to_app, bytes_from_app, app_failures) */
static PyObject *tunnel_stats(PyObject *object, PyObject *none) {
  (void)none;
  struct tunnel *self = (struct tunnel *)object;
  struct adit_tunnel_stats s;
  if (!tunnel_enter(self)) return NULL;
  adit_tunnel_stats(self->handle, &s);
  tunnel_leave(self);
  return Py_BuildValue("(KKKKK)", (unsigned long long)s.visitors_now, (unsigned long long)s.visitors_total,
                       (unsigned long long)s.bytes_to_app, (unsigned long long)s.bytes_from_app,
                       (unsigned long long)s.app_failures);
}

/* stop_waiting(): calls wait_open() and finish() back, in whatever thread they are. */
static PyObject *tunnel_stop_waiting(PyObject *object, PyObject *none) {
  (void)none;
  ((struct tunnel *)object)->guard.closing = true;
  Py_RETURN_NONE;
}

static void tunnel_end(struct tunnel *self) {
  struct adit_tunnel *handle = self->handle;
  if (handle != NULL) tunnel_delist(self);
  self->handle = NULL;
  self->guard.closing = true;
  if (handle == NULL) return;
  /* A client that closes takes its tunnels with it, and one that has closed has taken them. */
  bool alive = self->client->handle != NULL && !self->client->guard.closing;
  if (alive) guard_enter(&self->client->guard);
  Py_BEGIN_ALLOW_THREADS
  guard_wait(&self->guard);
  if (alive) adit_tunnel_close(handle, 0);
  Py_END_ALLOW_THREADS
  if (alive) guard_leave(&self->client->guard);
}

static PyObject *tunnel_close(PyObject *object, PyObject *none) {
  (void)none;
  tunnel_end((struct tunnel *)object);
  Py_RETURN_NONE;
}

static void tunnel_dealloc(PyObject *object) {
  struct tunnel *self = (struct tunnel *)object;
  PyTypeObject *type = Py_TYPE(object);
  if (self->client != NULL) tunnel_end(self);
  Py_CLEAR(self->client);
  Py_CLEAR(self->tag);
  freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);
  release(object);
  Py_DECREF(type);
}

/* --- the module --- */

static PyMethodDef client_methods[] = {
  {"forward", (PyCFunction)(void (*)(void))client_forward, METH_VARARGS | METH_KEYWORDS,
   "forward(tag, app, **options) -> Tunnel"},
  {"narrow", (PyCFunction)(void (*)(void))client_narrow, METH_VARARGS | METH_KEYWORDS,
   "narrow(**options) -> a token for less"},
  {"revoke", client_revoke, METH_VARARGS, "revoke(narrowed, expires_s, timeout_ms): ends a token that was narrowed"},
  {"next_event", client_next_event, METH_NOARGS,
   "Waits: (kind, error, reason, text, tunnel, tag), or None when the client closes."},
  {"relay", client_relay, METH_NOARGS, "The name of the relay that was chosen, or None before."},
  {"relay_socket", client_relay_socket, METH_NOARGS,
   "Where the embedded relay takes other agents of this machine, or None."},
  {"ca_file", client_ca_file, METH_NOARGS, "The embedded relay's authority, or None."},
  {"close", client_close, METH_NOARGS, "With all its tunnels."},
  {NULL, NULL, 0, NULL}};

static PyMethodDef tunnel_methods[] = {
  {"wait_open", tunnel_wait_open, METH_VARARGS, "wait_open(timeout_ms, patient)"},
  {"addresses", tunnel_addresses, METH_NOARGS, "(host, port, tcp_host or None, tcp_port)"},
  {"finish", tunnel_finish, METH_VARARGS, "finish(timeout_ms) -> whether all visitors have left; lets no new one in."},
  {"end", tunnel_end_of, METH_NOARGS, "Why it has ended for good: (error, reason, text), or None."},
  {"stats", tunnel_stats, METH_NOARGS, "(visitors_now, visitors_total, bytes_to_app, bytes_from_app, app_failures)"},
  {"stop_waiting", tunnel_stop_waiting, METH_NOARGS,
   "Ends wait_open() and finish() in other threads; only close() may follow."},
  {"close", tunnel_close, METH_NOARGS, "Delivers what was accepted, resets the streams that are left."},
  {NULL, NULL, 0, NULL}};

/* The docstring's slot and the functions' are of type void *, for want of a better one in Python's own interface. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wpedantic"
static PyType_Slot client_slots[] = {
  {Py_tp_new, client_new}, {Py_tp_dealloc, client_dealloc}, {Py_tp_methods, client_methods}, {0, NULL}};
static PyType_Slot tunnel_slots[] = {{Py_tp_dealloc, tunnel_dealloc}, {Py_tp_methods, tunnel_methods}, {0, NULL}};
#pragma GCC diagnostic pop
static PyType_Spec client_spec = {
  .name = "adit._adit.Client", .basicsize = sizeof(struct client), .flags = Py_TPFLAGS_DEFAULT, .slots = client_slots};
static PyType_Spec tunnel_spec = {
  .name = "adit._adit.Tunnel", .basicsize = sizeof(struct tunnel), .flags = Py_TPFLAGS_DEFAULT, .slots = tunnel_slots};

static PyObject *module_version(PyObject *module, PyObject *none) {
  (void)module;
  (void)none;
  return PyUnicode_FromString(adit_version());
}

static PyMethodDef module_methods[] = {{"version", module_version, METH_NOARGS, "The library's version."},
    {NULL, NULL, 0, NULL}};
static struct PyModuleDef module_definition = {PyModuleDef_HEAD_INIT, .m_name = "adit._adit",
                                               .m_doc = "adit.h for adit/*.py; not for users.", .m_size = -1,
                                               .m_methods = module_methods};

static int add_constants(PyObject *module) {
  static const struct {
    const char *name;
    int value;
  } rows[] = {
    {"EINVAL", ADIT_EINVAL}, {"ENOMEM", ADIT_ENOMEM}, {"ECONFIG", ADIT_ECONFIG}, {"EUNREACHABLE", ADIT_EUNREACHABLE},
    {"EAUTH", ADIT_EAUTH}, {"EREFUSED", ADIT_EREFUSED}, {"ECONFLICT", ADIT_ECONFLICT}, {"ETIMEDOUT", ADIT_ETIMEDOUT},
    {"ECLOSED", ADIT_ECLOSED}, {"EFORKED", ADIT_EFORKED}, {"ESYSTEM", ADIT_ESYSTEM}, {"EVENT_OPEN", ADIT_EVENT_OPEN},
    {"EVENT_RECONNECTING", ADIT_EVENT_RECONNECTING}, {"EVENT_RESTORED", ADIT_EVENT_RESTORED},
    {"EVENT_WARNING", ADIT_EVENT_WARNING},
    {"EVENT_SUPERSEDED", ADIT_EVENT_SUPERSEDED}, {"EVENT_CLOSED", ADIT_EVENT_CLOSED}};
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
    if (PyModule_AddIntConstant(module, rows[i].name, rows[i].value) != 0) return -1;
  return 0;
}

PyMODINIT_FUNC PyInit__adit(void);
PyMODINIT_FUNC PyInit__adit(void) {
  /* The OpenSSL in here is ours alone. It must not clean up at exit, when a daemon thread may still use it, nor read an
   * openssl.cnf that was written for the system's, and may name modules that were built against that one. */
  if (OPENSSL_init_crypto(OPENSSL_INIT_NO_ATEXIT | OPENSSL_INIT_NO_LOAD_CONFIG, NULL) != 1) {
    PyErr_SetString(PyExc_ImportError, "OpenSSL could not be initialised");
    return NULL;
  }
  /* The first of these finds all algorithms, which takes 2 ms: here, rather than in the first forward(). And this
   * thread may end while another forks, so it leaves nothing that is to be given back then. */
  SSL_CTX_free(SSL_CTX_new(TLS_client_method()));
  OPENSSL_thread_stop();
  if (pthread_atfork(NULL, NULL, count_fork) != 0) {
    PyErr_NoMemory();
    return NULL;
  }
  PyObject *module = PyModule_Create(&module_definition);
  if (module == NULL) return NULL;
  failure = PyErr_NewException("adit._adit.Failure", NULL, NULL);
  client_type = PyType_FromSpec(&client_spec);
  tunnel_type = PyType_FromSpec(&tunnel_spec);
  if (failure == NULL || client_type == NULL || tunnel_type == NULL || add_constants(module) != 0) goto fail;
  Py_INCREF(failure);
  Py_INCREF(client_type);
  Py_INCREF(tunnel_type);
  if (PyModule_AddObject(module, "Failure", failure) == 0 && PyModule_AddObject(module, "Client", client_type) == 0 &&
      PyModule_AddObject(module, "Tunnel", tunnel_type) == 0) return module;
fail:
  Py_DECREF(module);
  return NULL;
}
