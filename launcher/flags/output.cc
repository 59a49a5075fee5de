#include "launcher/flags/output.h"

#include <gflags/gflags.h>

DEFINE_string(output, "",
              "Folder to write to, made if absent; of images, FOLDER/NAME for files NAME-*; of calibrate, predict, "
              "explain and evaluate, a new file. Predict and explain without it write to standard output; evaluate writes JSON "
              "to it, and a table to standard output all the same.");
