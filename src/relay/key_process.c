/* The hard thing is what a fork takes along: every descriptor of the relay's, of which the process closes all but its
   own, and words that wait to be written, which it forgets. SQLite cannot be taken along at all, since it keeps its
   locks by process: so the fork comes before the relay opens its state, and the process opens it by itself. */
#include "relay/key_process.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/descriptors.h"
#include "base/fibre.h"
#include "base/secret.h"
#include "base/words.h"
#include "relay/confine.h"
#include "relay/signer.h"
#include "relay/vault.h"
#include "tls/remote_key.h"

/* Behind those of workers, in the same order, come those of their signers. */
enum { OF_KEEPER, OF_ALL, OF_WORKERS, CHANNELS_MAX = OF_WORKERS + 2 * RELAY_WORKERS_MAX, WORDS_CAP = 256 };
enum { DESK_READ_BYTES = 16384, DESK_HELD_BYTES = 8192 };

struct channel { pthread_mutex_t lock; int fd; };

struct key_process {
  struct channel channels[CHANNELS_MAX];
  unsigned workers_n, channels_n;
  int life;                        /* read by nobody but for its end */
  atomic_bool hangs;
  bool has_authority;
  struct remote_key where;
  char rights[WORDS_CAP];
};

/* Both ends */

static int read_whole(int fd, uint8_t *to, size_t n) {
  for (size_t done = 0; done < n;) {
    ssize_t got = read(fd, to + done, n - done);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0 && errno == EAGAIN) return ERR_TIMEOUT;
    if (got <= 0) return ERR_CLOSED;
    done += (size_t)got;
  }
  return 0;
}

static int write_whole(int fd, const uint8_t *from, size_t n) {
  for (size_t done = 0; done < n;) {
    ssize_t wrote = write(fd, from + done, n - done);
    if (wrote < 0 && errno == EINTR) continue;
    if (wrote < 0 && errno == EAGAIN) return ERR_TIMEOUT;
    if (wrote <= 0) return ERR_CLOSED;
    done += (size_t)wrote;
  }
  return 0;
}

/* As much as is there. */
static int read_some(int fd, struct buf *b) {
  uint8_t *to = buf_reserve(b, DESK_READ_BYTES);
  ssize_t got;
  if (to == NULL) return ERR_NOMEM;
  do got = read(fd, to, DESK_READ_BYTES);
  while (got < 0 && errno == EINTR);
  if (got <= 0) return ERR_CLOSED;
  buf_added(b, (size_t)got);
  return 0;
}

static int skip_whole(int fd, size_t n) {
  uint8_t scrap[1024];
  int rc = 0;
  while (rc == 0 && n > 0) {
    size_t some = size_min(n, sizeof scrap);
    rc = read_whole(fd, scrap, some);
    n -= some;
  }
  wipe(scrap, sizeof scrap);
  return rc;
}

/* One frame's body, of max bytes at the most, in place of what was in b. ERR_NOMEM: the next one can be read. */
static int read_frame(int fd, size_t max, struct buf *b) {
  uint8_t header[KEY_FRAME_HEADER_BYTES];
  int rc = read_whole(fd, header, sizeof header);
  if (rc != 0) return rc;
  size_t n = (size_t)header[0] << 16 | (size_t)header[1] << 8 | header[2];
  buf_cut(b, 0);
  if (n == 0 || n > max) return ERR_LIMIT;
  uint8_t *to = buf_reserve(b, n);
  if (to == NULL) return (rc = skip_whole(fd, n)) == 0 ? ERR_NOMEM : rc;
  rc = read_whole(fd, to, n);
  if (rc == 0) buf_added(b, n);
  return rc;
}

/* The process's side */

struct desk { struct vault *vault; int fd; };

static int send_answers(const struct desk *d, struct buf *answers) {
  int rc = answers->len == 0 ? 0 : write_whole(d->fd, buf_data(answers), answers->len);
  buf_cut(answers, 0);
  return rc;
}

/* What came together is answered together, unless that would keep an answer back for long. */
static int answer_all(const struct desk *d, struct buf *requests, struct buf *answers) {
  uint64_t since_us = clock_us();
  size_t n;
  int rc;
  while ((rc = key_frame_whole(requests, KEY_REQUEST_MAX_BYTES, &n)) == 0 && n > 0) {
    rc = vault_answer(d->vault, buf_data(requests) + KEY_FRAME_HEADER_BYTES, n - KEY_FRAME_HEADER_BYTES, answers);
    if (rc != 0) return rc;
    buf_consume(requests, n);
    uint64_t now_us = clock_us();
    if (now_us - since_us < SIGNATURES_GATHERED_US && answers->len < DESK_HELD_BYTES) continue;
    rc = send_answers(d, answers);
    if (rc != 0) return rc;
    since_us = now_us;
  }
  return rc == 0 ? send_answers(d, answers) : rc;
}

