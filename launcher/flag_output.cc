#include "launcher/flag_output.h"

#include <gflags/gflags.h>

DEFINE_string(output, "", "Folder to write to, made if absent; of calibrate, a new file.");
