/* A descriptor table for the library's thread alone. It lives in somebody else's process, who may close every
   descriptor that he does not know (closefrom(3)) and open others under the same numbers: what he does to his table
   must not reach ours, nor may we touch what he has. So the thread leaves the process's table when it begins. Threads
   that it starts share its own. */
#ifndef AGENT_OWN_TABLE_H
#define AGENT_OWN_TABLE_H

#include "base/base.h"

enum { OWN_TABLE_KEEP_MAX = 8 };

/* For the calling thread: from here on its descriptors are those n (from 3 up), under the same numbers, and standard
   error, for last words. False: the kernel cannot (before Linux 5.9, or a sandbox), or this process is adit's own
   (descriptors_in_view), and it goes on with the process's table. */
bool own_table_begin(const int *keep, size_t n);

/* What a descriptor of the process's table was when it was ours: whoever has closed it may have another under its
   number now. */
struct descriptor_mark { uint64_t device, inode; };
void descriptor_mark(int fd, struct descriptor_mark *m);   /* of a pipe or socket: only these have inodes of their
                                                              own */
bool descriptor_is(int fd, const struct descriptor_mark *m);
void descriptor_close(int fd, const struct descriptor_mark *m);   /* if it is still that; -1 is fine */
/* The same file under a number that standard input, output and error do not use; fd is closed. -1 with errno. */
int descriptor_above_stdio(int fd);

#endif
