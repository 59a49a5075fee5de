// --checkpoint: what has been trained, for the commands that use it.
#pragma once

#include <gflags/gflags_declare.h>

DECLARE_string(checkpoint);
