/* The parts of `adit token` that do no I/O on the state folder. */
#ifndef CLI_TOKEN_H
#define CLI_TOKEN_H

#include <stdio.h>

#include "relay/state.h"

int token_check_name(const char *name, struct err *e) MUST_USE;
/* "[NAME=]HOST:PORT"; the name is empty when not given, the pin is not set. */
int token_parse_relay(const char *text, struct token_relay *out, struct err *e) MUST_USE;
/* One line of `adit token list`, for people and for programs. */
void token_put_row(FILE *to, const struct state_token *t, int64_t at_s);
void token_put_json(FILE *to, const struct state_token *t, int64_t at_s);
void token_put_members(FILE *to, const struct state_token *t, int64_t at_s); /* the inside of that object */

#endif
