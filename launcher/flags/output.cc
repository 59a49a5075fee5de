#include "launcher/flags/output.h"

#include <gflags/gflags.h>

DEFINE_string(output, "",
              "Folder to write to, made if absent; of images, FOLDER/NAME for files NAME-*; of calibrate, predict and "
              "explain, a new file. The last two without it write to standard output.");
