// What attention is told besides the values: which tokens of a sequence, which heads, where they lie, what to drop.
// The ops are in runtime/ops.h.
//
//   AttentionShape shape = {.batch = 2, .tokens = 1024, .heads = 12, .kv_heads = 12, .head_dim = 64};   // a decoder's
//   Attention(device, FusedHeads(qkv, shape), shape, {}, out, log_sum_exp);
//
//   // Rank 1 of 4 that share a sequence of 4096 tokens in zigzag: its queries against the keys of rank 2.
//   shape.tokens = {{512, 512}, {3072, 512}};
//   shape.key_tokens = TokenRanges{{1024, 512}, {2560, 512}};
//   Attention(device, SeparateHeads(q, kv, shape), shape, {}, part, part_log_sum_exp);
//   MergeAttention(device, out, log_sum_exp, part, part_log_sum_exp);
//
//   // An encoder's, over samples of which the first has 700 tokens and the second all 1024.
//   AttentionShape encoder = {.batch = 2, .tokens = 1024, .heads = 12, .kv_heads = 12, .head_dim = 64};
//   encoder.causal = false;
//   encoder.lengths = lengths;   // int32 on the device: 700, 1024
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <initializer_list>
#include <optional>

#include "runtime/tensor.h"

namespace trefoil {

// The positions first .. first + tokens - 1 of a sequence.
struct TokenRange {
  int64_t first = 0, tokens = 0;
  bool operator==(const TokenRange&) const = default;
};

// Which tokens of a sequence a tensor's rows are, in their order: at most kMost ranges, ascending and apart; any may be
// empty. Who gathers more of them puts them in order, where neighbours make one.
class TokenRanges {
 public:
  static constexpr int kMost = 4;

  constexpr TokenRanges() = default;
  // The first tokens of a sequence.
  constexpr TokenRanges(int64_t tokens) : ranges_{{0, tokens}} {}
  TokenRanges(std::initializer_list<TokenRange> ranges) {
    CHECK_LE(ranges.size(), static_cast<size_t>(kMost)) << "ranges of tokens";
    int64_t end = 0;
    int i = 0;
    for (const TokenRange& range : ranges) {
      CHECK_GE(range.first, end) << "ranges of tokens ascend";
      CHECK_GE(range.tokens, 0);
      end = range.first + range.tokens;
      ranges_[i++] = range;
    }
  }

  // All together: rows.
  constexpr int64_t tokens() const {
    int64_t sum = 0;
    for (int i = 0; i < kMost; ++i) sum += ranges_[i].tokens;
    return sum;
  }
  constexpr const TokenRange& operator[](int i) const { return ranges_[i]; }
  // Of a row below tokens().
  constexpr int64_t Position(int64_t row) const {
    for (int i = 0; i < kMost - 1; ++i) {
      if (row < ranges_[i].tokens) return ranges_[i].first + row;
      row -= ranges_[i].tokens;
    }
    return ranges_[kMost - 1].first + row;
  }
  // How many rows have positions below this one.
  constexpr int64_t Before(int64_t position) const {
    int64_t rows = 0;
    for (int i = 0; i < kMost; ++i) {
      const int64_t inside = position - ranges_[i].first;
      rows += inside < 0 ? 0 : inside > ranges_[i].tokens ? ranges_[i].tokens : inside;
    }
    return rows;
  }
  // Calls f(done, n, position) for each run of neighbours among rows [row, row + count): n rows from row + done on,
  // whose positions begin with `position`.
  template <typename F>
  void ForEachRun(int64_t row, int64_t count, const F& f) const {
    for (int64_t done = 0; done < count;) {
      const int64_t n = std::min(count, EndOfRange(row + done) - row) - done;
      f(done, n, Position(row + done));
      done += n;
    }
  }
  // The end of the range that a row below tokens() lies in, as a row.
  constexpr int64_t EndOfRange(int64_t row) const {
    int64_t end = 0;
    for (int i = 0; i < kMost && end <= row; ++i) end += ranges_[i].tokens;
    return end;
  }
  bool operator==(const TokenRanges&) const = default;

