#include "launcher/flags/checkpoint.h"

#include <gflags/gflags.h>

DEFINE_string(checkpoint, "",
              "A run's folder (its newest checkpoint that is whole is taken) or one checkpoint's folder.");
