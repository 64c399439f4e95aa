/* Strings in JSON (RFC 8259 section 7). */
#ifndef BASE_JSON_TEXT_H
#define BASE_JSON_TEXT_H

#include <stdio.h>

/* text with quotes; NULL is written as null. Bytes that are not UTF-8 become U+FFFD, so what is written is valid
   whoever chose the text. */
void json_put_text(FILE *to, const char *text);

#endif
