#include "planner/op_calibration.h"

#include <utility>

#include "runtime/ops.h"

namespace trefoil {
namespace {

using Measure = CalibratedOp::Measure;
constexpr DType kFloat = DType::kFloat32;

Tensor New(Device& device, DType dtype, const Shape& shape) {
  const Tensor tensor = device.Allocate(dtype, shape, Purpose::kWorkspace);
  Fill(device, tensor, 0.01f);  // touches the pages; no denormals, whose speed is another
  return tensor;
}

// 0, 7919, ... modulo `below`.
Tensor NewIds(Device& device, int64_t count, int64_t below) {
  std::vector<int32_t> ids;
  for (int64_t i = 0; i < count; ++i) ids.push_back(static_cast<int32_t>(7919 * i % below));
  const Tensor tensor = device.Allocate(DType::kInt32, {count}, Purpose::kWorkspace);
  device.Upload(ids.data(), tensor);
  return tensor;
}

// Of y = x W^T: tokens, outputs, inputs.
struct Linear {
  int64_t tokens, out, in;
};
constexpr Linear kLinears[] = {
    {64, 64, 64}, {64, 256, 256}, {64, 1024, 1024}, {256, 64, 64}, {256, 192, 64},
    {256, 256, 1024}, {256, 768, 256}, {256, 3072, 768}, {256, 768, 3072}, {1024, 64, 256},
    {1024, 384, 128}, {1024, 512, 512}, {1024, 1024, 256}, {1024, 2048, 1024}, {2048, 1536, 512},
    {4096, 64, 64}, {4096, 64, 1024}, {4096, 256, 64}, {4096, 768, 256}, {4096, 1024, 64},
};
// The head's: the vocabulary is GPT-2's.
constexpr Linear kHeads[] = {{64, 50257, 64}, {256, 50257, 128}, {512, 50257, 64}, {128, 50257, 512}};

void Matmuls(Device& device, DType dtype, const Measure& measure) {
  for (const auto& [m, n, k] : kLinears) {
    const Tensor x = New(device, dtype, {m, k}), w = New(device, dtype, {n, k}), y = New(device, dtype, {m, n});
    measure([&] { Matmul(device, x, Transpose::kNo, w, Transpose::kYes, y); });
    measure([&] { Matmul(device, y, Transpose::kNo, w, Transpose::kNo, x); });
  }
  for (const auto& [m, n, k] : kHeads) {
    const Tensor x = New(device, dtype, {m, k}), w = New(device, dtype, {n, k});
    const Tensor logits = New(device, kFloat, {m, n}), d_logits = New(device, dtype, {m, n});
    const Tensor dw = New(device, kFloat, {n, k});
    measure([&] { Matmul(device, x, Transpose::kNo, w, Transpose::kYes, logits); });
    measure([&] { Matmul(device, d_logits, Transpose::kNo, w, Transpose::kNo, x); });
    measure([&] { Matmul(device, d_logits, Transpose::kYes, x, Transpose::kNo, dw, Accumulate::kYes); });
  }
}

void MatmulGelus(Device& device, DType dtype, const Measure& measure) {
  for (const auto& [m, n, k] : kLinears) {
    const Tensor x = New(device, dtype, {m, k}), w = New(device, dtype, {n, k}), bias = New(device, dtype, {n});
    const Tensor before = New(device, dtype, {m, n}), y = New(device, dtype, {m, n});
    measure([&] { MatmulActivate(device, Activation::kGelu, x, w, bias, before, y); });
  }
}

void MatmulGeluBackwards(Device& device, DType dtype, const Measure& measure) {
  for (const auto& [m, k, n] : kLinears) {
    const Tensor dy = New(device, dtype, {m, k}), w = New(device, dtype, {k, n}), d_bias = New(device, kFloat, {n});
    const Tensor before = New(device, dtype, {m, n}), dx = New(device, dtype, {m, n});
    measure([&] { MatmulActivateBackward(device, Activation::kGelu, dy, w, before, dx, d_bias); });
  }
}

void WeightGradients(Device& device, DType dtype, const Measure& measure) {
  for (const auto& [m, n, k] : kLinears) {
    const Tensor dy = New(device, dtype, {m, n}), x = New(device, dtype, {m, k}), dw = New(device, kFloat, {n, k});
    measure([&] { WeightGradient(device, dy, x, dw, {}); });
  }
}

void AttentionOf(Device& device, DType dtype, const AttentionShape& shape, bool backward, const Measure& measure) {
  const int64_t tokens = shape.tokens.tokens(), rows = shape.batch * tokens, columns = shape.heads * shape.head_dim;
  const Tensor qkv = New(device, dtype, {rows, shape.columns()}), out = New(device, dtype, {rows, columns});
  const Tensor log_sum_exp = New(device, kFloat, {shape.batch, shape.heads, tokens});
  const AttentionHeads heads = FusedHeads(qkv, shape);
  if (!backward) return measure([&] { Attention(device, heads, shape, {}, out, log_sum_exp); });
  const Tensor d_out = New(device, dtype, {rows, columns}), d_qkv = New(device, dtype, {rows, shape.columns()});
  Attention(device, heads, shape, {}, out, log_sum_exp);
  measure([&] {
    AttentionBackward(device, d_out, heads, out, log_sum_exp, shape, {}, FusedHeads(d_qkv, shape));
  });
}

void Attentions(Device& device, DType dtype, bool backward, const Measure& measure) {
  for (const int64_t tokens : {64, 128, 256, 512, 1024}) {
    for (const int64_t head_dim : {32, 64, 128}) {
      AttentionShape shape = {.batch = 1, .tokens = tokens, .heads = 4, .kv_heads = 4, .head_dim = head_dim};
      AttentionOf(device, dtype, shape, backward, measure);
      if (tokens >= 512) continue;
      shape.batch = 512 / tokens;
      AttentionOf(device, dtype, shape, backward, measure);
    }
  }
}

// Of an op on [rows, columns]: `make` takes its tensors and returns the call.
using Make = std::function<std::function<void()>(Device& device, DType dtype, int64_t rows, int64_t columns)>;
CalibratedOp ByRows(const char* name, Make make) {
  return {name, [make = std::move(make)](Device& device, DType dtype, const Measure& measure) {
            for (const auto& [rows, columns] : {std::pair<int64_t, int64_t>{64, 64}, {256, 64}, {256, 256}, {1024, 256},
                                                {1024, 1024}, {4096, 256}, {4096, 1024}}) {
              measure(make(device, dtype, rows, columns));
            }
          }};
}

// x and y of [rows, columns].
using Unary = std::function<void(Device&, const Tensor&, const Tensor&)>;
CalibratedOp OfTwo(const char* name, const Unary& op) {
  return ByRows(name, [op](Device& device, DType dtype, int64_t n, int64_t c) {
    return [op, &device, x = New(device, dtype, {n, c}), y = New(device, dtype, {n, c})] { op(device, x, y); };
  });
}

void AddNorms(std::vector<CalibratedOp>& ops) {
  ops.push_back(ByRows("layer_norm", [](Device& device, DType dtype, int64_t n, int64_t c) {
    const Tensor x = New(device, dtype, {n, c}), w = New(device, dtype, {c}), y = New(device, dtype, {n, c});
    const Tensor mean = New(device, kFloat, {n}), rstd = New(device, kFloat, {n});
    return [=, &device] { LayerNorm(device, x, w, w, 1e-5f, y, mean, rstd); };
  }));
  ops.push_back(ByRows("layer_norm_backward", [](Device& device, DType dtype, int64_t n, int64_t c) {
    const Tensor x = New(device, dtype, {n, c}), w = New(device, dtype, {c}), dy = New(device, dtype, {n, c});
    const Tensor dx = New(device, dtype, {n, c}), mean = New(device, kFloat, {n}), rstd = New(device, kFloat, {n});
    const Tensor dw = New(device, kFloat, {c}), db = New(device, kFloat, {c});
    return [=, &device] { LayerNormBackward(device, dy, x, w, mean, rstd, dx, dx, dw, db); };
  }));
  ops.push_back(ByRows("rms_norm", [](Device& device, DType dtype, int64_t n, int64_t c) {
    const Tensor x = New(device, dtype, {n, c}), w = New(device, dtype, {c}), y = New(device, dtype, {n, c});
    const Tensor rstd = New(device, kFloat, {n});
    return [=, &device] { RmsNorm(device, x, w, 1e-5f, y, rstd); };
  }));
  ops.push_back(ByRows("rms_norm_backward", [](Device& device, DType dtype, int64_t n, int64_t c) {
    const Tensor x = New(device, dtype, {n, c}), w = New(device, dtype, {c}), dy = New(device, dtype, {n, c});
    const Tensor dx = New(device, dtype, {n, c}), rstd = New(device, kFloat, {n}), dw = New(device, kFloat, {c});
    return [=, &device] { RmsNormBackward(device, dy, x, w, rstd, dx, dx, dw); };
  }));
}

// Those that the families' feed-forward parts use.
void AddActivations(std::vector<CalibratedOp>& ops) {
  const auto plain = [&](Activation activation, const char* name, const char* backward_name) {
    ops.push_back(OfTwo(name, [activation](Device& device, const Tensor& x, const Tensor& y) {
      Activate(device, activation, x, y);
    }));
    ops.push_back(OfTwo(backward_name, [activation](Device& device, const Tensor& x, const Tensor& y) {
      ActivateBackward(device, activation, y, x, y);
    }));
  };
  plain(Activation::kGelu, "gelu", "gelu_backward");
  plain(Activation::kGeluErf, "gelu_erf", "gelu_erf_backward");
  plain(Activation::kRelu, "relu", "relu_backward");
  const auto gated = [&](Activation activation, const char* name, const char* backward_name) {
    ops.push_back(ByRows(name, [activation](Device& device, DType dtype, int64_t n, int64_t c) {
      const Tensor x = New(device, dtype, {n, 2 * c}), y = New(device, dtype, {n, c});
      return [=, &device] { GatedActivate(device, activation, x, y); };
    }));
    ops.push_back(ByRows(backward_name, [activation](Device& device, DType dtype, int64_t n, int64_t c) {
      const Tensor x = New(device, dtype, {n, 2 * c}), dx = New(device, dtype, {n, 2 * c});
      return [=, &device, dy = New(device, dtype, {n, c})] { GatedActivateBackward(device, activation, dy, x, dx); };
    }));
  };
  gated(Activation::kSilu, "swiglu", "swiglu_backward");
  gated(Activation::kGelu, "geglu", "geglu_backward");
}

void AddElementwise(std::vector<CalibratedOp>& ops) {
  ops.push_back(ByRows("dropout", [](Device& device, DType dtype, int64_t n, int64_t c) {
    return [&device, x = New(device, dtype, {n, c}), c] {
      Dropout(device, x, {.probability = 0.1f, .key = 1, .first_row = 0, .global_columns = c}, x);
    };
  }));
  ops.push_back(ByRows("rotary", [](Device& device, DType dtype, int64_t n, int64_t c) {
    return [&device, qkv = New(device, dtype, {n, 3 * c}), n, c] {
      Rotary(device, {qkv, 0}, 2 * c / 64, 64, n, {.theta = 1e4f}, false);
    };
  }));
  ops.push_back(OfTwo("add", [](Device& device, const Tensor& x, const Tensor& y) { Add(device, x, y, y); }));
  ops.push_back(ByRows("bias_backward", [](Device& device, DType dtype, int64_t n, int64_t c) {
    return [&device, dy = New(device, dtype, {n, c}), db = New(device, kFloat, {c})] { BiasBackward(device, dy, db); };
  }));
  ops.push_back(ByRows("add_bias", [](Device& device, DType dtype, int64_t n, int64_t c) {
    return [&device, x = New(device, dtype, {n, c}), bias = New(device, dtype, {c})] { AddBias(device, x, bias); };
  }));
  ops.push_back(ByRows("sum_parts", [](Device& device, DType dtype, int64_t n, int64_t c) {
    return [&device, in = New(device, dtype, {2, n * c}), out = New(device, dtype, {n * c})] {
      SumParts(device, in, out);
    };
  }));
  ops.push_back(ByRows("cast", [](Device& device, DType dtype, int64_t n, int64_t c) {  // named for what it reads
    const DType other = dtype == kFloat ? DType::kBFloat16 : kFloat;
    return [&device, in = New(device, dtype, {n, c}), out = New(device, other, {n, c})] { Cast(device, in, out); };
  }));
  ops.push_back(ByRows("copy_columns", [](Device& device, DType dtype, int64_t n, int64_t c) {
    return [&device, in = New(device, dtype, {n, 2 * c}), out = New(device, dtype, {n, c}), c] {
      CopyColumns(device, {in, c}, c, {out, 0});
    };
  }));
  ops.push_back(ByRows("merge_attention", [](Device& device, DType dtype, int64_t n, int64_t c) {
    const Tensor sums = New(device, kFloat, {1, c / 64, n}), part_sums = New(device, kFloat, {1, c / 64, n});
    return [=, &device, out = New(device, dtype, {n, c}), part = New(device, dtype, {n, c})] {
      MergeAttention(device, out, sums, part, part_sums);
    };
  }));
  ops.push_back(ByRows("fill", [](Device& device, DType dtype, int64_t n, int64_t c) {
    return [&device, x = New(device, dtype, {n, c})] { Fill(device, x, 0); };
  }));
}

// Those whose tensors are float32 throughout are timed once.
void AddEnds(std::vector<CalibratedOp>& ops) {
  constexpr int64_t kVocabulary = 8192;
  ops.push_back(ByRows("embedding", [](Device& device, DType dtype, int64_t n, int64_t c) {
    const Tensor ids = NewIds(device, n, kVocabulary), table = New(device, dtype, {kVocabulary, c});
    return [=, &device, y = New(device, dtype, {n, c})] { Embedding(device, ids, table, 0, y); };
  }));
  ops.push_back(ByRows("embedding_backward", [](Device& device, DType dtype, int64_t n, int64_t c) {
    const Tensor ids = NewIds(device, n, kVocabulary), d_table = New(device, kFloat, {kVocabulary, c});
    return [=, &device, dy = New(device, dtype, {n, c})] { EmbeddingBackward(device, ids, dy, 0, d_table); };
  }));
  const auto float_only = [&](CalibratedOp op) {
    op.calls = [calls = std::move(op.calls)](Device& device, DType dtype, const Measure& measure) {
      if (dtype == kFloat) calls(device, dtype, measure);
    };
    ops.push_back(std::move(op));
  };
  // Columns here: thirty-two times as many, up to 32768 of a vocabulary, for fewer rows.
  float_only(ByRows("cross_entropy_statistics", [](Device& device, DType, int64_t n, int64_t c) {
    const Tensor logits = New(device, kFloat, {n / 32, 32 * c}), targets = NewIds(device, n / 32, 32 * c);
    return [=, &device, out = New(device, kFloat, {n / 32, 3})] {
      CrossEntropyStatistics(device, logits, targets, 0, out);
    };
  }));
  float_only(ByRows("cross_entropy_combine", [](Device& device, DType, int64_t n, int64_t) {
    const Tensor statistics = New(device, kFloat, {1, n, 3}), loss = New(device, kFloat, {n});
    return [=, &device, out = New(device, kFloat, {n})] { CrossEntropyCombine(device, statistics, {}, loss, out); };
  }));
  ops.push_back(ByRows("cross_entropy_backward", [](Device& device, DType dtype, int64_t n, int64_t c) {
    const Tensor logits = New(device, kFloat, {n / 32, 32 * c}), targets = NewIds(device, n / 32, 32 * c);
    const Tensor log_sum_exp = New(device, kFloat, {n / 32}), dx = New(device, dtype, {n / 32, 32 * c});
    return [=, &device] { CrossEntropyBackward(device, logits, targets, {}, log_sum_exp, 0, 0.1f, dx); };
  }));
  float_only(ByRows("sums", [](Device& device, DType, int64_t n, int64_t c) {
    return [&device, x = New(device, kFloat, {n, c})] { Sums(device, {}, {&x, 1}); };
  }));
  // With and without the working copies of mixed precision.
  ops.push_back(ByRows("adamw", [](Device& device, DType dtype, int64_t n, int64_t c) {
    AdamWPart part;
    for (Tensor* tensor : {&part.weight, &part.gradient, &part.m, &part.v}) *tensor = New(device, kFloat, {n * c});
    if (dtype != kFloat) part.working = New(device, dtype, {n * c});
    return [&device, part] {
      AdamW(device, {&part, 1},
            {.learning_rate = 1e-4f, .beta1 = 0.9f, .beta2 = 0.95f, .epsilon = 1e-8f, .step = 1, .gradient_scale = 1});
    };
  }));
}

}  // namespace

std::vector<CalibratedOp> CalibratedOps() {
  std::vector<CalibratedOp> ops = {{"matmul", Matmuls},
                                   {"weight_gradient", WeightGradients},
                                   {"matmul_gelu", MatmulGelus},
                                   {"matmul_gelu_backward", MatmulGeluBackwards}};
  for (const bool backward : {false, true}) {
    ops.push_back({backward ? "attention_backward" : "attention",
                   [backward](Device& device, DType dtype, const Measure& measure) {
                     Attentions(device, dtype, backward, measure);
                   }});
  }
  AddNorms(ops);
  AddActivations(ops);
  AddElementwise(ops);
  AddEnds(ops);
  return ops;
}

}  // namespace trefoil
