// --text: a text on the command line, for the commands that take one.
#pragma once

#include <gflags/gflags_declare.h>

DECLARE_string(text);
