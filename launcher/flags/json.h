// --json, for the commands that say something of each of many texts.
#pragma once

#include <gflags/gflags_declare.h>

DECLARE_bool(json);