/* A request that is none ends the process, and so the relay. A lack of memory is nobody's fault, and answered: so what
   the desk itself needs for that it has from the start. */
static void *desk_main(void *arg) {
  struct desk *d = arg;
  struct buf requests, answers;
  buf_init(&requests, DESK_READ_BYTES + KEY_FRAME_HEADER_BYTES + KEY_REQUEST_MAX_BYTES);
  buf_init(&answers, DESK_HELD_BYTES + KEY_FRAME_HEADER_BYTES + KEY_ANSWER_MAX_BYTES);
  bool ready = buf_reserve(&requests, requests.max) != NULL && buf_reserve(&answers, answers.max) != NULL;
  while (ready && read_some(d->fd, &requests) == 0)
    if (answer_all(d, &requests, &answers) != 0) break;
  _exit(EXIT_SUCCESS);
}

static int by_number(const void *a, const void *b) {
  const int *one = a, *other = b;
  return (*one > *other) - (*one < *other);
}

/* By the number of the call, which the C library of older systems has no name for; one by one where the kernel has none
   either (before Linux 5.9). */
static void close_numbers(unsigned from, unsigned to) {
  if (from > to || syscall(SYS_close_range, from, to, 0U) == 0) return;
  for (uint64_t fd = from; fd <= to && fd < descriptors_max(); fd++) (void)close((int)fd);
}

static void close_all_but(int *kept, size_t n) {
  unsigned from = STDERR_FILENO + 1;
  qsort(kept, n, sizeof kept[0], by_number);
  for (size_t i = 0; i < n; i++) {
    close_numbers(from, (unsigned)kept[i] - 1);
    from = (unsigned)kept[i] + 1;
  }
  close_numbers(from, ~0U);
}

/* Stopped by nothing but the relay's end: a signal to all of a terminal or a service means the relay, which drains.
   What its own faults bring is left to whoever tells of them. */
static void ignore_signals(void) {
  static const int faults[] = {SIGSYS, SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT};
  sigset_t all;
  (void)sigfillset(&all);
  for (size_t i = 0; i < ARRAY_LEN(faults); i++) (void)sigdelset(&all, faults[i]);
  (void)sigprocmask(SIG_SETMASK, &all, NULL);
}

static void be_key_process(const struct key_process_options *o, const int *fds, unsigned n, int life) {
  static struct desk desks[CHANNELS_MAX];
  int kept[CHANNELS_MAX + 1];
  char words[WORDS_CAP] = "";
  uint8_t nothing;
  const struct identity_source from = {.domain = o->domain, .cert_file = o->cert_file, .key_file = o->key_file};
  memcpy(kept, fds, n * sizeof fds[0]);
  kept[n] = life;
  close_all_but(kept, n + 1);
  ignore_signals();
  (void)prctl(PR_SET_NAME, "adit-keys");
  confine_keys(o, words, sizeof words);
  words_begin_again();
  struct vault *vault = vault_new(o->state_dir, &from);
  for (unsigned i = 0; vault != NULL && i < n; i++) {
    pthread_t thread;
    desks[i] = (struct desk){.vault = vault, .fd = fds[i]};
    if (pthread_create(&thread, NULL, desk_main, &desks[i]) != 0) _exit(EXIT_FAILURE);
  }
  if (vault == NULL || write_whole(life, (const uint8_t *)words, sizeof words) != 0) _exit(EXIT_FAILURE);
  (void)read_whole(life, &nothing, 1);
  _exit(EXIT_SUCCESS);
}

/* The relay's side */

static _Thread_local unsigned mine = OF_ALL;
static _Thread_local struct signer *my_signer;

void key_process_use(unsigned worker, struct signer *signer) {
  mine = OF_WORKERS + worker;
  my_signer = signer;
}

static int remote_sign(void *user, uint64_t handle, const struct sign_scheme *scheme, const uint8_t *text,
                       size_t text_n, uint8_t *signature, size_t *n);
static void remote_drop(void *user, uint64_t handle);

static unsigned signing_channel(const struct key_process *p, unsigned worker) {
  return OF_WORKERS + p->workers_n + worker;
}

/* A signer never waits, and the keeper, who has files read, as long as that takes. */
static int settle_channel(const struct key_process *p, unsigned i) {
  const struct timeval limit = {.tv_sec = KEY_CALL_MAX_MS / 1000, .tv_usec = KEY_CALL_MAX_MS % 1000 * 1000};
  int fd = p->channels[i].fd;
  if (i == OF_KEEPER) return 0;
  if (i >= signing_channel(p, 0)) return fcntl(fd, F_SETFL, O_NONBLOCK);
  return setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit) == 0 &&
                 setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit) == 0
             ? 0
             : -1;
}

