/* Rules that are looked at while the world runs, wherever what they are about passes by. A rule that is broken ends the
   run (world_fail). aead_new and aead_seal are watched for a key that is used twice with one number, and open_decode
   for an OPEN that an agent takes twice for one visitor; what talk.c can see for itself it does. */
#ifndef WORLD_WATCH_H
#define WORLD_WATCH_H

#include <stdint.h>

void watch_begin(void);            /* of a run: nothing has been seen */
/* An app has been connected to a visitor, who is known by a number of his own: a stream is opened at most once. */
void watch_opened(uint64_t visitor);
/* An owner has been told an address of his: nobody else is, as long as a run lasts; a port that nobody holds any more
   is left alone for an hour. */
void watch_address(unsigned owner, const char *host, uint16_t port);
/* The address of an agent that keeps it: it is told the same each time. */
void watch_kept_address(const char *host, uint16_t port);

#endif
