// --output: the folder or file that a command writes, for the commands that have one.
#pragma once

#include <gflags/gflags_declare.h>

DECLARE_string(output);
