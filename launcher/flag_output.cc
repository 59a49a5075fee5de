#include "launcher/flag_output.h"

#include <gflags/gflags.h>

DEFINE_string(output, "",
              "Folder to write to, made if absent; of images, FOLDER/NAME for files NAME-*; of calibrate, a new file.");
