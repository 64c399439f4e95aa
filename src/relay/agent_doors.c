/* Doors for agents. There is no SO_REUSEPORT between Unix sockets: the workers share each. */
#include "relay/agent_doors.h"

#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "loop/net.h"
#include "relay/heir.h"
#include "relay/shared.h"
#include "relay/worker.h"

static const char embedded_name[] = "relay-%d.sock";   /* by its process */
static const char status_name[] = "status-%u.sock";    /* by its port, which its programs know */
static const char shared_folder[] = "agents";          /* and nothing else: containers see it whole, ... */
static const char shared_name[] = "agents/%s.sock";    /* ... and so one that follows on one that died */

static int door_open_at(struct relay *r, struct agent_door *door, const struct addr *at, struct err *e) {
  struct stat st;
  *door = (struct agent_door){.fd = heir_listener(r->heir, ROLE_AGENTS, at, 0, 1)};
  if (door->fd < 0) door->fd = net_listen_unix(at, LISTEN_BACKLOG, e);
  if (door->fd < 0) return door->fd;
  if (lstat(at->u.un.sun_path, &st) == 0) {
    door->dev = st.st_dev;
    door->ino = st.st_ino;
  }
  return 0;
}

static int agent_door_open_at(struct relay *r, const struct addr *at, struct err *e) {
  int rc = door_open_at(r, &r->agent_doors[r->agent_doors_n], at, e);
  if (rc == 0) r->agent_doors_n++;
  return rc;
}

/* By now it may be another's. */
static bool is_its_file(const struct agent_door *door, const char *path) {
  struct stat st;
  return door->ino != 0 && lstat(path, &st) == 0 && st.st_dev == door->dev && st.st_ino == door->ino;
}

static void door_close(const struct agent_door *door, const struct addr *at) {
  net_close(door->fd);
  if (is_its_file(door, at->u.un.sun_path)) net_unlink_unix(at);
}

static bool path_of(const struct relay *r, const char *name, char out[UNIX_PATH_MAX_BYTES + 1]) {
  int n = snprintf(out, UNIX_PATH_MAX_BYTES + 1, "%s/%s", r->options->state_dir, name);
  return n > 0 && n <= UNIX_PATH_MAX_BYTES;
}

/* What embedded relays have left that were killed. They may be in another namespace of processes, and then they
   listen. */
static void sweep(const struct relay *r) {
  char path[UNIX_PATH_MAX_BYTES + 1];
  DIR *folder = opendir(r->options->state_dir);
  struct dirent *entry;
  unsigned port;
  int pid;
  while (folder != NULL && (entry = readdir(folder)) != NULL) {
    bool is_status = sscanf(entry->d_name, status_name, &port) == 1;
    if (!is_status && (sscanf(entry->d_name, embedded_name, &pid) != 1 || kill(pid, 0) == 0 || errno != ESRCH))
      continue;
    if (!path_of(r, entry->d_name, path)) continue;
    struct addr at = addr_unix(path);
    net_unlink_left_over(&at);
  }
  if (folder != NULL) closedir(folder);
}

/* Its user works without it, too. */
static void open_status(struct relay *r) {
  char name[32], path[UNIX_PATH_MAX_BYTES + 1];
  (void)snprintf(name, sizeof name, status_name, (unsigned)addr_port(&r->options->listens[0]));
  if (!path_of(r, name, path)) return;
  const struct addr at = addr_unix(path);
  if (door_open_at(r, &r->status_door, &at, NULL) == 0) r->options->admin = at;
}

/* Its user works without it, too: it is for those who are elsewhere, as in containers. They are not to hold up one
   another. */
static void open_embedded(struct relay *r) {
  char name[sizeof shared_name + SHARED_KEY_CHARS], path[UNIX_PATH_MAX_BYTES + 1];
  struct relay_options *o = r->options;
  sweep(r);
  open_status(r);
  if (o->shared != NULL) {
    (void)mkdirat(o->shared->folder_fd, shared_folder, 0711);
    (void)!fchmodat(o->shared->folder_fd, shared_folder, 0711, 0);   /* whatever the umask */
    (void)snprintf(name, sizeof name, shared_name, o->shared->key);
  } else {
    (void)snprintf(name, sizeof name, embedded_name, (int)getpid());
  }
  if (!path_of(r, name, path)) return;
  o->agent_listens[0] = addr_unix(path);
  o->agent_listens_n = agent_door_open_at(r, &o->agent_listens[0], NULL) == 0 ? 1 : 0;
  if (o->agent_listens_n == 0 || net_takes_no_descriptors(r->agent_doors[0].fd)) return;
  agent_doors_close(r);
  o->agent_listens_n = 0;
}

int agent_doors_open(struct relay *r, struct err *e) {
  const struct relay_options *o = r->options;
  int rc = 0;
  if (relay_is_embedded(r)) open_embedded(r);
  else
    for (size_t i = 0; rc == 0 && i < o->agent_listens_n; i++) rc = agent_door_open_at(r, &o->agent_listens[i], e);
  if (rc == 0 && r->agent_doors_n > 0 && !net_takes_no_descriptors(r->agent_doors[0].fd))
    log_event(LOG_WARN, "listen_unix_can_be_held_up", "why",
              "this kernel lets whoever connects send descriptors, and some hold up who gets them", "what_to_do",
              "let only agents that you trust enter the socket's folder, or use Linux 6.16 or later", NULL);
  return rc;
}

void agent_doors_close(struct relay *r) {
  for (size_t i = 0; i < r->agent_doors_n; i++) door_close(&r->agent_doors[i], &r->options->agent_listens[i]);
  r->agent_doors_n = 0;
}

void agent_doors_leave(struct relay *r) {
  for (size_t i = 0; i < r->agent_doors_n; i++) net_close(r->agent_doors[i].fd);
  r->agent_doors_n = 0;
}

void status_door_close(struct relay *r) {
  if (r->status_door.ino != 0) door_close(&r->status_door, &r->options->admin);
  r->status_door = (struct agent_door){.fd = -1};
}
