// --tokens: how much a model writes, for the commands that let it write.
#pragma once

#include <gflags/gflags_declare.h>

DECLARE_int32(tokens);
