#include "launcher/flags/samples.h"

#include <gflags/gflags.h>

DEFINE_int64(samples, 0,
             "Of generate, texts to write for each prompt; number 0, 1 ... has the seed --seed, --seed + 1 ... 0: one. Of "
             "explain, held-out samples to take the mean of losses and gradients of; 0: 256.");
