/* What is kept must be on the disk before it is relied upon, and a disk may hang: so one write at a time is under
   way, in a thread of its own, and what is newer waits for its end. */
#include "agent/keep.h"

#include <stdlib.h>
#include <string.h>

#include "agent/ticket_file.h"
#include "agent/ticket_write.h"
#include "base/secret.h"

void keep_init(struct keep *k, const char *file) { *k = (struct keep){.file = file}; }

int keep_read(struct keep *k, struct err *e) {
  if (k->file == NULL) return 0;
  struct ticket_file *f = malloc(sizeof *f);
  if (f == NULL) return err_set(e, ERR_NOMEM, "keep file %s: out of memory", k->file);
  bool found;
  int r = ticket_file_read(k->file, f, &found, e);
  if (r == 0 && found) {
    /* The higher incarnation wins the address, so ours must be on disk before it is shown to anyone. */
    f->incarnation++;
    r = ticket_file_write(k->file, f, e);
    memcpy(k->ticket, f->ticket, f->ticket_n);
    k->ticket_n = f->ticket_n;
    k->incarnation = f->incarnation;
    memcpy(k->relay, f->relay, sizeof k->relay);
  } else if (r == 0) {
    r = ticket_file_probe(k->file, e);   /* now, not once an address is shown that will be lost */
  }
  wipe(f, sizeof *f);
  free(f);
  if (r == ERR_IO) r = e->code = ERR_SYNTAX;   /* a file that does not do is a wrong setting, whatever is wrong */
  return r;
}

bool keep_set(struct keep *k, const uint8_t *ticket, size_t n) {
  if (n == 0 || n > sizeof k->ticket) return false;
  memcpy(k->ticket, ticket, n);
  k->ticket_n = n;
  return true;
}

void keep_forget(struct keep *k) {
  k->ticket_n = 0;
  k->incarnation = 0;
  k->set_aside = true;
}

static void keep_told(void *user, const struct err *e, const char *old) {
  struct keep *k = user;
  if (e->code != 0 && old == NULL && k->setting_aside) k->set_aside = true;
  k->setting_aside = false;
  k->handlers->told(k, e, old);
}

static void keep_written(void *user, const struct err *e, const char *old) {
  struct keep *k = user;
  bool again = k->again;
  k->write = NULL;
  k->again = false;
  keep_told(k, e, old);
  k->handlers->ended(k, again);
}

/* set_aside is of what lies in the file now, so it is taken off as the write begins. Were it taken off at the end, the
   mark of a ticket that is refused while it is being written would be lost, though that ticket is in the file by then,
   and is for the next write to set aside. */
void keep_write(struct keep *k, struct loop *l, const char *relay, const char *host,
                const struct keep_handlers *handlers) {
  if (k->file == NULL || k->ticket_n == 0) return;
  if (k->write != NULL) {
    k->again = true;
    return;
  }
  k->handlers = handlers;
  k->written_ms = loop_now_ms(l);
  struct ticket_file f = {.incarnation = k->incarnation, .ticket_n = k->ticket_n};
  strncpy(f.relay, relay, sizeof f.relay - 1);
  strncpy(f.host, host, sizeof f.host - 1);
  memcpy(f.ticket, k->ticket, k->ticket_n);
  k->setting_aside = k->set_aside;
  k->set_aside = false;
  k->write = ticket_write_start(l, k->file, &f, k->setting_aside, keep_written, k);
  if (k->write == NULL) ticket_write_now(k->file, &f, k->setting_aside, keep_told, k);
}

bool keep_is_writing(const struct keep *k) { return k->write != NULL; }

void keep_give_up(struct keep *k) {
  if (k->write != NULL) ticket_write_give_up(k->write);
  k->write = NULL;
  k->again = false;
}

static void keep_hangs(struct loop_timer *t) {
  struct keep *k = CONTAINER_OF(t, struct keep, limit);
  keep_give_up(k);
  k->handlers->ended(k, false);
}

bool keep_may_end(struct keep *k, struct loop *l) {
  if (loop_timer_is_set(&k->limit) || loop_timer_set(l, &k->limit, TICKET_CLOSE_MS, keep_hangs) == 0) return true;
  keep_give_up(k);
  return false;
}
