// --input: what a command reads, for the commands that read files.
#pragma once

#include <gflags/gflags_declare.h>

DECLARE_string(input);
