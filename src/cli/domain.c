/* See domain.h. One check for all commands: what one of them takes, another must not refuse. */
#include "cli/domain.h"

#include <string.h>

#include "base/addr.h"

int domain_check(const char *name, struct err *e) {
  if (!host_name_is_valid(name) || host_is_ip(name) || strchr(name, '.') == NULL)
    return err_set(e, ERR_USAGE, "%.60s: not a domain name (such as r1.example.com)", name);
  if (strpbrk(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") != NULL)
    return err_set(e, ERR_USAGE, "%.60s: has capital letters (write it in lower case)", name);
  return 0;
}