/* Ends of the process's in theirs, ours in the channels. */
static int open_channels(struct key_process *p, int *theirs, int *life) {
  int pair[2];
  for (unsigned i = 0; i <= p->channels_n; i++) {
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0) return ERR_IO;
    if (i < p->channels_n) {
      p->channels[i].fd = pair[0];
      theirs[i] = pair[1];
      if (settle_channel(p, i) != 0) return ERR_IO;
    } else {
      p->life = pair[0];
      *life = pair[1];
    }
  }
  return 0;
}

static struct key_process *process_new(const struct key_process_options *o) {
  struct key_process *p = calloc(1, sizeof *p);
  if (p == NULL) return NULL;
  p->workers_n = o->workers_n < RELAY_WORKERS_MAX ? o->workers_n : RELAY_WORKERS_MAX;
  p->channels_n = OF_WORKERS + 2 * p->workers_n;
  p->life = -1;
  p->has_authority = o->cert_file == NULL;
  p->where = (struct remote_key){.user = p, .sign = remote_sign, .drop = remote_drop};
  for (unsigned i = 0; i < p->channels_n; i++) {
    (void)pthread_mutex_init(&p->channels[i].lock, NULL);
    p->channels[i].fd = -1;
  }
  return p;
}

void key_process_end(struct key_process *p) {
  if (p == NULL) return;
  for (unsigned i = 0; i < p->channels_n; i++) {
    if (p->channels[i].fd >= 0) (void)close(p->channels[i].fd);
    (void)pthread_mutex_destroy(&p->channels[i].lock);
  }
  if (p->life >= 0) (void)close(p->life);
  free(p);
}

int key_process_start(const struct key_process_options *o, struct key_process **out, struct err *e) {
  int theirs[CHANNELS_MAX], life = -1, rc = remote_key_install(e);
  *out = NULL;
  if (rc != 0) return rc;
  memset(theirs, -1, sizeof theirs);
  struct key_process *p = process_new(o);
  if (p == NULL) return err_set(e, ERR_NOMEM, "key process: out of memory");
  pid_t pid = open_channels(p, theirs, &life) == 0 ? fork() : -1;
  if (pid < 0) rc = err_set_errno(e, "key process: cannot be started");
  if (pid == 0) be_key_process(o, theirs, p->channels_n, life);
  for (unsigned i = 0; i < p->channels_n; i++)
    if (theirs[i] >= 0) (void)close(theirs[i]);
  if (life >= 0) (void)close(life);
  if (rc == 0 && read_whole(p->life, (uint8_t *)p->rights, sizeof p->rights) != 0)
    rc = err_set(e, ERR_CLOSED, "key process: it ended at once (is there enough memory, are there enough threads?)");
  p->rights[sizeof p->rights - 1] = '\0';
  if (rc == 0) *out = p;
  else key_process_end(p);
  return rc;
}

int key_process_fd(const struct key_process *p) { return p->life; }
bool key_process_hangs(const struct key_process *p) { return atomic_load(&p->hangs); }
int key_process_signing_fd(const struct key_process *p, unsigned worker) {
  return p->channels[signing_channel(p, worker)].fd;
}
const char *key_process_rights(const struct key_process *p) { return p->rights; }

static struct channel *channel_for(struct key_process *p, enum key_request_kind kind) {
  unsigned i = kind == KEY_LOAD || kind == KEY_TICKETS ? OF_KEEPER : mine;
  return &p->channels[i < signing_channel(p, 0) ? i : OF_ALL];
}

/* Whoever waits for its end learns of it, and so does the process. */
void key_process_give_up(struct key_process *p) {
  if (p == NULL) return;
  atomic_store(&p->hangs, true);
  (void)shutdown(p->life, SHUT_RDWR);
}

/* An answer that was given up would be taken for that of the next call, if it still came: so there is none. */
static int exchange(struct key_process *p, int fd, const uint8_t *frame, size_t n, struct buf *in) {
  if (atomic_load(&p->hangs)) return ERR_CLOSED;
  int rc = write_whole(fd, frame, n);
  if (rc == 0 && in != NULL) rc = read_frame(fd, KEY_ANSWER_MAX_BYTES, in);
  if (rc == ERR_TIMEOUT || rc == ERR_LIMIT) key_process_give_up(p);
  return rc;
}

/* Without an answer for `in` NULL. What the answer points to is in `in`. */
static int call(struct key_process *p, const struct key_request *r, struct buf *in, struct key_answer *a) {
  uint8_t frame[KEY_FRAME_HEADER_BYTES + KEY_REQUEST_MAX_BYTES];
  size_t n;
  struct channel *c = channel_for(p, r->kind);
  int rc = key_request_write(r, frame, &n);
  if (rc != 0) return rc;
  pthread_mutex_lock(&c->lock);
  rc = exchange(p, c->fd, frame, n, in);
  pthread_mutex_unlock(&c->lock);
  return rc == 0 && in != NULL ? key_answer_read(buf_data(in), in->len, a) : rc;
}

