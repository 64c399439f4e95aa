/* Making a folder and what is missing above it, for its owner alone (mkdir -p, 0700), to outlast a power cut. */
#ifndef BASE_FOLDERS_H
#define BASE_FOLDERS_H

#include "base/err.h"

/* 0, or the errno; then path, which is written to meanwhile, ends behind the folder that could not be made. */
int folders_make(char *path) MUST_USE;

#endif
