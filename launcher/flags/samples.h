// --samples, for the commands that do something several times over.
#pragma once

#include <gflags/gflags_declare.h>

DECLARE_int64(samples);
