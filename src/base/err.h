/* Errors: functions return 0 or one of these negative codes; a struct err, where there is one, carries the text for a
   human. The text follows one form: "what: why (what to do)". */
#ifndef BASE_ERR_H
#define BASE_ERR_H

#include "base/base.h"

enum err_code {
  ERR_NONE = 0,
  ERR_NOMEM = -1,
  ERR_IO = -2,          /* a system call failed; the text has strerror */
  ERR_SYNTAX = -3,      /* malformed bytes or text */
  ERR_LIMIT = -4,       /* a named limit was reached */
  ERR_AUTH = -5,        /* signature, MAC, pin or permission did not hold */
  ERR_CRYPTO = -6,      /* the crypto library failed */
  ERR_NOT_NOW = -7,     /* not possible in this state (OpenSSL has taken the name ERR_STATE) */
  ERR_USAGE = -8,       /* the caller or user asked for something wrong */
  ERR_CLOSED = -9,      /* the peer went away */
  ERR_TIMEOUT = -10,
  ERR_CONFLICT = -11,   /* already there, already in use */
  ERR_UNSUPPORTED = -12
};

enum { ERR_TEXT_MAX = 512 };

struct err {
  int code;
  char text[ERR_TEXT_MAX];
};

/* Fills *e (which may be NULL) and returns code, so that a function can end with `return err_set(...)`. */
int err_set(struct err *e, int code, const char *format, ...) PRINTF_LIKE(3, 4);
/* The same with ": strerror(errno)" appended to the text; the code is ERR_IO. A shortage (base/shortage.h) is noted,
   and its remedy appended. */
int err_set_errno(struct err *e, const char *format, ...) PRINTF_LIKE(2, 3);
/* The same with a remedy for everything but a shortage, which has its own. */
int err_set_errno_remedy(struct err *e, const char *remedy, const char *format, ...) PRINTF_LIKE(3, 4);
/* Puts "prefix: " before a text that is already there. Returns e->code. */
int err_prefix(struct err *e, const char *format, ...) PRINTF_LIKE(2, 3);
const char *err_name(int code);

#endif
