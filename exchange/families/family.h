// One family of networks as Hugging Face's folders have it: what its config.json means, and what its tensors are
// called.
//
//   const ForeignFamily* family = FindForeignFamily("gpt2");
//   ModelConfig model = ...; family->read(fields, &model);
//
// A new family is a file of this folder: a function that reads a config, one that writes it, a table of names; and a
// line in the list (families.cc).
//
// Threads: plain values and pure functions.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "exchange/config_fields.h"
#include "exchange/name_map.h"
#include "model/model.pb.h"
#include "runtime/status.h"

namespace trefoil {

// What a config says.
struct ForeignModel {
  ModelConfig model = {};                     // not filled: what the family's recipe says is left out
  std::string task = "";                      // the name of a TaskConfig::Kind
  std::vector<std::string> class_names = {};  // of a head of classes, if they are known
  std::vector<int32_t> end_of_text = {};      // eos_token_id; empty: not said
  // Whether the folder is of the network without a head: what the head has is new.
  bool without_head = false;
};

struct ForeignFamily {
  const char* model_type = nullptr;
  // Names in their files may begin with it or not: folders of networks without a head leave it out.
  const char* base_prefix = nullptr;
  std::span<const NameRow> rows = {};  // names with the prefix
  // Patterns (MatchesName) of tensors that hold nothing that was trained: buffers, copies of others.
  std::span<const char* const> ignored = {};
  // Of the embedding's copy in files of tied networks: present only if untied, or equal. Null: there is none.
  const char* tied_head = nullptr;
  // `own_head`: whether the files have a tensor tied_head. Fields that all families have are read by others.
  void (*read)(ConfigFields& fields, bool own_head, ForeignModel* model) = nullptr;
  // What the config.json of a filled model says, without model_type and what all have; a Status that names what the
  // family cannot say.
  absl::StatusOr<nlohmann::json> (*write)(const ForeignModel& model) = nullptr;
};

// Null if there is none.
const ForeignFamily* FindForeignFamily(const std::string& model_type);
std::vector<std::string> ForeignFamilyNames();
// Of a GGUF file (exchange/gguf.h), by its general.architecture; its config are the entries whose names begin with
// that. Such files are read only.
const ForeignFamily* FindGgufFamily(const std::string& architecture);
// The family in which others have a model like this one. Failure: there is none, with the reason.
absl::StatusOr<const ForeignFamily*> ForeignFamilyOf(const ModelConfig& model);

// The fields of any family's config: what tokens end a text, and many that say nothing of the network.
void ReadCommonFields(ConfigFields& fields, ForeignModel* model);

// The families.
const ForeignFamily& Gpt2Family();
const ForeignFamily& LlamaFamily();
const ForeignFamily& MistralFamily();
const ForeignFamily& Qwen2Family();
const ForeignFamily& Qwen3Family();
const ForeignFamily& BertFamily();
const ForeignFamily& T5Family();
const ForeignFamily& VitFamily();

}  // namespace trefoil
