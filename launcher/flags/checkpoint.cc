#include "launcher/flags/checkpoint.h"

#include <gflags/gflags.h>

DEFINE_string(checkpoint, "",
              "A run's folder (of its checkpoints the best is taken where it stops early, else the newest) or one "
              "checkpoint's folder.");
