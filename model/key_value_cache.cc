#include "model/key_value_cache.h"

#include <glog/logging.h>

#include "runtime/ops.h"

namespace trefoil {

Tensor KeyValueCache::Of(const std::string& layer, int64_t text, int64_t tokens, int64_t columns, DType dtype) {
  CHECK(text >= 0 && text < texts_) << "text " << text << " of " << texts_;
  CHECK_LE(tokens, capacity_) << "tokens of a text in the cache";
  const auto [found, is_new] = layers_.try_emplace(layer);
  Tensor& rows = found->second;
  if (is_new) rows = device_.Allocate(dtype, {texts_ * capacity_, columns}, Purpose::kCache);
  CHECK(rows.dtype() == dtype && rows.dim(1) == columns) << layer;
  return rows.Rows(text * capacity_, text * capacity_ + tokens);
}

void KeyValueCache::Copy(int64_t from, int64_t to, int64_t tokens) {
  if (from == to) return;
  for (const auto& [layer, rows] : layers_) {
    const int64_t columns = rows.dim(1);
    CopyColumns(device_, {Of(layer, from, tokens, columns, rows.dtype()), 0}, columns,
                {Of(layer, to, tokens, columns, rows.dtype()), 0});
  }
}

}  // namespace trefoil
