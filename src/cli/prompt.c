/* See prompt.h. Whatever ends the reading, the terminal must show again what is typed. */
#include "cli/prompt.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

#include "base/signals.h"
#include "base/words.h"

static volatile sig_atomic_t caught;

static void on_signal(int number) { caught = number; }

static int read_line(char *out, size_t cap, struct err *e) {
  size_t n = 0;
  for (;;) {
    ssize_t got = caught ? -1 : read(STDIN_FILENO, out + n, cap - n);
    if (caught) return err_set(e, ERR_CLOSED, "standard input: interrupted (try again)");
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return err_set(e, ERR_IO, "standard input: %s (is it open?)", strerror(errno));
    n += (size_t)got;
    if (n == cap) return err_set(e, ERR_LIMIT, "standard input: longer than %zu bytes (give one word only)", cap - 1);
    out[n] = 0;
    if (got == 0 || out[n - 1] == '\n') break;
  }
  out[strcspn(out, "\r\n")] = 0;
  return 0;
}

static int read_unseen(const char *prompt, const struct termios *shown, char *out, size_t cap, struct err *e) {
  static const int signals[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT};
  struct sigaction before[ARRAY_LEN(signals)], catch = {.sa_handler = on_signal};
  struct termios unseen = *shown;
  caught = 0;
  for (size_t i = 0; i < ARRAY_LEN(signals); i++)
    (void)sigaction(signals[i], signals_ignored(signals[i]) ? NULL : &catch, &before[i]);
  unseen.c_lflag &= ~(tcflag_t)ECHO;
  unseen.c_lflag |= ECHONL;
  int code = tcsetattr(STDIN_FILENO, TCSAFLUSH, &unseen) != 0 ? err_set_errno(e, "terminal") : 0;
  (void)fputs(prompt, words_err());
  (void)fflush(words_err());
  if (code == 0) code = read_line(out, cap, e);
  (void)tcsetattr(STDIN_FILENO, TCSAFLUSH, shown);
  for (size_t i = 0; i < ARRAY_LEN(signals); i++) (void)sigaction(signals[i], &before[i], NULL);
  if (caught) {
    (void)fputc('\n', words_err());
    words_settle();
    (void)raise(caught);
  }
  return code;
}

int prompt_secret(const char *prompt, char *out, size_t cap, struct err *e) {
  struct termios shown;
  if (tcgetattr(STDIN_FILENO, &shown) == 0) return read_unseen(prompt, &shown, out, cap, e);
  caught = 0;
  return read_line(out, cap, e);
}
