/* The simulated kernel, for the other parts of the world: descriptors and open files, and the network between hosts.
   What it answers is what Linux answers (test_kernel.c asks both). Files never block: whoever may wait does so in the
   wrappers, on the file. Results are 0 or more, or -errno. */
#ifndef WORLD_KERNEL_H
#define WORLD_KERNEL_H

#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "world.h"

void kernel_begin(void);           /* at the beginning of a run: nothing is left of the one before */

/* --- open files: what descriptors of one or several processes refer to (kernel_files.c) --- */

struct file;
struct file_kind {
  const char *name;
  mode_t mode;                     /* S_IFSOCK, S_IFREG, ... */
  ssize_t (*read)(struct file *f, const struct iovec *iov, int n);     /* -EAGAIN: nothing yet; 0: the end */
  ssize_t (*write)(struct file *f, const struct iovec *iov, int n);    /* some of it; -EAGAIN: there is no room */
  uint32_t (*poll)(struct file *f);                                    /* EPOLLIN, ... as it is now */
  int (*ioctl)(struct file *f, unsigned long request, void *arg);      /* NULL: -ENOTTY */
  int (*stat)(struct file *f, struct stat *out);   /* NULL: mode and inode; else it fills in all */
  void (*end)(struct file *f);     /* the last reference has gone: it frees the file */
};

struct file {                      /* embedded, first, in that of its kind */
  const struct file_kind *kind;
  unsigned refs;
  int flags;                       /* O_NONBLOCK, O_RDWR, ... */
  uint64_t inode;                  /* not given twice */
  uint64_t read_limit_ns, write_limit_ns;    /* how long one call waits; 0: as long as it takes */
  struct waiters waiters;
  struct list watches;             /* of epoll */
};

/* In zeroed memory of whoever embeds it; with one reference. */
void file_begin(struct file *f, const struct file_kind *kind, int flags);
struct file *file_ref(struct file *f);
void file_unref(struct file *f);
void file_finish(struct file *f);  /* the last thing that `end` does before it frees: whoever waits for it is woken */
/* It may be ready for something else now; `events` are those that have come, 0: any (epoll's edges go by them). */
void file_changed(struct file *f, uint32_t events);
uint64_t file_next_inode(void);
unsigned files_alive(void);        /* of all processes, and in messages */

/* A descriptor for it in that table, from at_least on, which takes over the caller's reference, also on failure:
   -EMFILE. */
int files_install(struct files *t, struct file *f, int at_least);
struct file *files_get(struct files *t, int fd);     /* NULL: there is none */
struct file *file_of(int fd);                        /* the same for the current process */
int files_close(struct files *t, int fd);
int files_duplicate(struct files *t, int from, int at_least);
int files_duplicate_to(struct files *t, int from, int to);
int files_set_max(struct files *t, unsigned max);    /* RLIMIT_NOFILE */
unsigned files_count(const struct files *t);         /* open ones */
unsigned files_open_max(const struct files *t);

/* Of the disk: the file of a Unix socket, which is known by a number. 0, -ENOENT, -EADDRINUSE, ...; -ECONNREFUSED: it
   is something else. */
int disk_socket_make(const char *path, uint64_t inode);
int disk_socket_find(const char *path, uint64_t *inode);

/* --- the network between hosts (kernel_network.c) --- */

void network_join(struct host *h); /* by host_new */

/* How it behaves from now on. Each is a chance of one in so many (0: never) or a range of which each packet gets its
   own. */
struct weather {
  uint64_t delay_min_ns, delay_max_ns;       /* between hosts, one way */
  uint64_t loopback_delay_max_ns;  /* within a host; 0: a packet arrives as it is sent */
  uint64_t tiny_chunk_one_in;      /* a packet of very few bytes */
  uint64_t small_buffers_one_in;   /* a connection with buffers of a few KiB */
  uint64_t lost_one_in;            /* a packet that is sent again after the retransmission time-out */
  uint64_t disk_max_ns;            /* how long a disk may take to sync, and now and then to write; 0: no time */
  uint64_t no_descriptor_one_in;   /* of calls that make descriptors: EMFILE or ENFILE */
  uint64_t no_memory_one_in;       /* of those: ENOMEM or ENOBUFS */
};
extern struct weather weather;
void network_calm(void);           /* as at a run's beginning: up to 20 ms on the way, and nothing goes wrong */

/* Nothing passes from one to the other and back, until it does again. */
void network_cut(struct host *a, struct host *b, bool cut);
/* A host falls silent: its connections are as if they had never been, and its peers are not told. Its processes are
   killed after that by the caller. Whoever sends to it once it is up again is reset. */
void network_host_down(struct host *h);
void network_host_up(struct host *h);
bool network_host_is_up(const struct host *h);

/* A TCP connection of the current process will break off: as it is closed, an end and a reset go out that arrive at
   once. Who reads then finds an end, as of a clean one, and an error behind it. */
void network_break_off(int fd);

/* Of all connections that stand, one by seed, between different hosts: something on the way has reset it, both ends, or
   lets nothing pass any more in either direction, until network_unstall. False: there is none. */
bool network_reset_one(void);
bool network_stall_one(void);
void network_unstall(void);        /* all that were */
void network_heal(void);           /* the same, and all cuts */
unsigned network_connections(void);          /* how many there are, those that nobody has a descriptor of included */

#endif
