/* A tunnel's ticket, and the file of --keep in which it is to outlive the program. The file is read and probed by the
   host's thread before the tunnel is shown to the loop's, whose alone all is from then on. */
#ifndef AGENT_KEEP_H
#define AGENT_KEEP_H

#include "base/limits.h"
#include "loop/loop.h"
#include "wire/ticket.h"

struct keep;
struct ticket_write;
struct keep_handlers {
  /* Of each write, before `ended`. e->code is 0 once the file is on disk. old: the name that what was there before has
     now; NULL when it was not set aside. */
  void (*told)(struct keep *k, const struct err *e, const char *old);
  /* Not of one that was over before keep_write returned. again: there is something newer to write. */
  void (*ended)(struct keep *k, bool again);
};

struct keep {                      /* embedded in its tunnel; the fields are for reading */
  const char *file;                /* the tunnel's; NULL: none */
  const struct keep_handlers *handlers;
  uint8_t ticket[TICKET_MAX_BYTES];
  size_t ticket_n;                 /* 0: none */
  uint32_t incarnation;
  char relay[HOST_NAME_MAX_CHARS + 1];   /* whose ticket the file had */
  uint64_t written_ms;             /* when the last write began */
  struct ticket_write *write;      /* under way */
  bool again;                      /* there is something newer to write */
  bool set_aside;                  /* the file has the ticket of an address that was refused: it must not be lost */
  bool setting_aside;              /* the write under way sees to it */
  struct loop_timer limit;         /* of how long the disk is waited for */
};

void keep_init(struct keep *k, const char *file);
/* The ticket from the file, whose incarnation is one higher by then; without one, whether a file could be written. */
int keep_read(struct keep *k, struct err *e) MUST_USE;
bool keep_set(struct keep *k, const uint8_t *ticket, size_t n);  /* a new one; false: that is none */
void keep_forget(struct keep *k);                /* it was refused: the next address is a new one */
/* Writes the ticket, or does so once the write under way has ended. Fine without a file or a ticket. */
void keep_write(struct keep *k, struct loop *l, const char *relay, const char *host,
                const struct keep_handlers *handlers);
bool keep_is_writing(const struct keep *k);
/* From now on the write under way has TICKET_CLOSE_MS; then it is given up, and has ended. False: it was given up. */
bool keep_may_end(struct keep *k, struct loop *l);
void keep_give_up(struct keep *k);               /* no write replaces the file any more, and `ended` is not called */

#endif
