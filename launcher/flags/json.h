// --json, for the commands that say something of many texts.
#pragma once

#include <gflags/gflags_declare.h>

DECLARE_bool(json);
