#include "launcher/flags/output.h"

#include <gflags/gflags.h>

DEFINE_string(output, "",
              "Folder to write to, made if absent; of images, FOLDER/NAME for files NAME-*; of calibrate and predict, a new "
              "file. predict without it writes to standard output.");
