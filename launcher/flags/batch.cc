#include "launcher/flags/batch.h"

#include <gflags/gflags.h>

DEFINE_int64(batch, 32, "Texts or images that go through the model at once.");
