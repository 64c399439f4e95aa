/* See words.h. The hard thing is that no descriptor can be asked whether a write will block: O_NONBLOCK belongs
   to the open file, which others have, too (the shell, the command behind "--"), and what poll says is only true
   until somebody else writes. So whoever writes must be able to afford to stand still: a thread that has nothing
   else to do. It holds no lock meanwhile. */
#include "base/words.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/deadline.h"
#include "base/limits.h"
#include "base/secret.h"
#include "base/signals.h"

enum { LINE_CAP = 8192 };          /* of a stream: longer lines are given on in parts */

static size_t note_text(uint64_t lines, char out[WORDS_NOTE_CAP]) {
  return (size_t)snprintf(out, WORDS_NOTE_CAP,
                          "adit: lines left out here, which could not be written or nobody read: %" PRIu64 "\n", lines);
}

struct place {
  int fd;
  words_note_fn *note;
  bool started;
  pthread_mutex_t lock;
  pthread_cond_t put, taken;
  char *filling, *writing;         /* WORDS_WAITING_MAX_BYTES each, from the first word on; they change places */
  size_t filling_n, writing_n;
  uint64_t left_out;               /* lines, since `filling` was full */
  /* The thread's own. */
  uint64_t lost;                   /* lines that have failed, and are still to be told */
  bool cut;                        /* the last one that was written is not whole */
};

static struct place places[] = {
#define PLACE(number) \
  {.fd = (number), .note = note_text, .lock = PTHREAD_MUTEX_INITIALIZER, .put = PTHREAD_COND_INITIALIZER}
  [WORDS_OUT] = PLACE(STDOUT_FILENO), [WORDS_ERR] = PLACE(STDERR_FILENO),
#undef PLACE
};
static bool one_place;             /* both lead to the same, where the order of words matters */
static bool flows;                 /* standard output is an account */
static bool waits;                 /* no thread is started; while there are others, this does not change */
static struct { char *text; size_t n, cap; } held;
static FILE *streams[2];
static char stream_text[2][LINE_CAP];

static struct place *place_of(enum words_place p) { return &places[one_place ? WORDS_OUT : p]; }

/* How much of it was written, all unless errno says why not. A descriptor that is not to block, as whoever opened
   it has set it, is waited for. */
static size_t write_all(int fd, const char *text, size_t n) {
  size_t done = 0;
  while (done < n) {
    ssize_t wrote = write(fd, text + done, n - done);
    struct pollfd p = {.fd = fd, .events = POLLOUT};
    if (wrote == 0) errno = EIO;
    if (wrote > 0) done += (size_t)wrote;
    else if (errno == EAGAIN) (void)poll(&p, 1, -1);
    else if (errno != EINTR) break;
  }
  return done;
}

static uint64_t count_lines(const char *text, size_t n) {
  uint64_t lines = 0;
  for (const char *at = text; (at = memchr(at, '\n', n - (size_t)(at - text))) != NULL; at++) lines++;
  return lines;
}

/* --- the thread --- */

static bool write_note(struct place *p) {
  char text[1 + WORDS_NOTE_CAP] = "\n";
  pthread_mutex_lock(&p->lock);
  words_note_fn *note = p->note;
  pthread_mutex_unlock(&p->lock);
  size_t n = note(p->lost, text + 1), skip = p->cut ? 0 : 1;
  size_t done = write_all(p->fd, text + skip, 1 + n - skip);
  if (done > 0) p->cut = done < 1 + n - skip;
  if (done < 1 + n - skip) return false;
  p->lost = 0;
  return true;
}

/* Of a loss it is told before what comes behind it, and not before something can be written again: what fails
   once fails for each line. */
static void write_words(struct place *p, const char *text, size_t n, uint64_t left_out) {
  size_t done = p->lost == 0 || write_note(p) ? write_all(p->fd, text, n) : 0;
  if (done > 0 && done < n) p->cut = text[done - 1] != '\n';
  p->lost += count_lines(text + done, n - done) + left_out;
  if (done == n && p->lost > 0) (void)write_note(p);
}

