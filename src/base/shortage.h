/* Running out of descriptors, or of the kernel's memory for them. It must not pass in silence, and it is met far from
   anybody who could say so: the library never logs. So whoever asks the kernel for a descriptor tells why it was
   refused, and whoever runs the thread listens. */
#ifndef BASE_SHORTAGE_H
#define BASE_SHORTAGE_H

#include "base/base.h"

/* What to do about this errno when it is a shortage (EMFILE, ENFILE, ENOMEM, ENOBUFS), in a few words; else NULL. */
const char *shortage_remedy(int error);
/* The errno of a call that was to make a descriptor: whether it is a shortage. If so this thread's listener is told.
   errno stays as it is. */
bool shortage_note(int error);
/* From now on heard(user, error) is called for each shortage that this thread meets. */
void shortage_listen(void (*heard)(void *user, int error), void *user);

#endif
