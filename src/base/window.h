/* Which numbers have been used, of those that mostly grow: exact for the last WINDOW_NUMBERS up to the highest, and
   whatever lies before them counts as used. A value: all zero has used none. */
#ifndef BASE_WINDOW_H
#define BASE_WINDOW_H

#include "base/cursor.h"

enum { WINDOW_NUMBERS = 1024 };

struct window { uint64_t next, used[WINDOW_NUMBERS / 64]; };   /* private */

bool window_take(struct window *w, uint64_t number);           /* false: it was used */
void window_give_back(struct window *w, uint64_t number);      /* it was not used after all */
enum { WINDOW_BYTES = 8 + WINDOW_NUMBERS / 8 };
void window_write(const struct window *w, struct writer *to);  /* to another process */
void window_read(struct window *w, struct reader *r);          /* and back: any such bytes are a window */

#endif
