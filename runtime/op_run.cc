#include "runtime/op_run.h"

namespace trefoil {

Traffic Bytes(std::initializer_list<const Tensor*> operands) {
  Traffic traffic;
  bool found = false;
  for (const Tensor* operand : operands) {
    if (!operand->defined()) continue;
    traffic.bytes += static_cast<double>(operand->bytes());
    if (!found && operand->dtype() != DType::kInt32) {
      traffic.dtype = operand->dtype();
      found = true;
    }
  }
  return traffic;
}

void Check(const char* name, const Tensor& tensor, DType dtype, const Shape& shape) {
  CHECK(tensor.defined()) << name << " is undefined";
  CHECK(tensor.dtype() == dtype) << name << " is " << Name(tensor.dtype()) << ", must be " << Name(dtype);
  CHECK(tensor.shape() == shape) << name << " is " << tensor.shape() << ", must be " << shape;
}

void CheckActivation(const char* name, const Tensor& tensor, int rank) {
  CHECK(tensor.defined()) << name << " is undefined";
  CHECK(tensor.dtype() == DType::kFloat32 || tensor.dtype() == DType::kBFloat16)
      << name << " is " << Name(tensor.dtype()) << ", must be float32 or bfloat16";
  CHECK(rank < 0 || tensor.shape().rank() == rank) << name << " is " << tensor.shape() << ", must have rank " << rank;
}

void CheckProbability(float dropout) {
  CHECK(dropout >= 0 && dropout < 1) << "dropout probability " << dropout << ", must be in [0, 1)";
}

}  // namespace trefoil
