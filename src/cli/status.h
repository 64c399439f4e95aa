/* The parts of `adit status` that do no I/O. */
#ifndef CLI_STATUS_H
#define CLI_STATUS_H

#include <stdio.h>

#include "base/err.h"

/* The body of an HTTP answer with status 200; else a text that says what came instead. */
int status_body(const char *answer, size_t n, const char **body, size_t *body_n, struct err *e) MUST_USE;
/* A relay's /status as tables for people. */
int status_show(FILE *to, const char *text, size_t n, struct err *e) MUST_USE;

#endif
