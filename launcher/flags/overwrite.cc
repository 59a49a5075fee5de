#include "launcher/flags/overwrite.h"

#include <gflags/gflags.h>

DEFINE_bool(overwrite, false, "Replace the files of this kind that are there.");
