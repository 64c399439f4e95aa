/* What every public call checks first. */
#ifndef LIB_HANDLE_H
#define LIB_HANDLE_H

#include "agent/client.h"
#include "agent/tunnel.h"

/* 0; or the error of a NULL or foreign pointer, or ADIT_EFORKED in a child, which closes its copies of our descriptors
   here. */
int handle_check_client(const struct adit_client *c) MUST_USE;
int handle_check_tunnel(const struct adit_tunnel *t) MUST_USE;

#endif
