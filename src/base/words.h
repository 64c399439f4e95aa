/* Where a command's words go. Standard output and standard error are somebody else's: a pipe whose reader sleeps
   or has gone away, a full disk, a terminal that is stopped or shut, or they were never open. None of that is a
   reason for a command to die or to stand still, so nobody writes there but through here.

   What was asked for (a list, a token, help) is held until the command has done its work, and then delivered, or
   the command fails. An account of what goes on, which is standard error always, and standard output once
   words_flow was called, is written by a thread of its own: who gives it words never waits. What does not fit
   behind words that nobody takes is left out, and so is what cannot be written; at its place, as soon as words
   are taken again, stands how many lines were lost. */
#ifndef BASE_WORDS_H
#define BASE_WORDS_H

#include <stdio.h>

#include "base/err.h"

enum words_place { WORDS_OUT, WORDS_ERR };

/* First of all in main(). Descriptors 0 to 2 that are closed are taken, by what can be neither read nor written:
   else the next file would come to stand there, and be given the words. A failed write is from now on an error
   instead of a signal. */
void words_begin(void);
FILE *words_out(void);
FILE *words_err(void);
/* Standard output is an account, too. */
void words_flow(void);
/* Writes what is held, waiting for as long as its reader takes: 0, or why not. Wipes it, as it may be a token. */
int words_deliver(struct err *e) MUST_USE;

/* From here to words_go_on what words_put is given is kept, and no thread is started that writes. */
void words_wait(void);
void words_go_on(void);
/* In a child of such a process: what waits is its parent's to write, and it writes by itself. */
void words_begin_again(void);
/* One or more whole lines, from any thread. */
void words_put(enum words_place place, const char *text, size_t n);
/* How many bytes are still to be taken. */
size_t words_waiting(enum words_place place);
/* How a loss of so many lines is told there: fills out with a line, returns its length. */
enum { WORDS_NOTE_CAP = 256 };
typedef size_t words_note_fn(uint64_t lines, char out[WORDS_NOTE_CAP]);
void words_tell_loss(enum words_place place, words_note_fn *note);
/* Waits until all was taken, WORDS_END_MS at most. */
void words_settle(void);

#endif
