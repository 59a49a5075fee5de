// What the makers of GPUs say that one can do at best: what MFU is a share of in published reports.
//
//   VendorPeakFlops("NVIDIA H100 80GB HBM3", DType::kBFloat16);    // 989.4e12
#pragma once

#include <string>

#include "runtime/dtype.h"

namespace trefoil {

// FLOP/s of multiply-adds of this dtype, dense (without the doubling for sparse matrices), with float32 sums: on tensor
// cores for bfloat16 and fp8, beside them for float32. `model` is the name that the driver gives (Device::model). 0: not
// in the table, or no figure of this kind; so are parts of a GPU (MIG) and its variants for laptops.
double VendorPeakFlops(const std::string& model, DType dtype);

}  // namespace trefoil
