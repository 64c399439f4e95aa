/* Structured logs to stderr: one line an event, "time level event key=value ..." or the same as JSON. Values are
   escaped. Only daemons and the command line log; the library hands events to its caller instead and never includes
   this. */
#ifndef BASE_LOG_H
#define BASE_LOG_H

#include "base/base.h"

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR, LOG_OFF };

void log_setup(enum log_level level, bool json);
bool log_enabled(enum log_level level);
int log_level_parse(const char *text, enum log_level *out) MUST_USE;

/* log_event(LOG_INFO, "tunnel_open", "label", label, "port", LOG_U64(port), NULL): pairs of strings, NULL-terminated.
   A NULL value is logged as empty. */
void log_event(enum log_level level, const char *event, ...) __attribute__((sentinel));
/* Values that are numbers and truth values in JSON, too. Each is two arguments: the mark is known by its address, so
   that no text from outside can pass for one. The text of LOG_U64 is part of a temporary value: it is
   there for the call of log_event that it is written in, and not to be kept. */
struct log_number { char text[24]; };
struct log_number log_u64(uint64_t v);
extern const char log_unquoted[];
#define LOG_U64(v) log_unquoted, (log_u64((uint64_t)(v)).text)
#define LOG_BOOL(v) log_unquoted, ((v) ? "true" : "false")

#endif
