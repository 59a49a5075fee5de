// Steps whose samples are padded to the longest of them only, against the same samples padded to the model's lengths:
// the same run, on one rank and on many.
#include <google/protobuf/text_format.h>

#include "tests/data/records/record_testing.h"
#include "tests/model/layout_testing.h"
#include "training/tasks/task_data.h"

namespace trefoil {
namespace {

constexpr int kSteps = 3;

// Record i: some 1 + i % 30 tokens, and what `second` makes of them.
void WriteTexts(const std::string& prefix, const RecordDescription& description,
                const std::function<std::vector<int32_t>(int i, std::vector<int32_t>)>& second) {
  std::vector<Record> records;
  for (int i = 0; i < 96; ++i) {
    std::vector<int32_t> text;
    for (int t = 0; t < 1 + i % 30; ++t) text.push_back(1 + (i + 3 * t) % 50);
    records.push_back({text, second(i, text)});
  }
  WriteRecords(prefix, description, records);
}

// Of a filled config, which the files play no part in.
RunConfig On(const std::string& prefix, RunConfig config) {
  config.mutable_data()->clear_train();
  config.mutable_data()->add_train(prefix);
  return config;
}

RunConfig Pairs() {
  const std::string prefix = TestFolder() + "/pairs";
  WriteTexts(prefix, {.parts = {RecordPart::kSource, RecordPart::kTarget}, .vocabulary = 61},
             [](int, std::vector<int32_t> text) {
               text.resize(1 + text.size() / 2);
               return text;
             });
  return On(prefix, TinyRun(ModelConfig::TRANSFORMER,
                            "data { seed: 3 } model { layers: 2 decoder_layers: 2 vocabulary: 61 sequence_length: 40 } "
                            "training { micro_batch: 2 optimizer { clip_norm: 0 } }"));
}

RunConfig Classes(const std::string& model) {
  const std::string prefix = TestFolder() + "/classes";
  WriteTexts(prefix, {.parts = {RecordPart::kText, RecordPart::kLabel}, .labels = {"a", "b", "c"}, .vocabulary = 61},
             [](int i, const std::vector<int32_t>&) { return std::vector<int32_t>{i % 3}; });
  return On(prefix, TinyRun(ModelConfig::BERT,
                            "data { seed: 3 } model { layers: 2 vocabulary: 70 sequence_length: 40 classes: 3 " + model +
                                " } task { kind: TEXT_CLASSES first_symbol: 61 } "
                                "training { micro_batch: 2 optimizer { clip_norm: 0 } }"));
}

// Both ways on the same samples; how many tokens a sample had at most.
struct Runs {
  Trace whole, shortened;
  int64_t longest = 0;
};
Runs Both(const RunConfig& reference, const RunConfig& config) {
  const auto data = OpenTaskData(config, TaskData::Part::kTrain);
  CHECK(data.ok()) << data.status();
  Runs runs;
  const BatchSource source([&](int64_t first, int64_t count) { return data->samples->Get(first, count); },
                           data->samples->weighted());
  runs.whole = Train(reference, kSteps, source);
  BatchSource own = source;
  own.lengths = [&](int64_t first, int64_t count) { return *data->samples->Lengths(first, count); };
  for (int step = 0; step < kSteps; ++step) runs.longest = std::max(runs.longest, own.lengths(8 * step, 8).inputs);
  runs.shortened = Train(config, kSteps, own);
  return runs;
}

void Expect(const RunConfig& config, const std::vector<const char*>& layouts) {
  for (const char* layout : layouts) {
    SCOPED_TRACE(layout);
    RunConfig laid_out = config;
    CHECK(google::protobuf::TextFormat::MergeFromString(layout, &laid_out));
    laid_out = On(config.data().train(0), Completed(laid_out));
    const Runs runs = Both(config, laid_out);
    EXPECT_LT(runs.longest, config.model().sequence_length()) << "nothing is shorter";
    ExpectSameRun(runs.shortened, runs.whole, {.loss = 1e-5, .norm = 1e-4, .gradient = 1e-4, .projection = 3e-4});
  }
}

TEST(ShortBatches, OfPairs) {
  Expect(Pairs(), {"", "parallel { data: 2 }", "parallel { tensor: 2 sequence_parallel: true }",
                   "parallel { pipeline: 2 }", "parallel { tensor: 2 pipeline: 2 sequence_parallel: true }"});
}

TEST(ShortBatches, OfTexts) {
  Expect(Classes(""), {"", "parallel { data: 2 pipeline: 2 }"});
  Expect(Classes("pooling: MEAN"), {"parallel { tensor: 2 sequence_parallel: true }"});
}

}  // namespace
}  // namespace trefoil
