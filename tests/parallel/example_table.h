// A small network's parameters for the tests of where they lie: an embedding whose matrix is tied to the head's, two
// blocks with fused, column-split, row-split and unsplit ones, a last norm. Modules 0 to 3.
#pragma once

#include <functional>

#include "parallel/parameter.h"
#include "parallel/sharded_tensor.h"

namespace trefoil {

ParameterTable ExampleTable();

// Calls visit(index in the global tensor, index in the box) for each element of the box.
void ForEachElement(const Shape& global, const Box& box, const std::function<void(size_t, size_t)>& visit);

}  // namespace trefoil
