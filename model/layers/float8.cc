#include "model/layers/float8.h"

namespace trefoil {

Float8Operand ToFloat8(const Context& context, const Tensor& x, DType format, Layouts layouts) {
  const auto make = [&](Shape shape) { return context.device.Allocate(format, shape, Purpose::kActivations); };
  Float8Operand operand;
  if (layouts != Layouts::kTransposed) operand.plain = make(x.shape());
  if (layouts != Layouts::kPlain) operand.transposed = make({x.dim(1), x.dim(0)});
  operand.scale = context.NewFloat({1});
  Quantize(context.device, x, operand.plain, operand.transposed, operand.scale);
  return operand;
}

}  // namespace trefoil
