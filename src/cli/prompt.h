/* Asking a person for a secret. */
#ifndef CLI_PROMPT_H
#define CLI_PROMPT_H

#include "base/err.h"

/* A line of standard input, NUL-terminated, without its newline. On a terminal it is asked for by `prompt`, on stderr,
   and not shown. ERR_LIMIT when it does not fit; ERR_CLOSED when a signal came first, which is then delivered to the
   process again. The caller wipes it. */
int prompt_secret(const char *prompt, char *out, size_t cap, struct err *e) MUST_USE;

#endif
