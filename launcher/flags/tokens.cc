#include "launcher/flags/tokens.h"

#include <gflags/gflags.h>

DEFINE_int32(tokens, 200, "Tokens to write at most behind a text; its end may come before.");
