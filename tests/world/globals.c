/* The variables of the program under test. Every simulated process has its own, as real ones do: the linker puts them
   together (globals.ld), and they change places whenever another process runs. So do the thread-local ones, with
   the task. */
#include <elf.h>
#include <link.h>
#include <string.h>

#include "base/base.h"
#include "scheduler.h"

extern char world_globals_start[], world_globals_end[];    /* globals.ld */

static char *as_begun;             /* before anything has run */
static struct globals *loaded;     /* a copy: whose variables are in their place; NULL: nobody's */
static struct { char *at; size_t bytes; char *as_begun; } locals;

static size_t globals_bytes(void) { return (size_t)(world_globals_end - world_globals_start); }

/* The first object is the program itself. */
static int find_locals(struct dl_phdr_info *info, size_t bytes, void *user) {
  (void)bytes, (void)user;
  for (int i = 0; i < info->dlpi_phnum; i++)
    if (info->dlpi_phdr[i].p_type == PT_TLS) locals.bytes = info->dlpi_phdr[i].p_memsz;
  locals.at = info->dlpi_tls_data;
  return 1;
}

static void *copy_of(const void *from, size_t bytes) {
  void *copy = world_alloc(bytes + 1);
  if (bytes > 0) memcpy(copy, from, bytes);
  return copy;
}

void globals_begin(void) {
  loaded = NULL;
  if (as_begun != NULL) return;
  as_begun = copy_of(world_globals_start, globals_bytes());
  (void)dl_iterate_phdr(find_locals, NULL);
  locals.as_begun = copy_of(locals.at, locals.bytes);
}

struct globals *globals_new(void) { return copy_of(as_begun, globals_bytes()); }

void globals_free(struct globals *g) {
  if (loaded == g) loaded = NULL;
  world_free(g);
}

void globals_load(struct globals *g) {
  if (loaded == g) return;
  if (loaded != NULL) memcpy(loaded, world_globals_start, globals_bytes());
  memcpy(world_globals_start, g, globals_bytes());
  loaded = g;
}

size_t thread_locals_bytes(void) { return locals.bytes; }
void thread_locals_init(void *copy) { memcpy(copy, locals.as_begun, locals.bytes); }
void thread_locals_save(void *copy) { memcpy(copy, locals.at, locals.bytes); }
void thread_locals_load(const void *copy) { memcpy(locals.at, copy, locals.bytes); }
