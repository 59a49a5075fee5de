// The modules of every family, as the family lists them (model/module.h), each by itself: its backward against central
// differences of its forward, for all tensors that it takes and all weights that it uses. One rank.
#include <glog/logging.h>
#include <google/protobuf/text_format.h>

#include <algorithm>
#include <memory>
#include <numeric>
#include <set>
#include <string>
#include <vector>

#include "model/families/recipe.h"
#include "model/model.h"
#include "tests/model/layers_testing.h"
#include "training/tasks/tasks.h"
#include "training/upload.h"

namespace trefoil {
namespace {

struct Network {
  const char* name;
  ModelConfig::Family family;
  const char* more;
};

// Small ones, in protobuf text format on top of Base().
const Network kNetworks[] = {
    {"Bert", ModelConfig::BERT, ""},
    {"BertOfTexts", ModelConfig::BERT, "model { classes: 5 } task { kind: TEXT_CLASSES label_smoothing: 0.1 }"},
    {"BertOfTextsDropout", ModelConfig::BERT, "model { classes: 5 dropout: 0.2 } task { kind: TEXT_CLASSES }"},
    {"BertOfMeans", ModelConfig::BERT, "model { classes: 5 pooling: MEAN } task { kind: TEXT_CLASSES }"},
    {"BertOfTokens", ModelConfig::BERT, "model { classes: 5 } task { kind: TOKEN_CLASSES }"},
    {"BertOfValues", ModelConfig::BERT, "task { kind: TEXT_VALUE }"},
    {"ModernBert", ModelConfig::MODERN_BERT, ""},
    {"ModernBertOfTexts", ModelConfig::MODERN_BERT, "model { classes: 5 } task { kind: TEXT_CLASSES }"},
    {"Transformer", ModelConfig::TRANSFORMER, "model { decoder_length: 5 }"},
    {"TransformerDropout", ModelConfig::TRANSFORMER, "model { decoder_length: 5 dropout: 0.2 }"},
    {"TransformerFull", ModelConfig::TRANSFORMER, "model { dropout: 0.2 } parallel { recompute: FULL }"},
    {"TransformerSelective", ModelConfig::TRANSFORMER, "model { dropout: 0.2 } parallel { recompute: SELECTIVE }"},
    {"T5", ModelConfig::T5, "task { kind: TRANSLATION } model { decoder_length: 5 vocabulary: 111 }"},
    {"T5Selective", ModelConfig::T5,
     "task { kind: TRANSLATION } model { vocabulary: 111 } parallel { recompute: SELECTIVE }"},
    {"Vit", ModelConfig::VIT, "model { classes: 5 } task { label_smoothing: 0.1 }"},
    {"VitOfMeans", ModelConfig::VIT, "model { classes: 5 pooling: MEAN stochastic_depth: 0.4 dropout: 0.2 }"},
    {"Mae", ModelConfig::VIT,
     "model { decoder_layers: 2 decoder_hidden: 8 decoder_heads: 2 } task { kind: PATCHES mask_rate: 0.5 }"},
    {"Rnn", ModelConfig::RNN, ""},
    {"RnnOfTexts", ModelConfig::RNN, "model { classes: 5 bidirectional: true } task { kind: TEXT_CLASSES }"},
    {"Lstm", ModelConfig::LSTM, "model { dropout: 0.2 }"},
    {"LstmOfTokens", ModelConfig::LSTM, "model { classes: 5 bidirectional: true } task { kind: TOKEN_CLASSES }"},
};

class ModulesTest : public LayersTest, public testing::WithParamInterface<Network> {
 protected:
  static constexpr int64_t kBatch = 3;

