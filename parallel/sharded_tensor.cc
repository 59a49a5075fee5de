#include "parallel/sharded_tensor.h"

#include <algorithm>

namespace trefoil {
namespace {

// Appends the boxes of elements [begin, end) of `box`, all of whose dims before `dim` have extent 1.
void AppendBoxes(const Box& box, int dim, int64_t begin, int64_t end, std::vector<Box>* boxes) {
  if (begin == end) return;
  if (begin == 0 && end == box.extent.elements()) {
    boxes->push_back(box);
    return;
  }
  // Not the whole box, so there is a dim left to cut.
  const int64_t row = box.extent.elements() / box.extent[dim];
  auto rows = [&](int64_t first, int64_t count) {
    Box part = box;
    part.offset[dim] += first;
    part.extent[dim] = count;
    return part;
  };
  const int64_t first = begin / row, last = end / row;  // the rows in which `begin` and `end` lie
  if (first == last) {
    AppendBoxes(rows(first, 1), dim + 1, begin - first * row, end - first * row, boxes);
    return;
  }
  const int64_t whole = begin % row == 0 ? first : first + 1;
  if (whole > first) AppendBoxes(rows(first, 1), dim + 1, begin - first * row, row, boxes);
  if (last > whole) boxes->push_back(rows(whole, last - whole));
  if (end % row != 0) AppendBoxes(rows(last, 1), dim + 1, 0, end - last * row, boxes);
}

}  // namespace

std::vector<Box> Flatten(const Box& box, int64_t begin, int64_t end) {
  CHECK_EQ(box.offset.rank(), box.extent.rank());
  CHECK(0 <= begin && begin <= end && end <= box.extent.elements())
      << "elements [" << begin << ", " << end << ") of a box " << box.extent;
  std::vector<Box> boxes;
  AppendBoxes(box, 0, begin, end, &boxes);
  return boxes;
}

}  // namespace trefoil
