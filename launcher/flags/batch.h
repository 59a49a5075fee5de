// --batch, for the commands that let many texts or images through a model.
#pragma once

#include <gflags/gflags_declare.h>

DECLARE_int64(batch);