  static RunConfig Config(const Network& network) {
    const bool vision = network.family == ModelConfig::VIT;
    const std::string base =
        std::string("model { hidden: 12 layers: 2 feed_forward: 10 norm_epsilon: 1e-3 ") +
        (vision ? "image_size: 6 patch_size: 2 channels: 2 }"
                : "vocabulary: 11 sequence_length: 6 }");
    RunConfig config;
    CHECK(google::protobuf::TextFormat::ParseFromString(base, &config));
    config.mutable_model()->set_family(network.family);
    const bool recurrent = network.family == ModelConfig::RNN || network.family == ModelConfig::LSTM;
    config.mutable_model()->set_heads(recurrent ? 1 : 2);
    config.mutable_training()->set_steps(1);
    config.mutable_training()->set_global_batch(kBatch);
    config.mutable_training()->set_micro_batch(kBatch);
    config.mutable_training()->set_precision(TrainingConfig::FP32);
    CHECK(google::protobuf::TextFormat::MergeFromString(network.more, &config)) << network.more;
    return Completed(config);
  }

  int32_t Below(int64_t end) { return static_cast<int32_t>(engine_() % static_cast<uint64_t>(end)); }

  // With every element that the task leaves open at random.
  Batch RandomBatch(const RunConfig& config) {
    const ModelConfig& model = config.model();
    Batch batch = ZeroBatch(config, kBatch, HasWeights(config));
    batch.first_sample = 5;
    const auto draw = [&](HostTensor& ids, int64_t end) {
      if (!ids.defined()) return;
      for (int32_t& id : ids.values<int32_t>()) id = Below(end);
    };
    const auto draw_values = [&](HostTensor& values) {
      if (!values.defined()) return;
      for (float& value : values.values<float>()) value = static_cast<float>(Random(1, 1)[0]);
    };
    draw(batch.inputs, model.vocabulary());
    draw(batch.decoder_inputs, model.vocabulary());
    draw(batch.segments, 2);
    draw(batch.targets, model.head() == ModelConfig::CLASSES ? model.classes() : model.vocabulary());
    draw_values(batch.patches);
    draw_values(batch.values);
    if (batch.lengths.defined()) batch.lengths.values<int32_t>() = {6, 3, 5};
    if (batch.weights.defined()) {
      for (float& weight : batch.weights.values<float>()) weight = 0.5f * static_cast<float>(Below(4));
    }
    if (model.head() == ModelConfig::PATCHES) HideSome(model, &batch);
    return batch;
  }

  // Of each image other patches: the class token and some in any order are seen, the others are targets.
  void HideSome(const ModelConfig& model, Batch* batch) {
    const int64_t seen = model.sequence_length(), targets = model.targets();
    std::vector<int32_t>&visible = batch->patch_places.values<int32_t>(), &hidden = batch->places.values<int32_t>();
    std::vector<int32_t> places(static_cast<size_t>(model.decoder_length()));
    for (int64_t sample = 0; sample < kBatch; ++sample) {
      std::iota(places.begin(), places.end(), 0);
      std::shuffle(places.begin() + 1, places.end(), engine_);
      std::copy(places.begin(), places.begin() + seen, visible.begin() + sample * seen);
      std::copy(places.begin() + seen, places.end(), hidden.begin() + sample * targets);
    }
  }

  // Tensors one after the other, and parts of such a tensor.
  Tensor Joined(const Tensors& parts) {
    Values values;
    for (const Tensor& part : parts) {
      const Values here = Get(*device_, part);
      values.insert(values.end(), here.begin(), here.end());
    }
    const Tensor all = context_->NewFloat({static_cast<int64_t>(values.size())});
    Set(*device_, all, values);
    return all;
  }
  static Tensors Parted(const Tensor& all, const std::vector<Shape>& shapes) {
    Tensors parts;
    int64_t begin = 0;
    for (const Shape& shape : shapes) {
      parts.push_back(all.Rows(begin, begin + shape.elements()).View(shape));
      begin += shape.elements();
    }
    return parts;
  }

  static Tensor LossOf(const ForwardPass& pass) {
    for (const Loss& loss : pass.losses) {
      if (loss.name == kTokenLoss) return loss.values;
    }
    LOG(FATAL) << "no loss";
  }