static int remote_sign(void *user, uint64_t handle, const struct sign_scheme *scheme, const uint8_t *text,
                       size_t text_n, uint8_t *signature, size_t *n) {
  const struct key_request r = {
      .kind = KEY_SIGN, .handle = handle, .scheme = *scheme, .text = text, .text_n = text_n};
  struct key_answer a;
  struct buf in;
  if (fibre_current() != NULL && my_signer != NULL) return signer_sign(my_signer, &r, signature, n);
  buf_init(&in, KEY_ANSWER_MAX_BYTES);
  int rc = call(user, &r, &in, &a);
  if (rc == 0) rc = a.code;
  if (rc == 0 && a.n > *n) rc = ERR_LIMIT;
  if (rc == 0) {
    memcpy(signature, a.bytes, a.n);
    *n = a.n;
  }
  buf_free(&in);
  return rc;
}

static void remote_drop(void *user, uint64_t handle) {
  const struct key_request r = {.kind = KEY_DROP, .handle = handle};
  (void)!call(user, &r, NULL, NULL);
}

static int tell(const struct key_answer *a, int rc, struct err *e) {
  if (rc == ERR_NOMEM) return err_set(e, rc, "certificate: out of memory");
  if (rc != 0) return err_set(e, rc, "certificate: the key process does not answer (restart the relay)");
  return a->code == 0 ? 0 : err_set(e, a->code, "%s", a->error);
}

/* An answer with a chain. */
static int fetch(struct key_process *p, const struct key_request *r, struct identity *out, struct err *e) {
  struct key_answer a;
  struct buf in;
  memset(out, 0, sizeof *out);
  buf_init(&in, KEY_ANSWER_MAX_BYTES);
  int rc = tell(&a, call(p, r, &in, &a), e);
  const char *chain = rc == 0 ? (const char *)a.bytes : NULL;
  if (rc == 0 && (out->server = tls_server_new_remote(chain, a.n, &p->where, a.handle, e)) == NULL) rc = ERR_CRYPTO;
  if (rc == 0 && p->has_authority && r->kind == KEY_LOAD &&
      (out->authority = authority_of_chain(chain, a.n, e)) == NULL)
    rc = ERR_CRYPTO;
  if (rc == 0) out->pin = a.pin;
  else identity_drop(out);
  buf_free(&in);
  return rc;
}

int key_process_load(struct key_process *p, struct identity *out, struct err *e) {
  return fetch(p, &(struct key_request){.kind = KEY_LOAD}, out, e);
}

int key_process_issue(struct key_process *p, const char *host, struct tls_server **out, struct err *e) {
  struct key_request r = {.kind = KEY_ISSUE};
  struct identity new;
  (void)snprintf(r.host, sizeof r.host, "%s", host);
  int rc = fetch(p, &r, &new, e);
  *out = new.server;
  return rc;
}

int key_process_tickets(struct key_process *p, struct err *e) {
  struct key_answer a;
  struct buf in;
  buf_init(&in, KEY_ANSWER_MAX_BYTES);
  int rc = tell(&a, call(p, &(struct key_request){.kind = KEY_TICKETS}, &in, &a), e);
  buf_free(&in);
  return rc;
}

int key_process_ticket_make(struct key_process *p, const struct ticket *t, uint8_t out[TICKET_MAX_BYTES],
                            size_t *n) {
  struct key_request r = {.kind = KEY_TICKET_MAKE, .ticket = *t};
  struct key_answer a;
  struct buf in;
  buf_init(&in, KEY_ANSWER_MAX_BYTES);
  int rc = call(p, &r, &in, &a);
  if (rc == 0) rc = a.code != 0 ? a.code : a.n > TICKET_MAX_BYTES ? ERR_LIMIT : 0;
  if (rc == 0) memcpy(out, a.bytes, a.n);
  *n = rc == 0 ? a.n : 0;
  buf_free(&in);
  return rc;
}

int key_process_ticket_read(struct key_process *p, const uint8_t *ticket, size_t n, struct ticket *out) {
  struct key_answer a;
  struct buf in;
  buf_init(&in, KEY_ANSWER_MAX_BYTES);
  int rc = n > TICKET_MAX_BYTES
               ? ERR_SYNTAX
               : call(p, &(struct key_request){.kind = KEY_TICKET_READ, .text = ticket, .text_n = n}, &in, &a);
  if (rc == 0) rc = a.code;
  if (rc == 0) *out = a.ticket;
  buf_free(&in);
  return rc;
}
