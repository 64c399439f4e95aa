/* Tokens in files. The text is wiped: a token is as good as its private key. */
#include "cli/token_file.h"

#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "base/secret.h"
#include "cli/config_file.h"

int token_file_add(struct adit_config *config, const char *path, struct err *e) {
  char *text;
  size_t n;
  int code = config_read(path, TOKEN_TEXT_MAX_CHARS + 64, &text, &n, e);
  if (code != 0) return err_prefix(e, "--token-file");
  code = memchr(text, 0, n) != NULL ? ADIT_ECONFIG : adit_config_add_token(config, text);
  if (code != 0) (void)err_set(e, ERR_NOT_NOW, "--token-file %.200s: it holds no valid token (it should hold the one "
                                               "word that adit token create printed)", path);
  wipe(text, n);
  free(text);
  return code == 0 ? 0 : e->code;
}