static void *write_on(void *arg) {
  struct place *p = arg;
  pthread_mutex_lock(&p->lock);
  for (;;) {
    while (p->filling_n == 0) pthread_cond_wait(&p->put, &p->lock);
    char *text = p->filling;
    uint64_t left_out = p->left_out;
    p->filling = p->writing;
    p->writing = text;
    p->writing_n = p->filling_n;
    p->filling_n = 0;
    p->left_out = 0;
    pthread_mutex_unlock(&p->lock);
    write_words(p, text, p->writing_n, left_out);
    pthread_mutex_lock(&p->lock);
    p->writing_n = 0;
    pthread_cond_broadcast(&p->taken);
  }
  return NULL;
}

/* With all signals blocked it gets none that a write brings, such as the one by which a terminal stops who writes
   from the background. */
static bool start(struct place *p) {
  sigset_t all, before;
  pthread_t thread;
  (void)sigfillset(&all);
  (void)pthread_sigmask(SIG_SETMASK, &all, &before);
  bool started = pthread_create(&thread, NULL, write_on, p) == 0;
  (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
  if (!started) return false;
  (void)pthread_setname_np(thread, "adit-words");
  (void)pthread_detach(thread);
  deadline_cond_init(&p->taken);
  return true;
}

static bool has_room(struct place *p) {
  if (p->filling == NULL) p->filling = malloc(WORDS_WAITING_MAX_BYTES);
  if (p->writing == NULL) p->writing = malloc(WORDS_WAITING_MAX_BYTES);
  return p->filling != NULL && p->writing != NULL;
}

/* --- who has words --- */

/* Where no thread can be had: only what can most likely be written at once. */
static void put_now(struct place *p, const char *text, size_t n) {
  struct pollfd ready = {.fd = p->fd, .events = POLLOUT};
  if (n <= PIPE_BUF && poll(&ready, 1, 0) == 1 && (ready.revents & POLLOUT) != 0) (void)!write(p->fd, text, n);
}

void words_put(enum words_place place, const char *text, size_t n) {
  struct place *p = place_of(place);
  int saved = errno;
  pthread_mutex_lock(&p->lock);
  if (!has_room(p) || (!waits && !p->started && !(p->started = start(p)))) {
    put_now(p, text, n);
  } else if (p->left_out > 0 || n > WORDS_WAITING_MAX_BYTES - p->filling_n) {
    p->left_out += count_lines(text, n);
  } else {
    memcpy(p->filling + p->filling_n, text, n);
    p->filling_n += n;
    pthread_cond_signal(&p->put);
  }
  pthread_mutex_unlock(&p->lock);
  errno = saved;
}

void words_wait(void) { waits = true; }

void words_go_on(void) {
  if (!waits) return;              /* others may look at it by now */
  waits = false;
  for (size_t i = 0; i < ARRAY_LEN(places); i++) {
    struct place *p = &places[i];
    pthread_mutex_lock(&p->lock);
    if (!p->started && p->filling_n > 0 && !(p->started = start(p))) {
      put_now(p, p->filling, p->filling_n);
      p->filling_n = 0;
    }
    pthread_mutex_unlock(&p->lock);
  }
}

void words_begin_again(void) {
  for (size_t i = 0; i < ARRAY_LEN(places); i++) {
    places[i].filling_n = 0;
    places[i].started = false;
  }
  waits = false;
}

size_t words_waiting(enum words_place place) {
  struct place *p = place_of(place);
  pthread_mutex_lock(&p->lock);
  size_t n = p->filling_n + p->writing_n;
  pthread_mutex_unlock(&p->lock);
  return n;
}

void words_tell_loss(enum words_place place, words_note_fn *note) {
  struct place *p = place_of(place);
  pthread_mutex_lock(&p->lock);
  p->note = note;
  pthread_mutex_unlock(&p->lock);
}

void words_settle(void) {
  struct timespec deadline = deadline_after_ms(WORDS_END_MS);
  for (size_t i = 0; i < ARRAY_LEN(places); i++) {
    struct place *p = &places[i];
    int waited = 0;
    if (streams[i] != NULL) (void)fflush(streams[i]);
    pthread_mutex_lock(&p->lock);
    while (p->filling_n + p->writing_n > 0 && waited == 0)
      waited = pthread_cond_timedwait(&p->taken, &p->lock, &deadline);
    pthread_mutex_unlock(&p->lock);
  }
}

/* --- what was asked for --- */

static void let_go(bool wholly) {
  if (held.text != NULL) wipe(held.text, held.n);
  free(held.text);
  held.text = NULL;
  held.cap = 0;
  if (!wholly) return;
  held.n = 0;
  wipe(stream_text[WORDS_OUT], LINE_CAP);
}

/* Into room that is doubled by hand: realloc would leave copies of a token behind. */
static bool hold(const char *text, size_t n) {
  if (n > held.cap - held.n) {
    size_t cap = size_max(2 * held.cap, held.n + n);
    char *more = malloc(cap);
    if (more == NULL) return false;
    if (held.n > 0) memcpy(more, held.text, held.n);
    let_go(false);
    held.text = more;
    held.cap = cap;
  }
  memcpy(held.text + held.n, text, n);
  held.n += n;
  return true;
}

int words_deliver(struct err *e) {
  int code = 0;
  bool whole = fflush(words_out()) == 0 && !ferror(words_out());
  if (!whole) code = err_set(e, ERR_NOMEM, "standard output: out of memory");
  else if (write_all(STDOUT_FILENO, held.text, held.n) < held.n) code = err_set_errno(e, "standard output");
  let_go(true);
  return code;
}

/* --- streams, for all who print --- */

static ssize_t take_out(void *cookie, const char *text, size_t n) {
  (void)cookie;
  if (flows) words_put(WORDS_OUT, text, n);
  else if (!hold(text, n)) return 0;
  return (ssize_t)n;
}

static ssize_t take_err(void *cookie, const char *text, size_t n) {
  (void)cookie;
  words_put(WORDS_ERR, text, n);
  return (ssize_t)n;
}

FILE *words_out(void) { return streams[WORDS_OUT]; }
FILE *words_err(void) { return streams[WORDS_ERR]; }

void words_flow(void) {
  (void)fflush(words_out());
  flows = true;
  if (held.n > 0) words_put(WORDS_OUT, held.text, held.n);
  let_go(true);
}

static bool same_file(int a, int b) {
  struct stat one, other;
  return fstat(a, &one) == 0 && fstat(b, &other) == 0 && one.st_dev == other.st_dev && one.st_ino == other.st_ino;
}

void words_begin(void) {
  for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
    if (fcntl(fd, F_GETFD) < 0) (void)!open("/", O_PATH | O_CLOEXEC);
  signals_change(SIGPIPE, SIG_IGN);
  signals_change(SIGXFSZ, SIG_IGN);
  one_place = same_file(STDOUT_FILENO, STDERR_FILENO);
  streams[WORDS_OUT] = fopencookie(NULL, "w", (cookie_io_functions_t){.write = take_out});
  streams[WORDS_ERR] = fopencookie(NULL, "w", (cookie_io_functions_t){.write = take_err});
  ASSERT(streams[WORDS_OUT] != NULL && streams[WORDS_ERR] != NULL);
  (void)setvbuf(streams[WORDS_OUT], stream_text[WORDS_OUT], _IOFBF, LINE_CAP);
  (void)setvbuf(streams[WORDS_ERR], stream_text[WORDS_ERR], _IOLBF, LINE_CAP);
}
