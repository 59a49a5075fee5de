// Every field of a run's config does something: for each there is a change of it, and what shows the change. A new field
// fails the test until it has a row.
#include <absl/strings/match.h>
#include <absl/strings/str_cat.h>
#include <absl/strings/str_join.h>
#include <absl/strings/str_replace.h>
#include <google/protobuf/text_format.h>

#include <filesystem>
#include <map>
#include <set>

#include "planner/plan.h"
#include "planner/report/plan_report.h"
#include "runtime/files/file.h"
#include "tests/training/run_testing.h"
#include "training/config/validate.h"

namespace trefoil {
namespace {

namespace fs = std::filesystem;

enum class Shows {
  kNumbers,  // losses, norms, rates or held-out losses of a run of a few steps
  kPlan,     // what the run takes: parameters, FLOPs, memory, messages, actions
  kFiles,    // the names of the files that a run leaves
  kLines,    // what rank 0 prints
  kRules,    // which rules the config breaks: for GPUs, which are not here
};

struct Row {
  const char* path;
  const char* base;    // added to the tiny run, for both; F is the test's folder
  const char* change;  // added to one
  Shows shows;
};

constexpr Row kRows[] = {
    {"folder", "", "folder: 'F/elsewhere'", Shows::kFiles},
    {"model.family", "", "model { family: GPT }", Shows::kNumbers},
    {"model.layers", "", "model { layers: 3 }", Shows::kPlan},
    {"model.hidden", "", "model { hidden: 64 }", Shows::kPlan},
    {"model.heads", "", "model { heads: 8 }", Shows::kNumbers},
    {"model.kv_heads", "", "model { kv_heads: 2 }", Shows::kPlan},
    {"model.head_dim", "", "model { head_dim: 16 }", Shows::kPlan},
    {"model.feed_forward", "", "model { feed_forward: 96 }", Shows::kPlan},
    {"model.vocabulary", "", "model { vocabulary: 64 }", Shows::kPlan},
    {"model.sequence_length", "", "model { sequence_length: 8 }", Shows::kNumbers},
    {"model.rope_theta", "", "model { rope_theta: 100 }", Shows::kNumbers},
    {"model.norm_epsilon", "", "model { norm_epsilon: 0.1 }", Shows::kNumbers},
    {"model.dropout", "model { family: GPT }", "model { dropout: 0.5 }", Shows::kNumbers},
    {"model.initial_deviation", "", "model { initial_deviation: 0.2 }", Shows::kNumbers},
    {"model.tied", "", "model { tied: true }", Shows::kPlan},
    {"model.qkv_bias", "", "model { qkv_bias: true }", Shows::kPlan},
    {"model.qk_norm", "", "model { qk_norm: true }", Shows::kPlan},
    {"model.rope_scaling.kind", "model { rope_scaling { kind: LLAMA3 factor: 8 original_length: 16 } }",
     "model { rope_scaling { kind: YARN } }", Shows::kNumbers},
    {"model.rope_scaling.factor", "model { rope_scaling { kind: LINEAR factor: 4 } }",
     "model { rope_scaling { factor: 2 } }", Shows::kNumbers},
    {"model.rope_scaling.low_frequency_factor", "model { rope_scaling { kind: LLAMA3 factor: 8 original_length: 16 } }",
     "model { rope_scaling { low_frequency_factor: 0.25 } }", Shows::kNumbers},
    {"model.rope_scaling.high_frequency_factor",
     "model { rope_scaling { kind: LLAMA3 factor: 8 original_length: 16 } }",
     "model { rope_scaling { high_frequency_factor: 2 } }", Shows::kNumbers},
    {"model.rope_scaling.original_length", "model { rope_scaling { kind: LLAMA3 factor: 8 original_length: 16 } }",
     "model { rope_scaling { original_length: 8 } }", Shows::kNumbers},
    {"model.rope_scaling.beta_fast", "model { rope_scaling { kind: YARN factor: 8 original_length: 4096 } }",
     "model { rope_scaling { beta_fast: 400 } }", Shows::kNumbers},
    {"model.rope_scaling.beta_slow", "model { rope_scaling { kind: YARN factor: 8 original_length: 4096 } }",
     "model { rope_scaling { beta_slow: 0.01 } }", Shows::kNumbers},
    {"model.rope_scaling.attention_factor", "model { rope_scaling { kind: YARN factor: 8 original_length: 64 } }",
     "model { rope_scaling { attention_factor: 2 } }", Shows::kNumbers},
    {"model.attention_output_bias", "", "model { attention_output_bias: true }", Shows::kPlan},
    {"model.mlp_bias", "", "model { mlp_bias: true }", Shows::kPlan},
    {"model.activation", "", "model { activation: RELU }", Shows::kNumbers},
    {"model.sliding_window", "", "model { sliding_window: 4 }", Shows::kPlan},
    {"model.first_window_layer", "model { sliding_window: 4 }", "model { first_window_layer: 1 }", Shows::kPlan},
    {"model.gated", "", "model { gated: false }", Shows::kPlan},
    {"model.head", "model { family: BERT }", "model { head: CLASSES }", Shows::kRules},
    {"model.classes",
     "model { family: BERT classes: 3 } task { kind: TEXT_CLASSES }",
     "model { classes: 5 }", Shows::kPlan},
    {"model.decoder_layers", "model { family: TRANSFORMER }", "model { decoder_layers: 3 }", Shows::kPlan},
    {"model.decoder_length", "model { family: TRANSFORMER }", "model { decoder_length: 8 }", Shows::kPlan},
    {"model.decoder_hidden",
     "model { family: VIT image_size: 8 patch_size: 2 channels: 1 sequence_length: 0 vocabulary: 0 decoder_layers: 2 decoder_hidden: 32 decoder_heads: 4 } task { kind: PATCHES }",
     "model { decoder_hidden: 64 }", Shows::kPlan},
    {"model.decoder_heads",
     "model { family: VIT image_size: 8 patch_size: 2 channels: 1 sequence_length: 0 vocabulary: 0 decoder_layers: 2 decoder_hidden: 32 decoder_heads: 4 } task { kind: PATCHES }",
     "model { decoder_heads: 2 }", Shows::kPlan},
    {"model.image_size",
     "model { family: VIT image_size: 8 patch_size: 2 channels: 1 classes: 3 sequence_length: 0 vocabulary: 0 }",
     "model { image_size: 12 }", Shows::kPlan},
    {"model.patch_size",
     "model { family: VIT image_size: 8 patch_size: 2 channels: 1 classes: 3 sequence_length: 0 vocabulary: 0 }",
     "model { patch_size: 4 }", Shows::kPlan},
    {"model.channels",
     "model { family: VIT image_size: 8 patch_size: 2 channels: 1 classes: 3 sequence_length: 0 vocabulary: 0 }",
     "model { channels: 3 }", Shows::kPlan},
    {"model.stochastic_depth",
     "model { family: VIT image_size: 8 patch_size: 2 channels: 1 classes: 3 sequence_length: 0 vocabulary: 0 }",
     "model { stochastic_depth: 0.5 }", Shows::kPlan},
    {"model.bidirectional",
     "model { family: LSTM classes: 3 } task { kind: TEXT_CLASSES }",
     "model { bidirectional: true }", Shows::kPlan},
    {"model.lora.rank", "", "model { lora { rank: 2 } }", Shows::kPlan},
    {"model.lora.alpha", "model { lora { rank: 2 } }", "model { lora { alpha: 16 } }", Shows::kNumbers},
    {"model.lora.on", "model { lora { rank: 2 } }", "model { lora { on: UP } }", Shows::kPlan},
    {"task.kind",
     "model { family: T5 vocabulary: 200 sequence_length: 40 }",
     "task { kind: TRANSLATION }", Shows::kPlan},
    {"task.mask_rate", "model { family: BERT }", "task { mask_rate: 0.5 }", Shows::kPlan},
    {"task.mean_span",
     "model { family: T5 vocabulary: 200 sequence_length: 40 }",
     "task { mean_span: 1 }", Shows::kPlan},
    {"task.label_smoothing", "model { family: TRANSFORMER }", "task { label_smoothing: 0.1 }", Shows::kPlan},
    {"parallel.tensor", "", "parallel { tensor: 2 }", Shows::kPlan},
    {"parallel.pipeline", "", "parallel { pipeline: 2 }", Shows::kPlan},
    {"parallel.data", "", "parallel { data: 2 }", Shows::kPlan},
    {"parallel.sequence_parallel", "parallel { tensor: 2 }", "parallel { sequence_parallel: true }", Shows::kPlan},
    {"parallel.schedule", "parallel { pipeline: 2 }", "parallel { schedule: GPIPE }", Shows::kPlan},
    {"parallel.chunks", "model { layers: 8 } parallel { pipeline: 2 schedule: INTERLEAVED }", "parallel { chunks: 4 }",
     Shows::kPlan},
    {"parallel.schedule_search.forward", "parallel { pipeline: 2 schedule: AUTO schedule_search { backward_input: 1 "
     "backward_input: 1 backward_weight: 1 backward_weight: 1 } }",
     "parallel { schedule_search { forward: 1 forward: 2 } }", Shows::kRules},
    {"parallel.schedule_search.backward_input", "parallel { pipeline: 2 schedule: AUTO schedule_search { forward: 1 "
     "forward: 1 backward_weight: 1 backward_weight: 1 } }",
     "parallel { schedule_search { backward_input: 1 backward_input: 2 } }", Shows::kRules},
    {"parallel.schedule_search.backward_weight", "parallel { pipeline: 2 schedule: AUTO schedule_search { forward: 1 "
     "forward: 1 backward_input: 1 backward_input: 1 } }",
     "parallel { schedule_search { backward_weight: 1 backward_weight: 2 } }", Shows::kRules},
    {"parallel.schedule_search.message", "model { layers: 4 } parallel { pipeline: 4 schedule: AUTO }",
     "parallel { schedule_search { message: 1e9 } }", Shows::kPlan},
    {"parallel.schedule_search.in_flight", "parallel { pipeline: 2 schedule: AUTO }",
     "parallel { schedule_search { in_flight: 1 } }", Shows::kPlan},
    {"parallel.zero", "parallel { data: 2 }", "parallel { zero: NONE }", Shows::kPlan},
    {"parallel.replicas", "parallel { data: 2 }", "parallel { replicas: 2 }", Shows::kPlan},
    {"parallel.recompute", "", "parallel { recompute: FULL }", Shows::kPlan},
    {"parallel.context", "", "parallel { context: 2 }", Shows::kPlan},
    {"parallel.context_method", "parallel { context: 2 }", "parallel { context_method: ALL_TO_ALL }", Shows::kPlan},
    {"data.train", "", "data { train: 'F/held_out' }", Shows::kNumbers},
    {"data.held_out", "", "data { held_out: 'F/held_out' }", Shows::kNumbers},
    {"data.weights", "data { train: 'F/held_out' }", "data { weights: 0.9 weights: 0.1 }", Shows::kNumbers},
    {"data.mask_documents", "", "data { mask_documents: true }", Shows::kPlan},
    {"data.tokenizer", "", "data { tokenizer: 'F/t.model' }", Shows::kFiles},
    {"data.seed", "", "data { seed: 0 }", Shows::kNumbers},
    {"training.steps", "", "training { steps: 3 }", Shows::kNumbers},
    {"training.global_batch", "", "training { global_batch: 4 }", Shows::kNumbers},
    {"training.micro_batch", "", "training { micro_batch: 4 }", Shows::kPlan},
    {"training.gradient_groups", "training { micro_batch: 1 }", "training { gradient_groups: 2 }", Shows::kPlan},
    {"training.seed", "", "training { seed: 0 }", Shows::kNumbers},
    {"training.precision", "", "training { precision: BF16 }", Shows::kPlan},
    {"training.optimizer.learning_rate", "", "training { optimizer { learning_rate: 1e-4 } }", Shows::kNumbers},
    {"training.optimizer.final_share", "", "training { optimizer { final_share: 0.5 } }", Shows::kNumbers},
    {"training.optimizer.beta1", "", "training { optimizer { beta1: 0.5 } }", Shows::kNumbers},
    {"training.optimizer.beta2", "", "training { optimizer { beta2: 0.5 } }", Shows::kNumbers},
    {"training.optimizer.epsilon", "", "training { optimizer { epsilon: 1 } }", Shows::kNumbers},
    {"training.optimizer.weight_decay", "", "training { optimizer { weight_decay: 9 } }", Shows::kNumbers},
    {"training.optimizer.clip_norm", "", "training { optimizer { clip_norm: 1e-9 } }", Shows::kNumbers},
    {"training.optimizer.schedule", "", "training { optimizer { schedule: LINEAR } }", Shows::kNumbers},
    {"training.optimizer.warmup_steps", "", "training { optimizer { warmup_steps: 4 } }", Shows::kNumbers},
    {"training.optimizer.decay_share", "training { optimizer { schedule: WSD } }",
     "training { optimizer { decay_share: 0.9 } }", Shows::kNumbers},
    {"training.fine_tuning.layer_decay", "", "training { fine_tuning { layer_decay: 0.5 } }", Shows::kNumbers},
    {"training.fine_tuning.frozen_layers", "", "training { fine_tuning { frozen_layers: 1 } }", Shows::kPlan},
    {"training.fine_tuning.freeze", "", "training { fine_tuning { freeze: 'head' } }", Shows::kPlan},
    {"training.checkpoint.every_steps", "", "training { checkpoint { every_steps: 3 } }", Shows::kFiles},
    {"training.checkpoint.keep_last", "training { checkpoint { every_steps: 1 } }",
     "training { checkpoint { keep_last: 3 } }", Shows::kFiles},
    {"training.checkpoint.keep_every", "training { checkpoint { every_steps: 1 keep_last: 1 } }",
     "training { checkpoint { keep_every: 2 } }", Shows::kFiles},
    {"training.checkpoint.initial_weights", "",
     "training { checkpoint { initial_weights: 'F/before/checkpoints/step-00000004' } }", Shows::kNumbers},
    {"training.evaluate_every_steps", "data { held_out: 'F/held_out' }", "training { evaluate_every_steps: 2 }",
     Shows::kNumbers},
    {"training.evaluate_samples", "data { held_out: 'F/held_out' }", "training { evaluate_samples: 8 }", Shows::kNumbers},
    {"training.log_every_steps", "", "training { log_every_steps: 3 }", Shows::kLines},
    {"training.trace", "", "training { trace: 'F/trace.json' }", Shows::kFiles},
    {"runtime.threads", "model { hidden: 512 sequence_length: 512 }", "runtime { threads: 7 }", Shows::kPlan},
    {"runtime.device", "runtime { attention: OWN }", "runtime { device: CUDA }", Shows::kRules},
    {"runtime.allow_shared_device", "runtime { device: CUDA messages: NCCL }", "runtime { allow_shared_device: true }",
     Shows::kRules},
    {"runtime.messages", "parallel { tensor: 2 } runtime { device: CUDA graphs: ON }", "runtime { messages: HOST }",
     Shows::kRules},
    {"runtime.attention", "runtime { device: CUDA }", "runtime { attention: CUDNN }", Shows::kRules},
    {"runtime.graphs", "parallel { pipeline: 2 } runtime { device: CUDA }", "runtime { graphs: ON }", Shows::kRules},
    {"runtime.sums", "parallel { data: 2 }", "runtime { sums: FASTEST }", Shows::kPlan},
    {"runtime.memory_limit_gib", "", "runtime { memory_limit_gib: 3 }", Shows::kPlan},
};

// Fields that show in nothing that is run here: the file of the test that shows them, which names them.
const std::map<std::string, std::string>& ShownElsewhere() {
  static const auto& fields = *new std::map<std::string, std::string>{
      {"training.on_nan", "tests/training/health_test.cc"},
      {"training.on_nan_limit", "tests/training/health_test.cc"},
      {"training.compare_replicas_every_steps", "tests/training/health_test.cc"},
      {"training.compute_twice_every_steps", "tests/training/computed_twice_test.cc"},
      {"training.checkpoint.failed_saves", "tests/training/recovery_test.cc"},
      {"training.checkpoint.writing", "tests/training/background_save_test.cc"},
      {"training.checkpoint.folder", "tests/training/host_folders_test.cc"},
      {"training.checkpoint.copies", "tests/training/host_folders_test.cc"},
      {"training.checkpoint.every_steps_in_memory", "tests/training/memory_snapshots_test.cc"},
      {"training.checkpoint.memory_folder", "tests/training/memory_snapshots_test.cc"},
      {"training.early_stop.evaluations", "tests/training/early_stop_test.cc"},
      {"training.early_stop.by", "tests/training/early_stop_test.cc"},
      {"model.targets", "tests/training/task_data_test.cc"},
      {"model.pooling", "tests/model/golden_families_test.cc"},
      {"task.whole_words", "tests/training/task_data_test.cc"},
      {"task.examples", "tests/training/task_data_test.cc"},
      {"task.crop", "tests/training/task_data_test.cc"},
      {"task.crop_padding", "tests/training/task_data_test.cc"},
      {"task.flip", "tests/training/task_data_test.cc"},
      {"task.pixel_mean", "tests/training/task_data_test.cc"},
      {"task.pixel_deviation", "tests/training/task_data_test.cc"},
      {"task.class_names", "tests/training/task_data_test.cc"},
      {"task.first_symbol", "tests/training/task_data_test.cc"},
      {"task.end_of_text", "tests/training/task_data_test.cc"},
      {"runtime.bf16_products", "tests/launcher/product_choice_test.cc"},
      {"runtime.timeout_seconds", "tests/launcher/start_test.cc"},
      {"runtime.startup_timeout_seconds", "tests/parallel/collectives_test.cc"},
      {"runtime.save_timeout_seconds", "tests/parallel/collectives_test.cc"},
  };
  return fields;
}

void AddPaths(const google::protobuf::Descriptor& message, const std::string& prefix, std::set<std::string>* paths) {
  for (int i = 0; i < message.field_count(); ++i) {
    const google::protobuf::FieldDescriptor& field = *message.field(i);
    if (field.message_type() != nullptr && !field.is_repeated()) {
      AddPaths(*field.message_type(), prefix + field.name() + ".", paths);
    } else {
      paths->insert(prefix + field.name());
    }
  }
}

TEST(FieldsTest, EachHasARow) {
  std::set<std::string> paths, rows;
  AddPaths(*RunConfig::descriptor(), "", &paths);
  for (const Row& row : kRows) EXPECT_TRUE(rows.insert(row.path).second) << row.path << " has two rows";
  for (const auto& [path, file] : ShownElsewhere()) {
    EXPECT_TRUE(rows.insert(path).second) << path << " is in both tables";
    const auto text = ReadFile(FileSystem::Posix(), file);
    ASSERT_TRUE(text.ok()) << text.status();
    EXPECT_TRUE(absl::StrContains(*text, path)) << file << " does not show " << path;
  }
  EXPECT_EQ(rows, paths) << "a field of RunConfig needs a row that shows what it does, and a row a field";
}

// A change sets what its row is about, and no other field.
TEST(FieldsTest, EachRowChangesItsField) {
  for (const Row& row : kRows) {
    RunConfig change;
    ASSERT_TRUE(google::protobuf::TextFormat::ParseFromString(row.change, &change)) << row.path;
    const google::protobuf::Message* message = &change;
    std::string path;
    while (message != nullptr) {
      std::vector<const google::protobuf::FieldDescriptor*> fields;
      message->GetReflection()->ListFields(*message, &fields);
      ASSERT_EQ(fields.size(), 1u) << row.path;
      absl::StrAppend(&path, path.empty() ? "" : ".", fields[0]->name());
      const bool nested = fields[0]->message_type() != nullptr && !fields[0]->is_repeated();
      message = nested ? &message->GetReflection()->GetMessage(*message, fields[0]) : nullptr;
    }
    EXPECT_EQ(path, row.path);
  }
}

std::string PlanText(const RunConfig& config) {
  const Plan plan = Planner().Make(config, RanksOf(config));
  std::string text = absl::StrCat(plan.parameters, " ", plan.tokens, " ", plan.model_flops, " ", plan.counted_flops, " ",
                                  plan.memory_limit, "\n");
  for (const StagePlan& stage : plan.stages) {
    for (const int64_t peak : stage.memory.peak) absl::StrAppend(&text, peak, " ");
    for (const auto& [group, total] : stage.sent) absl::StrAppend(&text, group, " ", total.bytes, " ");
    absl::StrAppend(&text, stage.memory.peak_total, " ", stage.memory.reserved, "\n");
  }
  for (const auto& actions : plan.actions) {
    for (const Action& action : actions) {
      absl::StrAppend(&text, static_cast<int>(action.kind), "/", action.micro_batch, "/", action.chunk, " ");
    }
  }
  return text;
}

// The config, which need not be legal, with the row's texts and its defaults.
RunConfig Filled(const std::string& folder, const std::string& text) {
  RunConfig config;
  const std::string whole = absl::StrCat(
      "folder: 'F/run' data { train: 'F/train' } model { family: LLAMA layers: 2 hidden: 32 heads: 4 vocabulary: 61 ",
      "sequence_length: 16 } training { steps: 4 global_batch: 8 precision: FP32 } ", text);
  EXPECT_TRUE(google::protobuf::TextFormat::MergeFromString(absl::StrReplaceAll(whole, {{"F/", folder + "/"}}), &config));
  FillDefaults(&config, RanksOf(config), {});
  return config;
}

// What a run leaves that `shows` looks at.
std::string Seen(const std::string& folder, const std::string& text, Shows shows) {
  if (shows == Shows::kRules) {
    const RunConfig config = Filled(folder, text);
    std::string lines;
    for (const std::string& line : Violations(config, RanksOf(config))) lines += line + "\n";
    return lines;
  }
  const RunConfig config =
      TinyRun(folder, absl::StrReplaceAll("model { layers: 2 } training { steps: 4 } " + text, {{"F/", folder + "/"}}));
  if (shows == Shows::kPlan) return PlanText(config);
  const RunOutcome outcome = RunTraining(config);
  EXPECT_TRUE(outcome.status.ok()) << outcome.status;
  std::string seen;
  if (shows == Shows::kLines) {
    for (size_t at = 0; (at = outcome.output.find("step ", at)) != std::string::npos; ++at) seen += "a line\n";
  } else if (shows == Shows::kNumbers) {
    for (const std::string& line : MetricLines(config)) seen += line + "\n";
  } else {
    std::set<std::string> paths;
    for (const auto& entry : fs::recursive_directory_iterator(folder)) {
      const std::string path = fs::relative(entry.path(), folder).string();
      // The event files' names have the time in them.
      if (!absl::StrContains(path, "tfevents")) paths.insert(path);
    }
    seen = absl::StrJoin(paths, "\n");
  }
  return seen;
}

class FieldTest : public testing::TestWithParam<Row> {};

TEST_P(FieldTest, ShowsInWhatItsRowSays) {
  const Row& row = GetParam();
  std::vector<std::string> seen;
  for (const std::string& text : {std::string(row.base), absl::StrCat(row.base, " ", row.change)}) {
    const std::string folder = NewFolder("run");
    ASSERT_TRUE(WriteFileAtomically(FileSystem::Posix(), folder + "/t.model", "a tokenizer").ok());
    if (absl::StrContains(text, "F/before")) {
      (void)Seen(folder, "folder: 'F/before'", Shows::kNumbers);
    }
    seen.push_back(Seen(folder, text, row.shows));
  }
  EXPECT_NE(seen[0], seen[1]) << row.path << ": " << row.change << " changes nothing";
  EXPECT_TRUE(row.shows == Shows::kRules || !seen[0].empty()) << row.path;
}

// The same of a cluster's fields, whose rows change a plan on it.
struct ClusterRow {
  const char* path;
  const char* base;
  const char* change;
};

constexpr ClusterRow kClusterRows[] = {
    {"device", "", "device: 'another'"},
    {"devices_per_node", "", "devices_per_node: 2"},
    {"gpu", "", "gpu: true"},
    {"memory_gib", "", "memory_gib: 1"},
    {"process_gib", "", "process_gib: 1"},
    {"peaks", "", "peaks { dtype: 'float32' tflops: 1 }"},
    {"ops", "", "ops { ops: 'matmul' efficiency: 0.25 }"},
    {"node", "", "node { gbytes_per_second: 1 latency_us: 50 }"},
    {"network", "devices_per_node: 2", "network { gbytes_per_second: 0.1 latency_us: 50 }"},
    {"nodes", "devices_per_node: 2", "nodes: 1"},
    {"alone_speedup", "nodes: 1", "alone_speedup: 3"},
    {"host_memory_gib", "gpu: true", "host_memory_gib: 100"},
};

constexpr char kCluster[] = R"(
    device: 'a' devices_per_node: 8 memory_gib: 80 process_gib: 2 peaks { dtype: 'float32' tflops: 30 }
    ops { overhead_us: 9 efficiency: 0.5 gbytes_per_second: 1000 } node { gbytes_per_second: 200 latency_us: 5 }
    network { gbytes_per_second: 20 latency_us: 10 })";

TEST(ClusterFieldsTest, EachHasARowThatChangesAPlan) {
  std::set<std::string> names, rows;
  for (int i = 0; i < Cluster::descriptor()->field_count(); ++i) names.insert(Cluster::descriptor()->field(i)->name());
  const RunConfig config = Filled(NewFolder("plan"), "parallel { pipeline: 2 tensor: 2 } training { micro_batch: 2 "
                                                     "checkpoint { every_steps: 2 } }");
  for (const ClusterRow& row : kClusterRows) {
    EXPECT_TRUE(rows.insert(row.path).second) << row.path;
    std::vector<std::string> reports;
    for (const std::string& text : {std::string(row.base), absl::StrCat(row.base, " ", row.change)}) {
      Cluster cluster;
      ASSERT_TRUE(google::protobuf::TextFormat::ParseFromString(text, &cluster)) << row.path;
      Cluster whole;
      // An op takes the first entry that fits it, so that the row's comes first.
      ASSERT_TRUE(google::protobuf::TextFormat::ParseFromString(kCluster, &whole));
      whole.mutable_ops()->Swap(cluster.mutable_ops());
      whole.mutable_peaks()->Swap(cluster.mutable_peaks());
      whole.MergeFrom(cluster);
      const Plan plan = Planner(whole).Make(config, RanksOf(config));
      reports.push_back(ReportPlan(config, whole, plan, plan.tokens));
    }
    EXPECT_NE(reports[0], reports[1]) << row.path << " changes no plan";
  }
  EXPECT_EQ(rows, names);
}

INSTANTIATE_TEST_SUITE_P(All, FieldTest, testing::ValuesIn(kRows), [](const auto& info) {
  return absl::StrReplaceAll(info.param.path, {{".", "_"}});
});

}  // namespace
}  // namespace trefoil
