#include "launcher/flags/text.h"

#include <gflags/gflags.h>

DEFINE_string(text, "",
              "Of inspect, a text to encode, with a tokenizer, or a run that has one: its tokens are listed. Of "
              "predict, the text to predict for, in place of files. Of explain, the text to show the attention of.");
