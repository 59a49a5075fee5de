#include "planner/op_calibration.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>
#include <string>

namespace trefoil {
namespace {

// On the null device: which ops are called, at which sizes; that shapes are right is checked by the ops.
TEST(CalibrateOpsTest, EachIsCalledAtSeveralSizes) {
  const std::unique_ptr<Device> device = NewNullDevice();
  OpCount last = {};
  device->Observe([&](const OpCount& count, auto) { last = count; });
  std::set<std::string> names;
  for (const CalibratedOp& op : CalibratedOps()) {
    EXPECT_TRUE(names.insert(op.name).second) << op.name << " twice";
    bool any = false;
    for (const DType dtype : {DType::kFloat32, DType::kBFloat16}) {
      double least = 0, most = 0, least_flops = 0, most_flops = 0;
      int sizes = 0;
      bool product = false;
      op.calls(*device, dtype, [&](const std::function<void()>& call) {
        call();
        EXPECT_EQ(std::string(last.op), op.name);
        EXPECT_GT(last.bytes, 0) << op.name;
        least = sizes == 0 ? last.bytes : std::min(least, last.bytes);
        most = std::max(most, last.bytes);
        most_flops = std::max(most_flops, last.flops);
        least_flops = sizes == 0 ? last.flops : std::min(least_flops, last.flops);
        product = last.product.rows > 0;
        ++sizes;
      });
      if (sizes == 0) continue;  // of float32 alone
      any = true;
      EXPECT_GE(sizes, product ? 15 : 7) << op.name;  // a product's speed has six unknowns
      EXPECT_TRUE(most > 10 * least || most_flops > 100 * least_flops) << op.name;
      EXPECT_LE(most_flops, 7e9) << op.name << " takes too long";
    }
    EXPECT_TRUE(any) << op.name;
    EXPECT_EQ(device->memory().current_total, 0) << op.name << " keeps tensors";
  }
  for (const char* name : {"matmul", "weight_gradient", "attention", "attention_backward", "rms_norm", "adamw"}) {
    EXPECT_TRUE(names.contains(name)) << name;
  }
}

}  // namespace
}  // namespace trefoil
