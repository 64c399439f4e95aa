/* The monotonic clock. What runs in a loop has loop_now_ms, which stands still during a turn. */
#ifndef BASE_CLOCK_H
#define BASE_CLOCK_H

#include <stdint.h>

uint64_t clock_ns(void);
uint64_t clock_us(void);
uint64_t clock_ms(void);

#endif