  // Random weights may make functions that differences do not follow. ReLU has no derivative at 0: some units are to be
  // well above it, the others well below. Softmax is to be far from choosing one key.
  void MakeSmooth(const ModelConfig& model) {
    const Recipe recipe = RecipeOf(model);
    const bool relu = recipe.activation == Activation::kRelu;
    for (const Parameter& parameter : table_.all()) {
      const std::string& name = parameter.name;
      const Tensor weight = store_->Weight({name});
      Values values = Get(*device_, weight);
      const bool scores = name.ends_with(".q.weight") || name.ends_with(".k.weight");
      for (size_t i = 0; i < values.size(); ++i) {
        if (relu && name.ends_with(".mlp.up.bias")) values[i] = i % 2 == 0 ? 4 : -4;
        if (relu && name.ends_with(".mlp.up.weight")) values[i] /= 2;
        if (scores) values[i] /= recipe.scaled_scores ? 2 : 6;
      }
      Set(*device_, weight, values);
    }
  }

  void CheckModule(const RunConfig& config, const std::vector<ModuleSpec>& modules, int number) {
    const ModuleSpec& spec = modules[static_cast<size_t>(number)];
    module_ = number;
    table_ = DeclareModel(config.model());
    const std::unique_ptr<Module> module = spec.build(Store());
    MakeSmooth(config.model());
    std::vector<int> all(modules.size());
    std::iota(all.begin(), all.end(), 0);
    const Reader reader = {
        .config = config, .role = RoleOf(config.model(), all), .tensor = *tensor_, .device = *device_};
    const Batch batch = RandomBatch(config);
    MicroBatch training = UploadMicroBatch(reader, batch,
                                           UploadConstants(reader, {.samples = kBatch,
                                                                    .tokens = config.model().sequence_length(),
                                                                    .decoder_tokens = config.model().decoder_length()}),
                                           /*training=*/true);
    training.loss_scale = 0.5f;
    // The head of tokens makes gradients in its forward, so that only its backward's may be for training.
    MicroBatch looked_at = training;
    looked_at.training = !spec.role.makes_losses || config.model().head() != ModelConfig::TOKENS;

    const std::vector<Shape> inputs = spec.takes(*context_, training);
    std::vector<Shape> outputs;
    const auto forward = [&](const Tensor& x) {
      ForwardPass pass;
      const Tensors y = module->Forward(*context_, looked_at, inputs.empty() ? Tensors() : Parted(x, inputs), &pass);
      if (spec.role.makes_losses) return LossOf(pass);
      outputs.clear();
      for (const Tensor& tensor : y) outputs.push_back(tensor.shape());
      return Joined(y);
    };
    const auto backward = [&](const Tensor& x, const Tensor& dy, WeightGradients& weights) {
      ForwardPass pass;
      const Tensors in = inputs.empty() ? Tensors() : Parted(x, inputs);
      module->Forward(*context_, training, in, &pass);
      const Tensors d_outputs = spec.role.makes_losses ? Tensors() : Parted(dy, outputs);
      const Tensors dx = module->Backward(*context_, training, d_outputs, std::move(pass.saved), weights);
      EXPECT_EQ(dx.size(), inputs.size());
      return dx.empty() ? Tensor() : Joined(dx);
    };
    int64_t elements = 0;
    for (const Shape& shape : inputs) elements += shape.elements();
    projection_.clear();
    if (spec.role.makes_losses) {
      projection_.assign(static_cast<size_t>(kBatch * training.targets_of_sample), training.loss_scale);
    }
    CheckLayer(inputs.empty() ? Tensor() : RandomTensor({elements}), forward, backward);
  }
};

std::string NameOf(const testing::TestParamInfo<Network>& info) { return info.param.name; }

INSTANTIATE_TEST_SUITE_P(Networks, ModulesTest, testing::ValuesIn(kNetworks), NameOf);

TEST_P(ModulesTest, BackwardsAreDerivatives) {
  const RunConfig config = Config(GetParam());
  NewContext(config.parallel().recompute());
  rotary_ = config.model().family() == ModelConfig::MODERN_BERT;
  const std::vector<ModuleSpec> modules = ModulesOf(config.model());
  // Of each kind the last: it shares what the first declares.
  std::set<std::string> kinds;
  for (int number = static_cast<int>(modules.size()); number-- > 0;) {
    if (!kinds.insert(modules[static_cast<size_t>(number)].kind).second) continue;
    SCOPED_TRACE(modules[static_cast<size_t>(number)].name);
    CheckModule(config, modules, number);
  }
}

}  // namespace
}  // namespace trefoil
