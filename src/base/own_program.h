/* The file that this program was started from. */
#ifndef BASE_OWN_PROGRAM_H
#define BASE_OWN_PROGRAM_H

#include "base/base.h"

/* By the name it was started by, argv[0], which may be a link to the version of today; found along PATH if need be. To
   be asked at the beginning: later the name may mean another file. out: empty when it cannot be told. */
void own_program_find(const char *name, char *out, size_t cap);

#endif
