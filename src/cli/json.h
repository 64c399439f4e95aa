/* JSON: a cursor for reading the answers of a relay's admin port. The reader copies nothing, goes
   over the text as often as it is asked, and stops at JSON_DEPTH_MAX. */
#ifndef CLI_JSON_H
#define CLI_JSON_H

#include "base/base.h"

enum { JSON_DEPTH_MAX = 32 };

struct json { const char *at, *end; };             /* one value, without the space around it; at == NULL: none */

/* The value that text is, or none when it is malformed. */
struct json json_of(const char *text, size_t n);
/* The member of an object: none when it is no object or has no such member. Keys with escapes are never found. */
struct json json_member(struct json object, const char *key);
/* The elements of an array, or the members of an object, in order: *at begins as NULL. False at the end. key may be
   NULL. */
bool json_next(struct json container, const char **at, struct json *key, struct json *value);
/* A string's text, unescaped; cut to fit; everything but printable ASCII becomes '?'. Empty for what is no string. */
void json_text(struct json string, char *out, size_t cap);
/* A number without sign and fraction; 0 for everything else. */
uint64_t json_u64(struct json number);
bool json_is_true(struct json value);

#endif
