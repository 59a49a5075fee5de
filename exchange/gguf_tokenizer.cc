#include "exchange/gguf_tokenizer.h"

#include <absl/strings/str_cat.h>

#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

namespace trefoil {
namespace {

using Json = nlohmann::ordered_json;

// ggml's types of tokens.
constexpr int kControl = 3, kUserDefined = 4;

constexpr char kLlama3Pattern[] =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr char kQwen2Pattern[] =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

Json ByteLevel(bool pattern) {
  return {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", true}, {"use_regex", pattern}};
}
Json Split(const char* pattern) {
  return {{"type", "Split"}, {"pattern", {{"Regex", pattern}}}, {"behavior", "Isolated"}, {"invert", false}};
}
Json Sequence(Json first, Json second) {
  return {{"type", "Sequence"}, {"pretokenizers", Json::array({std::move(first), std::move(second)})}};
}

// What cuts text into words, by llama.cpp's names.
struct Cutting {
  const char* name;
  Json normalizer;
  Json pre_tokenizer;
  bool ignore_merges;
};
std::vector<Cutting> Cuttings() {
  return {{"gpt-2", nullptr, ByteLevel(true), false},
          {"smollm", nullptr, Sequence({{"type", "Digits"}, {"individual_digits", true}}, ByteLevel(true)), false},
          {"llama-bpe", nullptr, Sequence(Split(kLlama3Pattern), ByteLevel(false)), true},
          {"qwen2", {{"type", "NFC"}}, Sequence(Split(kQwen2Pattern), ByteLevel(false)), false}};
}

template <typename T>
T Get(const nlohmann::json& metadata, const std::string& name, T otherwise) {
  const auto it = metadata.find("tokenizer." + name);
  if (it == metadata.end() || it->type() != nlohmann::json(otherwise).type()) return otherwise;
  return it->get<T>();
}

}  // namespace

absl::StatusOr<GgufTokenizer> TokenizerOfGguf(const nlohmann::json& metadata, const std::string& path) {
  const auto wrong = [&](const std::string& what) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": tokenizer.", what));
  };
  const std::string kind = Get<std::string>(metadata, "ggml.model", "");
  if (kind != "gpt2") return wrong("ggml.model: \"" + kind + "\", which is not known; must be \"gpt2\"");
  const std::string pre = Get<std::string>(metadata, "ggml.pre", "gpt-2");
  const std::vector<Cutting> cuttings = Cuttings();
  const Cutting* cutting = nullptr;
  for (const Cutting& one : cuttings) cutting = pre == one.name ? &one : cutting;
  if (cutting == nullptr) {
    return wrong("ggml.pre: \"" + pre + "\", which is not known; legal: gpt-2, smollm, llama-bpe, qwen2");
  }
  const auto tokens = metadata.find("tokenizer.ggml.tokens"), types = metadata.find("tokenizer.ggml.token_type"),
             merges = metadata.find("tokenizer.ggml.merges");
  const auto list_of = [&](auto it, bool words) {
    return it != metadata.end() && it->is_array() &&
           (it->empty() || (words ? it->front().is_string() : it->front().is_number_integer()));
  };
  if (!list_of(tokens, true) || !list_of(merges, true) || !list_of(types, false) || tokens->size() != types->size()) {
    return wrong("ggml.tokens, token_type and merges: must be lists, the first two of one length");
  }
  Json added = Json::array();
  nlohmann::json ids = nlohmann::json::object();
  for (size_t id = 0; id < tokens->size(); ++id) {
    const std::string token = (*tokens)[id].get<std::string>();
    if (!ids.emplace(token, id).second) return wrong("ggml.tokens: \"" + token + "\" is there twice");
    const int type = (*types)[id].get<int>();
    if (type != kControl && type != kUserDefined) continue;
    added.push_back({{"id", id},
                     {"content", token},
                     {"single_word", false},
                     {"lstrip", false},
                     {"rstrip", false},
                     {"normalized", false},
                     {"special", type == kControl}});
  }
  const auto token_of = [&](const char* name) -> std::string {
    const auto it = metadata.find(std::string("tokenizer.ggml.") + name);
    if (it == metadata.end() || !it->is_number_unsigned() || it->get<uint64_t>() >= tokens->size()) return "";
    return (*tokens)[it->get<size_t>()].get<std::string>();
  };
  const std::string begin = token_of("bos_token_id"), end = token_of("eos_token_id");
  const bool adds_begin = Get<bool>(metadata, "ggml.add_bos_token", false);
  Json processor = nullptr;
  if (adds_begin && !begin.empty()) {
    const Json first = {{"SpecialToken", {{"id", begin}, {"type_id", 0}}}};
    const Json a = {{"Sequence", {{"id", "A"}, {"type_id", 0}}}}, b = {{"Sequence", {{"id", "B"}, {"type_id", 0}}}};
    processor = {{"type", "TemplateProcessing"},
                 {"single", Json::array({first, a})},
                 {"pair", Json::array({first, a, b})},
                 {"special_tokens",
                  {{begin, {{"id", begin}, {"ids", Json::array({ids[begin]})}, {"tokens", Json::array({begin})}}}}}};
  }
  const Json model = {{"type", "BPE"},
                      {"dropout", nullptr},
                      {"unk_token", nullptr},
                      {"continuing_subword_prefix", nullptr},
                      {"end_of_word_suffix", nullptr},
                      {"fuse_unk", false},
                      {"byte_fallback", false},
                      {"ignore_merges", cutting->ignore_merges},
                      {"vocab", ids},
                      {"merges", *merges}};
  const Json file = {{"version", "1.0"},
                     {"truncation", nullptr},
                     {"padding", nullptr},
                     {"added_tokens", added},
                     {"normalizer", cutting->normalizer},
                     {"pre_tokenizer", cutting->pre_tokenizer},
                     {"post_processor", processor},
                     {"decoder", ByteLevel(true)},
                     {"model", model}};
  Json config = {{"tokenizer_class", "PreTrainedTokenizerFast"}};
  if (!begin.empty()) config["bos_token"] = begin;
  if (!end.empty()) config["eos_token"] = end;
  if (const std::string padding = token_of("padding_token_id"); !padding.empty()) config["pad_token"] = padding;
  if (const std::string unknown = token_of("unknown_token_id"); !unknown.empty()) config["unk_token"] = unknown;
  const std::string chat = Get<std::string>(metadata, "chat_template", "");
  if (!chat.empty()) config["chat_template"] = chat;
  const auto replace = nlohmann::json::error_handler_t::replace;
  return GgufTokenizer{.json = file.dump(-1, ' ', false, replace),
                       .config = config.dump(2, ' ', false, replace) + "\n"};
}

}  // namespace trefoil
