// --top: how many of several results are shown, for the commands that rank some.
#pragma once

#include <gflags/gflags_declare.h>

DECLARE_int32(top);