 private:
  TokenRange ranges_[kMost] = {};
};

// H query heads, K key/value heads of D columns; query head h attends with key/value head h / (H / K). With `causal` a
// query sees the keys at its position and before, else all of them; with `window` those keys alone that are fewer than
// `window` before it; with `lengths`, of those the keys that exist; with `starts`, of those the ones from its start on. As
// ranges ascend, the keys that a query sees follow each other in a sample's keys, and without window and starts they are
// the first.
struct AttentionShape {
  int64_t batch = 0;   // B
  TokenRanges tokens;  // of each sample's queries; Tq in all
  int64_t heads = 0, kv_heads = 0, head_dim = 0;
  std::optional<TokenRanges> key_tokens = std::nullopt;  // Tk in all; left out: as the queries
  bool causal = true;
  int64_t window = 0;  // of causal attention; 0: there is none
  // [B] int32 on the device, or not defined: of sample b only the keys at positions below lengths[b] exist, the others
  // are padding; positions of the sequence, whichever of them these keys are. A length may be 0, and above the keys.
  Tensor lengths = {};
  // [B*Tq] int32 on the device, or not defined: the query of a row sees no key at a position below starts[row], which
  // is at most its own and never falls from row to row of a sample. Where several documents lie in one sequence: the
  // first token of the query's.
  Tensor starts = {};
  float scale = 0;  // of q k^T; 0: 1 / sqrt(D)

  const TokenRanges& keys() const { return key_tokens.has_value() ? *key_tokens : tokens; }
  // Of a fused tensor of queries, keys and values.
  int64_t columns() const { return (heads + 2 * kv_heads) * head_dim; }
  float score_scale() const { return scale != 0 ? scale : 1.0f / std::sqrt(static_cast<float>(head_dim)); }
  // The keys that query row `query` sees are rows [0, Seen(query)) of its sample, as far as they exist and its start
  // lets it; it never falls with the row.
  int64_t Seen(int64_t query) const {
    return causal ? keys().Before(tokens.Position(query) + 1) : keys().tokens();
  }
  // And as far as its start lets it from row FirstSeen(query) on.
  int64_t FirstSeen(int64_t query) const { return window == 0 ? 0 : keys().Before(tokens.Position(query) - window + 1); }
};

// Heads of D columns, side by side in the rows of a matrix, from column `first` on.
struct HeadColumns {
  Tensor rows;
  int64_t first = 0;
};
// Of queries [B*Tq, ...], keys and values [B*Tk, ...], which may be one tensor; or of their gradients.
//
// bias: [R, H] in the dtype of q, R odd, or not defined. It is added to scores by relative position (Raffel et al.
// 2020, section 2.1): the score of the query at position q for the key at position k, in head h, is
//
//   scale * q.k + bias[k - q + (R - 1) / 2][h]
//
// A query and a key that it sees are at most (R - 1) / 2 apart. As a gradient: [R, H] float32, or not defined, then it
// is not made.
struct AttentionHeads {
  HeadColumns q, k, v;
  Tensor bias = {};
};
// From one tensor [B*T, (H + 2K) * D]: H query heads, K key heads, K value heads.
inline AttentionHeads FusedHeads(const Tensor& qkv, const AttentionShape& s) {
  return {{qkv, 0}, {qkv, s.heads * s.head_dim}, {qkv, (s.heads + s.kv_heads) * s.head_dim}};
}
// From q [B*Tq, H * D] and kv [B*Tk, 2K * D].
inline AttentionHeads SeparateHeads(const Tensor& q, const Tensor& kv, const AttentionShape& s) {
  return {{q, 0}, {kv, 0}, {kv, s.kv_heads * s.head_dim}};
}

// Dropout of the attention weights: the weight of the query at position q for the key at position k, in head h of this
// tensor's sample b, is the element
//
//   (((first_sequence + b) * global_heads + first_head + h) * global_queries + q) * global_keys + k
//
// of a mask: dropped when Uniform(key, element) < probability, else divided by 1 - probability. So it depends neither
// on which rank has the query nor on which part of the keys it meets. probability 0: nothing happens.
struct AttentionDropout {
  float probability = 0;
  uint64_t key = 0;
  int64_t first_sequence = 0;                   // global number of this tensor's sample 0
  int64_t first_head = 0;                       // global number of this tensor's head 0
  int64_t global_heads = 0;                     // of all tensor ranks
  int64_t global_queries = 0, global_keys = 0;  // tokens of a whole sequence
};

}  // namespace trefoil
