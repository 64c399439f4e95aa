/* A data connection that comes to a relay whose links are on their way to another process: its own has gone there, and
   it follows. */
#ifndef RELAY_STRAY_H
#define RELAY_STRAY_H

#include "relay/data_connection.h"
#include "relay/worker.h"
#include "wire/data.h"

/* Takes the connection, if this relay hands over and has no more than STRAYS_MAX; else it is the caller's. */
bool stray_keep(struct worker *w, const struct data_connection *data, const struct preface *p);
/* The handover came to nothing, so that their links are here. */
void strays_come_home(struct worker *w);
void strays_close(struct worker *w);

enum { STRAY_EXPORT_MAX_BYTES = 1 << 19 };
/* 0: one has left this process, and fd is the caller's; ERR_CLOSED: there are no more; ERR_LIMIT, ERR_NOMEM. */
int stray_export(struct worker *w, struct buf *state, int *fd) MUST_USE;
/* It comes in here as if it had come to this door. Of any bytes: ERR_SYNTAX, ERR_NOMEM, and fd was not taken. */
int stray_import(struct worker *w, const uint8_t *state, size_t n, int fd) MUST_USE;

#endif
