// --overwrite: for the commands that write a set of files.
#pragma once

#include <gflags/gflags_declare.h>

DECLARE_bool(overwrite);
