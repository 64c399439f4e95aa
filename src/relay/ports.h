/* Which raw port is whose: random, O(1) also when nearly exhausted (a shuffled free list), quarantine after release. In
   memory, no I/O: the state database is written by the caller before a port is announced. Not thread-safe. */
#ifndef RELAY_PORTS_H
#define RELAY_PORTS_H

#include "wire/token.h"

struct ports;
/* from..to inclusive, from >= RAW_PORT_MIN. random(p, n) fills p. */
struct ports *ports_new(uint16_t from, uint16_t to, void (*random)(void *user, void *p, size_t n), void *user) MUST_USE;
void ports_free(struct ports *p);
/* A lease read from the state at start: held by or quarantined for its owner's label until free_at_s (0:
   PORT_QUARANTINE_S from now). */
void ports_restore(struct ports *p, uint16_t port, const uint8_t owner[TOKEN_ID_BYTES], const char *label,
                   int64_t free_at_s);
/* What is left of the quarantine that a lease on the disk tells of, whatever has become of the wall clock since. */
int64_t ports_quarantine_left(int64_t free_at_s, int64_t wall_s);
/* A free port at random: ERR_LIMIT when exhausted. Taken (by owner, label) from then on. */
int ports_take(struct ports *p, const uint8_t owner[TOKEN_ID_BYTES], const char *label, int64_t now_s,
               uint16_t *port) MUST_USE;
/* The owner's own port that is longest in quarantine, if it has more than own_max of those. So an owner that opens and
   closes tunnels all day keeps own_max + 1 ports from others, at most, and not the whole range. ERR_NOT_NOW: it has no
   more than own_max. */
int ports_take_own(struct ports *p, const uint8_t owner[TOKEN_ID_BYTES], const char *label, size_t own_max,
                   int64_t now_s, uint16_t *port) MUST_USE;
/* That very port: fine when free, or quarantined for the same owner and label; ERR_CONFLICT otherwise; ERR_USAGE
   outside the range. */
int ports_take_back(struct ports *p, uint16_t port, const uint8_t owner[TOKEN_ID_BYTES], const char *label,
                    int64_t now_s) MUST_USE;
void ports_release(struct ports *p, uint16_t port, int64_t now_s);   /* into quarantine */
void ports_forget(struct ports *p, uint16_t port);   /* held, and nobody was ever told: free at once */
/* Somebody else on this host has it, or it may not be bound: not given to anybody for PORT_EXCLUDED_S. */
void ports_exclude(struct ports *p, uint16_t port, int64_t now_s);

#endif
