#include "launcher/flags/from_to.h"

#include <gflags/gflags.h>

DEFINE_string(from, "", "Import: a folder of Hugging Face's, or a file NAME.gguf. Export: a run's folder, or a checkpoint's.");
DEFINE_string(to, "", "The folder to write to, made if absent. Import: a run's, that has no checkpoints.");
