/* Tokens in files, for the commands that use one. */
#ifndef CLI_TOKEN_FILE_H
#define CLI_TOKEN_FILE_H

#include "adit.h"
#include "base/err.h"

/* Adds the token of --token-file. */
int token_file_add(struct adit_config *config, const char *path, struct err *e) MUST_USE;

#endif
