/* A relay of one's own, as a child process on loopback, for a client without a token. */
#ifndef AGENT_EMBEDDED_H
#define AGENT_EMBEDDED_H

#include "agent/client.h"

/* Starts `program relay --embedded 3`, whose descriptor 3 is a socketpair. It hands that to the relay that this user's
   programs share, or becomes it; that writes "TOKEN <token>\nCA <path>\nAGENTS unix:<path>\n" on it when it listens,
   nothing behind AGENTS where no Unix socket can be, and lives for us until it reads EOF there: so until this process
   dies, however that does. One that dies is started again. Reports by client_embedded_*. */
struct embedded *embedded_start(struct adit_client *c, const char *program, struct err *e) MUST_USE;
/* To another program and back, with our end of its descriptor, which may be a copy: one that is ready goes on. The new
   program is its parent as we were. ERR_SYNTAX, ERR_NOMEM: nothing was taken. */
enum { EMBEDDED_EXPORT_BYTES = 17 };
bool embedded_is_ready(const struct embedded *m);
int embedded_fd(const struct embedded *m);
void embedded_export(const struct embedded *m, struct writer *w);
int embedded_import(struct adit_client *c, const char *program, struct reader *r, int fd,
                    struct embedded **out) MUST_USE;
void embedded_stop(struct embedded *m);          /* ends and reaps the child, in two seconds at most; NULL is fine */

/* A copy of this process's environment, to be taken by a thread of the host's; NULL: out of memory. */
char **embedded_environment(void) MUST_USE;
void embedded_environment_free(char **environment);

#endif
