/* WRAP(int, close, (int fd)) { ... } defines what the linker calls instead of close (--wrap=close, from the list in
   `wrapped`), beside __real_close. */
#ifndef WORLD_WRAP_H
#define WORLD_WRAP_H

/* Before a definition of ours that shared libraries are to find as well, before the C library's own. */
#define EXPORTED __attribute__((visibility("default")))

#define WRAP(type, name, parameters)        \
  type __real_##name parameters;            \
  type __wrap_##name parameters;            \
  type __wrap_##name parameters

#endif
