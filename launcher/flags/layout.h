// --tensor, --pipeline, --precision: how a model that is trained lies on the ranks, for the commands that use it on several.
#pragma once

#include <gflags/gflags_declare.h>

DECLARE_int32(tensor);
DECLARE_int32(pipeline);
DECLARE_string(precision);
