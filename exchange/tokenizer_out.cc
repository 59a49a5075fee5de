#include "exchange/tokenizer_out.h"

#include <nlohmann/json.hpp>

#include "data/tokens/tokenizer_files.h"
#include "exchange/sentencepiece_json.h"

namespace trefoil {

absl::Status WriteTokenizerForOthers(FileSystem& fs, const Tokenizer& tokenizer, const ModelConfig& model,
                                     const std::string& folder, std::string* note) {
  TokenizerFiles files = tokenizer.files();
  if (!files.json) {
    absl::StatusOr<std::string> json = TokenizerJsonOf(files.content, "the run's tokenizer.model");
    if (json.ok()) {
      files.json = true;
      files.content = *std::move(json);
    } else {
      *note = std::string(json.status().message()) + "; tokenizer.model is written as it is";
    }
  }
  if (files.config.empty()) {
    const std::string end(tokenizer.Piece(tokenizer.end_of_text()));
    const nlohmann::ordered_json config = {{"tokenizer_class", "PreTrainedTokenizerFast"},
                                           {"bos_token", end},  // which a document begins behind
                                           {"eos_token", end},
                                           {"model_max_length", model.sequence_length()},
                                           {"clean_up_tokenization_spaces", false}};
    files.config = config.dump(2) + "\n";
  }
  return WriteTokenizerFiles(fs, folder, files);
}

}  // namespace trefoil
