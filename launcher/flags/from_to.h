// --from and --to: what is turned into something else, for the commands that do so.
#pragma once

#include <gflags/gflags_declare.h>

DECLARE_string(from);
DECLARE_string(to);
