#include "launcher/flags/top.h"

#include <gflags/gflags.h>

DEFINE_int32(top, 0,
             "How many to list, the best first: of plan --search layouts, 0: 10; of predict what it predicts, 0: 1.");
