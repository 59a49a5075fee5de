// A tensor with many slices is divided into bands of rows (of its outermost dim) for looking them up and for checking
// that they tile it: band b of rows [b h, (b + 1) h). Each band has about 16 slices or more, and a slice lies in two
// bands or fewer in the mean, so that what all bands have together is no more than twice the slices. Internal to
// checkpoint/.
//
//   1,024 slices of 4 rows each of a tensor of 4,096 rows: 64 bands of 64 rows
//   8 slices, of columns: one band
#pragma once

#include <cstdint>
#include <vector>

#include "checkpoint/slices.h"

namespace trefoil {

// Of a tensor, or of some ranks' part of it.
struct SliceCount {
  int64_t slices = 0;
  int64_t rows = 0;  // of all of them together
};
SliceCount CountOf(const std::vector<ManifestSlice>& slices);

int64_t BandsFor(const Shape& shape, const SliceCount& count);

// The rows of a tensor divided into `bands`.
class Bands {
 public:
  Bands(const Shape& shape, int64_t bands);
  int64_t count() const { return count_; }
  int64_t First(const Box& box) const { return dims_ == 0 ? 0 : box.offset[0] / height_; }
  int64_t Last(const Box& box) const { return dims_ == 0 ? 0 : (box.offset[0] + box.extent[0] - 1) / height_; }
  // The part of the tensor that a band is.
  Box Region(int64_t band) const;

 private:
  const Shape shape_;
  const int dims_;
  int64_t height_ = 1, count_ = 1;
};

}  // namespace trefoil
