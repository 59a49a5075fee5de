#include "launcher/flags/layout.h"

#include <gflags/gflags.h>

DEFINE_int32(tensor, 0, "Ranks that share each layer's matrices. 0: as many as there are and the model allows.");
DEFINE_int32(pipeline, 0, "Ranks that the layers are shared out to. 0: what --tensor leaves.");
DEFINE_string(precision, "FP32", "FP32 or BF16: of weights and activations, whatever the checkpoint was trained in.");
