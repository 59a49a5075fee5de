#include "launcher/flags/json.h"

#include <gflags/gflags.h>

DEFINE_bool(json, false,
            "A JSON object a line, with the input and all that is said of it: each answer and its probability or score, and "
            "the right one; of what is written why it ended (END, STOP, LIMIT) and its tokens. Of evaluate, one object with "
            "all results.");
