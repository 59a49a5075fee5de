#include "model/layers/ring_attention.h"

namespace trefoil {
namespace {

// Of lanes of their own: gradients overtake keys and values.
constexpr int kKeysTag = 0, kGradientsTag = 1;

// The other ranks as this one sees them.
class Ring {
 public:
  explicit Ring(Group& group)
      : group_(group),
        next_((group.rank() + 1) % group.size()),
        before_((group.rank() + group.size() - 1) % group.size()) {}

  int steps() const { return group_.size(); }
  // Whose keys and values are here.
  int Owner(int step) const { return (group_.rank() + group_.size() - step) % group_.size(); }

  void Send(const Tensor& x, int tag) { group_.Send(x, next_, tag); }
  void FinishSend(int tag) { group_.FinishSend(next_, tag); }
  void Expect(const Tensor& x, int tag) { group_.StartReceive(x, before_, tag); }
  void Receive(const Tensor& x, int tag) { group_.Receive(x, before_, tag); }

 private:
  Group& group_;
  const int next_, before_;
};

// Keys and values on their way round: those in hand are sent on while they are worked with.
class KeysOnTheirWay {
 public:
  KeysOnTheirWay(const Context& context, Ring& ring, const AttentionShape& shape, const Tensor& qkv)
      : context_(context), ring_(ring) {
    const int64_t columns = 2 * shape.kv_heads * shape.head_dim;
    here_ = context.New({qkv.dim(0), columns});
    CopyColumns(context.device, FusedHeads(qkv, shape).k, columns, {here_, 0});
  }

  const Tensor& here() const { return here_; }
  void Begin(int step) {
    if (IsLast(step)) return;
    arriving_ = context_.New(here_.shape());
    ring_.Expect(arriving_, kKeysTag);
    ring_.Send(here_, kKeysTag);
  }
  void End(int step) {
    if (IsLast(step)) return;
    ring_.Receive(arriving_, kKeysTag);
    ring_.FinishSend(kKeysTag);
    here_ = std::exchange(arriving_, Tensor());
  }

 private:
  bool IsLast(int step) const { return step + 1 == ring_.steps(); }

  const Context& context_;
  Ring& ring_;
  Tensor here_, arriving_;
};

// Of step `step`: queries where they lie, keys and values that came.
AttentionHeads HeadsOf(const AttentionShape& shape, const Tensor& qkv, const Tensor& keys) {
  AttentionHeads heads = SeparateHeads(qkv, keys, shape);
  heads.q = FusedHeads(qkv, shape).q;
  return heads;
}

AttentionShape ShapeOf(const RingPlace& place, int owner) {
  AttentionShape shape = place.shape;
  shape.key_tokens = place.keys(owner);
  return shape;
}

// Whether any of the queries sees any of the keys: within a window those of some ranks may not.
bool SeesAny(const AttentionShape& shape) {
  for (int64_t query = 0; query < shape.tokens.tokens(); ++query) {
    if (shape.FirstSeen(query) < shape.Seen(query)) return true;
  }
  return false;
}

}  // namespace

void RingAttention(const Context& context, const RingPlace& place, const Tensor& qkv, const Tensor& out,
                   const Tensor& log_sum_exp) {
  Device& device = context.device;
  Ring ring(*context.token_ranks);
  KeysOnTheirWay keys(context, ring, place.shape, qkv);
  const bool merges_in_place = out.dtype() == DType::kFloat32;
  Tensor sum = out, part, part_log_sum_exp;
  for (int step = 0; step < ring.steps(); ++step) {
    keys.Begin(step);
    const AttentionShape shape = ShapeOf(place, ring.Owner(step));
    const AttentionHeads heads = HeadsOf(shape, qkv, keys.here());
    if (step == 0) {
      Attention(device, heads, shape, place.dropout, out, log_sum_exp);
      part = context.New(out.shape());
      part_log_sum_exp = context.NewFloat(log_sum_exp.shape());
      if (!merges_in_place) {
        sum = context.NewFloat(out.shape());
        Cast(device, out, sum);
      }
    } else if (SeesAny(shape)) {
      Attention(device, heads, shape, place.dropout, part, part_log_sum_exp);
      MergeAttention(device, sum, log_sum_exp, part, part_log_sum_exp);
    }
    keys.End(step);
  }
  if (!merges_in_place) Cast(device, sum, out);
}

void RingAttentionBackward(const Context& context, const RingPlace& place, const Tensor& d_out, const Tensor& qkv,
                           const Tensor& out, const Tensor& log_sum_exp, const Tensor& d_qkv) {
  Device& device = context.device;
  Ring ring(*context.token_ranks);
  KeysOnTheirWay keys(context, ring, place.shape, qkv);
  const Shape of_keys = keys.here().shape();
  const Tensor d_queries = context.NewFloat(out.shape());
  for (int step = 0; step < ring.steps(); ++step) {
    keys.Begin(step);
    const AttentionShape shape = ShapeOf(place, ring.Owner(step));
    // What the ranks before this one have added to the gradient of the keys in hand.
    const Tensor others = step == 0 ? Tensor() : context.NewFloat(of_keys);
    if (step > 0) ring.Expect(others, kGradientsTag);
    const Tensor d_keys = context.NewFloat(of_keys);
    if (step > 0) Fill(device, d_keys, 0);
    if (step == 0 || SeesAny(shape)) {
      AttentionBackward(device, d_out, HeadsOf(shape, qkv, keys.here()), out, log_sum_exp, shape, place.dropout,
                        SeparateHeads(d_queries, d_keys, shape), step == 0 ? Accumulate::kNo : Accumulate::kYes);
    }
    if (step > 0) {
      ring.Receive(others, kGradientsTag);
      Add(device, d_keys, others, d_keys);
      ring.FinishSend(kGradientsTag);
    }
    ring.Send(d_keys, kGradientsTag);
    keys.End(step);
  }
  const Tensor d_keys = context.NewFloat(of_keys);
  ring.Receive(d_keys, kGradientsTag);
  ring.FinishSend(kGradientsTag);
  const AttentionHeads gradients = FusedHeads(d_qkv, place.shape);
  CopyColumns(device, {d_queries, 0}, d_queries.dim(1), gradients.q);
  CopyColumns(device, {d_keys, 0}, d_keys.dim(1), gradients.k);
}

}  // namespace trefoil
