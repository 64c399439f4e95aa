/* OpenSSL's randomness. */
#ifndef WORLD_RANDOMNESS_H
#define WORLD_RANDOMNESS_H

void randomness_install(void);     /* from the seed, from now on */

#endif
