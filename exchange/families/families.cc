#include <absl/strings/str_cat.h>

#include <nlohmann/json.hpp>

#include "exchange/families/family.h"

namespace trefoil {
namespace {

std::vector<const ForeignFamily*> All() {
  return {&Gpt2Family(),  &LlamaFamily(), &MistralFamily(), &Qwen2Family(),
          &Qwen3Family(), &BertFamily(),  &T5Family(),      &VitFamily()};
}

// Of no network: where a config comes from, how it is stored, which tokens have which part, how text is drawn.
constexpr const char* kCommon[] = {"_name_or_path",
                                   "_attn_implementation_autoset",
                                   "transformers_version",
                                   "transformers.js_config",
                                   "torch_dtype",
                                   "dtype",
                                   "use_cache",
                                   "gradient_checkpointing",
                                   "torchscript",
                                   "use_bfloat16",
                                   "tf_legacy_loss",
                                   "return_dict",
                                   "output_attentions",
                                   "output_hidden_states",
                                   "output_scores",
                                   "return_dict_in_generate",
                                   "problem_type",
                                   "finetuning_task",
                                   "task_specific_params",
                                   "prefix",
                                   "tokenizer_class",
                                   "bos_token_id",
                                   "pad_token_id",
                                   "sep_token_id",
                                   "cls_token_id",
                                   "mask_token_id",
                                   "decoder_start_token_id",
                                   "forced_bos_token_id",
                                   "forced_eos_token_id",
                                   "chunk_size_feed_forward",
                                   "cross_attention_hidden_size",
                                   "tie_encoder_decoder",
                                   "max_length",
                                   "min_length",
                                   "do_sample",
                                   "early_stopping",
                                   "num_beams",
                                   "num_beam_groups",
                                   "diversity_penalty",
                                   "temperature",
                                   "top_k",
                                   "top_p",
                                   "typical_p",
                                   "repetition_penalty",
                                   "length_penalty",
                                   "no_repeat_ngram_size",
                                   "encoder_no_repeat_ngram_size",
                                   "bad_words_ids",
                                   "num_return_sequences",
                                   "remove_invalid_values",
                                   "exponential_decay_length_penalty",
                                   "suppress_tokens",
                                   "begin_suppress_tokens",
                                   "max_new_tokens"};

}  // namespace

const ForeignFamily* FindForeignFamily(const std::string& model_type) {
  for (const ForeignFamily* family : All()) {
    if (family->model_type == model_type) return family;
  }
  return nullptr;
}

std::vector<std::string> ForeignFamilyNames() {
  std::vector<std::string> names;
  for (const ForeignFamily* family : All()) names.push_back(family->model_type);
  return names;
}

absl::StatusOr<const ForeignFamily*> ForeignFamilyOf(const ModelConfig& model) {
  switch (model.family()) {
    case ModelConfig::GPT:
      return &Gpt2Family();
    case ModelConfig::LLAMA:
      if (model.qk_norm()) return &Qwen3Family();
      if (model.qkv_bias() && !model.attention_output_bias()) return &Qwen2Family();
      return model.sliding_window() > 0 ? &MistralFamily() : &LlamaFamily();
    case ModelConfig::BERT:
      return &BertFamily();
    case ModelConfig::T5:
      return &T5Family();
    case ModelConfig::VIT:
      return &VitFamily();
    default:
      return absl::UnimplementedError(absl::StrCat("model.family: ", ModelConfig::Family_Name(model.family()),
                                                   ", which others do not have; legal: GPT, LLAMA, BERT, T5, VIT"));
  }
}

void ReadCommonFields(ConfigFields& fields, ForeignModel* model) {
  for (const char* name : kCommon) fields.Ignore(name);
  fields.Words("architectures");
  fields.Word("model_type", "");
  fields.MustBeEmpty("pruned_heads");
  model->end_of_text = fields.IntOrInts("eos_token_id");
  if (fields.Has("initializer_range")) {
    model->model.set_initial_deviation(static_cast<float>(fields.Number("initializer_range", 0.02)));
  }
  for (const char* name : {"initializer_range", "is_decoder", "id2label", "label2id", "num_labels"})
    fields.Ignore(name);
  if (model->model.family() != ModelConfig::T5) fields.MustBe("is_encoder_decoder", false);
}

}  // namespace trefoil
