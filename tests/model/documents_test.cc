// Several documents in a sample (data.mask_documents): as if each were trained alone, and on every layout the same.
#include "tests/model/layout_testing.h"

namespace trefoil {
namespace {

constexpr int64_t kLength = 16, kPackedBatch = 4;
constexpr int kSteps = 3;
constexpr char kModel[] =
    "model { layers: 3 kv_heads: 4 heads: 8 head_dim: 4 sequence_length: 16 } training { optimizer { clip_norm: 0 } } ";
constexpr char kPacked[] = "data { mask_documents: true } training { global_batch: 4 } ";

// Lengths of the documents of each sample, in turn.
const std::vector<std::vector<int64_t>>& Documents() {
  static const auto& documents = *new std::vector<std::vector<int64_t>>{{5, 8, 3}, {16}, {1, 1, 13, 1}, {9, 7}};
  return documents;
}
constexpr int64_t kDocuments = 10;  // of four samples

// Row `sample` of learnable tokens, cut into documents: the last token of each has no target.
BatchSource Packed(const ModelConfig& model) {
  const BatchSource tokens = LearnableTokens(model);
  return BatchSource(
      [tokens](int64_t first, int64_t count) -> absl::StatusOr<Batch> {
        absl::StatusOr<Batch> batch = tokens(first, count);
        std::vector<int32_t> starts;
        std::vector<float> weights;
        for (int64_t b = 0; b < count; ++b) {
          for (const int64_t length : Documents()[static_cast<size_t>((first + b) % kPackedBatch)]) {
            const auto start = static_cast<int32_t>(static_cast<int64_t>(starts.size()) - b * kLength);
            starts.insert(starts.end(), static_cast<size_t>(length), start);
            weights.insert(weights.end(), static_cast<size_t>(length), 1.0f);
            weights.back() = 0;
          }
        }
        batch->document_starts = HostTensor(std::move(starts), {count, kLength});
        batch->weights = HostTensor(std::move(weights), {count, kLength});
        return batch;
      },
      /*weighted=*/true);
}

// The same documents, one to a sample, filled up with what does not count.
BatchSource Alone(const ModelConfig& model) {
  const BatchSource tokens = LearnableTokens(model);
  return BatchSource(
      [tokens](int64_t first, int64_t count) -> absl::StatusOr<Batch> {
        std::vector<int32_t> inputs, targets;
        std::vector<float> weights;
        for (int64_t number = first; number < first + count; ++number) {
          int64_t rest = number % kDocuments, row = 0, begin = 0, length = 0;
          for (; row < kPackedBatch; ++row, begin = 0) {
            const std::vector<int64_t>& lengths = Documents()[static_cast<size_t>(row)];
            if (rest >= static_cast<int64_t>(lengths.size())) {
              rest -= static_cast<int64_t>(lengths.size());
              continue;
            }
            for (int64_t i = 0; i < rest; ++i) begin += lengths[static_cast<size_t>(i)];
            length = lengths[static_cast<size_t>(rest)];
            break;
          }
          const absl::StatusOr<Batch> batch = tokens(number / kDocuments * kPackedBatch + row, 1);
          const auto fill = [&](const HostTensor& from, std::vector<int32_t>* to) {
            const auto at = from.values<int32_t>().begin() + begin;
            to->insert(to->end(), at, at + length);
            to->insert(to->end(), static_cast<size_t>(kLength - length), 7);
          };
          fill(batch->inputs, &inputs);
          fill(batch->targets, &targets);
          for (int64_t t = 0; t < kLength; ++t) weights.push_back(t + 1 < length ? 1.0f : 0.0f);
        }
        Batch batch = MakeBatch(kLength, first, std::move(inputs), std::move(targets));
        batch.weights = HostTensor(std::move(weights), {count, kLength});
        return batch;
      },
      /*weighted=*/true);
}

class DocumentsTest : public testing::TestWithParam<ModelConfig::Family> {
 protected:
  RunConfig Run(const std::string& more) const { return TinyRun(GetParam(), kModel + more); }
};

INSTANTIATE_TEST_SUITE_P(Recipes, DocumentsTest, testing::Values(ModelConfig::GPT, ModelConfig::LLAMA),
                         [](const auto& info) { return ModelConfig::Family_Name(info.param); });

TEST_P(DocumentsTest, AreTrainedAsIfAlone) {
  const RunConfig alone = Run("training { global_batch: 10 }"), packed = Run(kPacked);
  const Trace reference = Train(alone, kSteps, Alone(alone.model()));
  ExpectSameRun(Train(packed, kSteps, Packed(packed.model())), reference, {.loss = 1e-5, .norm = 1e-4});
}

TEST_P(DocumentsTest, MaskingChangesTheRun) {
  const RunConfig masked = Run(kPacked), open = Run("training { global_batch: 4 } ");
  BatchSource unmasked = Packed(open.model());
  unmasked.get = [get = unmasked.get](int64_t first, int64_t count) -> absl::StatusOr<Batch> {
    absl::StatusOr<Batch> batch = get(first, count);
    batch->document_starts = HostTensor();
    return batch;
  };
  const Trace with = Train(masked, 1, Packed(masked.model())), without = Train(open, 1, unmasked);
  EXPECT_GT(Compare(with, without).loss, 1e-4);
}

TEST_P(DocumentsTest, EveryLayoutGivesTheSame) {
  const std::string dropout = GetParam() == ModelConfig::GPT ? "model { dropout: 0.1 } " : "";
  const RunConfig one = Run(kPacked + dropout);
  const Trace reference = Train(one, kSteps, Packed(one.model()));
  for (const char* layout :
       {"parallel { tensor: 2 sequence_parallel: true data: 2 }", "parallel { pipeline: 3 recompute: FULL }",
        "parallel { context: 2 }", "parallel { context: 4 data: 2 }",
        "parallel { context: 4 context_method: ALL_TO_ALL }",
        "parallel { context: 2 tensor: 2 pipeline: 3 sequence_parallel: true recompute: SELECTIVE }",
        "parallel { context: 2 tensor: 2 data: 2 context_method: ALL_TO_ALL zero: NONE }"}) {
    SCOPED_TRACE(layout);
    const RunConfig config = Run(kPacked + dropout + layout);
    ExpectSameRun(Train(config, kSteps, Packed(config.model())), reference);
  }
}

}  // namespace
}  // namespace trefoil
