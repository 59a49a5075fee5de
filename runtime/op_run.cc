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

double CheckHeads(const char* name, const HeadColumns& x, DType dtype, int64_t rows, int64_t heads, int64_t head_dim) {
  CheckActivation(name, x.rows, 2);
  Check(name, x.rows, dtype, {rows, x.rows.dim(1)});
  CHECK_GE(x.first, 0) << name;
  CHECK_LE(x.first + heads * head_dim, x.rows.dim(1)) << name << ": heads beyond the last column";
  return static_cast<double>(rows * heads * head_dim) * static_cast<double>(SizeOf(dtype));
}

void CheckProbability(float dropout) {
  CHECK(dropout >= 0 && dropout < 1) << "dropout probability " << dropout << ", must be in [0, 1)";
}

}  // namespace trefoil
