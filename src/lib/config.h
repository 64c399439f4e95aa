/* The inside of struct adit_config. */
#ifndef LIB_CONFIG_H
#define LIB_CONFIG_H

#include "adit.h"
#include "agent/setup.h"

struct adit_config {
  struct setup setup;
  bool has_proxy;                  /* or knows that there is none */
  struct err err;
};

#endif
