#include "launcher/commands/commands.h"

#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>
#include <gflags/gflags.h>

#include <algorithm>
#include <ctime>
#include <iostream>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "launcher/cluster/machine.h"
#include "launcher/flags/batch.h"
#include "launcher/flags/json.h"
#include "launcher/flags/samples.h"
#include "launcher/flags/tokens.h"
#include "launcher/generation/chat.h"
#include "launcher/generation/printer.h"
#include "launcher/generation/prompts.h"
#include "launcher/generation/text_writer.h"
#include "launcher/given_flags.h"
#include "launcher/prepare.h"
#include "launcher/repeated_flags.h"
#include "launcher/trained_model.h"
#include "model/families/recipe.h"
#include "parallel/collectives/world.h"
#include "parallel/same_on_ranks.h"
#include "runtime/host/cpu_features.h"
#include "runtime/number_text.h"

DEFINE_string(prompts, "", "A file of prompts: a text a line, or .jsonl with \"prompt\", \"text\" or \"messages\". -: standard input.");
DEFINE_double(temperature, 0.8, "Divides the logits: lower is safer, 0 always takes the likeliest token.");
DEFINE_int32(top_k, 0, "Choose among the k likeliest tokens only. 0: all.");
DEFINE_double(top_p, 0.95, "Choose among the likeliest tokens that together have this probability. 1: all.");
DEFINE_uint64(seed, 1, "The same seed gives the same text.");
DEFINE_bool(chat, false, "Prompts are what a user says to the model, written as its chat template has it.");
DEFINE_string(system, "", "With --chat: what the model is told before all else.");
DEFINE_bool(interactive, false,
            "Read lines from standard input, and let the model go on behind each. What has been read and written is kept.");

namespace trefoil {
namespace {

template <typename... Parts>
absl::Status Bad(const Parts&... parts) {
  return absl::InvalidArgumentError(absl::StrCat(parts...));
}

struct Asked {
  std::vector<std::string> prompts, stop, words;  // --prompt, --stop; what is no flag
};

absl::Status CheckSampling() {
  if (!(FLAGS_temperature >= 0)) return Bad("--temperature: ", FLAGS_temperature, ", must be 0 or more; nearest legal: 0");
  if (FLAGS_top_k < 0) return Bad("--top_k: ", FLAGS_top_k, ", must be 0 (all) or more; nearest legal: 0");
  if (!(FLAGS_top_p > 0 && FLAGS_top_p <= 1)) {
    return Bad("--top_p: ", FLAGS_top_p, ", must be above 0 and at most 1; nearest legal: ", FLAGS_top_p > 1 ? "1" : "0.01");
  }
  for (const char* flag : {"top_k", "top_p", "samples"}) {
    if (FLAGS_temperature > 0 || !IsGiven(flag)) continue;
    return Bad("--", flag, ": chooses among tokens, and --temperature=0 takes the likeliest; leave one out");
  }
  return absl::OkStatus();
}

absl::Status CheckFlags(const Asked& asked) {
  if (!asked.words.empty()) return Bad("'", asked.words.front(), "': no flag; give a text with --prompt='...'");
  if (FLAGS_tokens < 1) return Bad("--tokens: ", FLAGS_tokens, ", must be at least 1; nearest legal: 1");
  if (FLAGS_batch < 1) return Bad("--batch: ", FLAGS_batch, ", must be at least 1; nearest legal: 1");
  if (FLAGS_samples < 0) return Bad("--samples: ", FLAGS_samples, ", must be at least 1, or 0; nearest legal: 1");
  if (!FLAGS_prompts.empty() && !asked.prompts.empty()) return Bad("--prompts: prompts are given by --prompt as well; leave one out");
  for (const std::string& text : asked.stop) {
    if (text.empty()) return Bad("--stop: empty; give a text at which to stop");
  }
  for (const std::string& prompt : asked.prompts) TREFOIL_RETURN_IF_ERROR(CheckText(prompt, "--prompt"));
  for (const char* flag : {"prompts", "samples", "batch", "json"}) {
    if (FLAGS_interactive && IsGiven(flag)) return Bad("--", flag, ": is of several texts, --interactive of one; leave one out");
  }
  if (!FLAGS_chat && !FLAGS_system.empty()) return Bad("--system: is of a conversation; give --chat as well");
  TREFOIL_RETURN_IF_ERROR(CheckText(FLAGS_system, "--system"));
  if (FLAGS_interactive && asked.prompts.size() > 1) return Bad("--prompt: given ", asked.prompts.size(), " times; --interactive begins with one text");
  return CheckSampling();
}

absl::Status CheckContinues(const std::string& path, const ModelConfig& model) {
  const Recipe::Structure structure = RecipeOf(model).structure;
  const bool from_left = structure == Recipe::Structure::kDecoder || structure == Recipe::Structure::kRecurrent;
  if (from_left && model.head() == ModelConfig::TOKENS) return absl::OkStatus();
  return Bad("--checkpoint: ", path, " is of a ", ModelConfig::Family_Name(model.family()), " with head ",
             ModelConfig::Head_Name(model.head()),
             ", which does not continue text; use `trefoil predict`, or a model that does: GPT, LLAMA, RNN, LSTM");
}

const char* NameOf(TextEnd end) {
  return end == TextEnd::kEnd ? "END" : end == TextEnd::kStopped ? "STOP" : "LIMIT";
}

std::string Speed(int64_t tokens, double seconds) {
  return seconds > 0 && tokens > 0 ? absl::StrFormat(" at %.1f tokens/s", static_cast<double>(tokens) / seconds) : "";
}

std::string Tokens(int64_t tokens) { return absl::StrCat(tokens, tokens == 1 ? " token" : " tokens"); }

// One model and what is asked of it.
class Generation {
 public:
  Generation(const Asked& asked, World& world, TrainedModel& writer)
      : asked_(asked),
        world_(world),
        writer_(writer),
        tokenizer_(*writer.tokenizer),
        options_({.ends = {tokenizer_.end_of_text()}, .stop = asked.stop}) {}

  // Before all else: what of the run's folder it takes. Every rank makes the call.
  absl::Status Prepare(FileSystem& fs) {
    if (FLAGS_chat) {
      const std::string now = world_.all().BroadcastString(absl::StrCat(std::time(nullptr)));
      absl::StatusOr<Chat> chat = Chat::Of(tokenizer_, writer_.run, std::stoll(now));
      TREFOIL_RETURN_IF_ERROR(world_.all().Agree(chat.status()));
      chat_.emplace(*std::move(chat));
    }
    absl::StatusOr<std::vector<int32_t>> more = EndTokens(fs, writer_.run, tokenizer_.vocabulary());
    TREFOIL_RETURN_IF_ERROR(world_.all().Agree(more.status()));
    options_.ends.insert(options_.ends.end(), more->begin(), more->end());
    return absl::OkStatus();
  }

  absl::Status Run(const std::vector<Prompt>& prompts) {
    std::vector<TextToWrite> wanted;
    std::vector<std::string> titles;
    const int64_t samples = std::max<int64_t>(1, FLAGS_samples);
    int64_t longest = 0;
    for (size_t i = 0; i < prompts.size(); ++i) {
      TREFOIL_ASSIGN_OR_RETURN(const std::vector<int32_t> ids, IdsOf(prompts[i]));
      NoteLength(prompts[i], std::ssize(ids));
      longest = std::max(longest, std::ssize(ids));
      for (int64_t sample = 0; sample < samples; ++sample) {
        wanted.push_back(Wanted(ids, static_cast<uint64_t>(sample)));
        titles.push_back(absl::StrCat(
            prompts.size() > 1 ? absl::StrCat("prompt ", i + 1, " of ", prompts.size()) : "",
            prompts.size() > 1 && samples > 1 ? ", " : "",
            samples > 1 ? absl::StrCat("sample ", sample + 1, " of ", samples) : ""));
      }
    }
    OpenTexts texts(*writer_.predictor, std::min<int64_t>(FLAGS_batch, std::ssize(wanted)), longest + FLAGS_tokens);
    Printer printer(out(), std::move(titles), FLAGS_json);
    const auto prompt_of = [&](size_t text) -> const std::string& {
      return prompts[text / static_cast<size_t>(samples)].text;
    };
    // An answer stands for itself.
    for (size_t text = 0; text < wanted.size() && !FLAGS_chat; ++text) printer.Begin(text, prompt_of(text));
    const WritingTimes times = WriteAsText(
        texts, tokenizer_, wanted, options_, [&](size_t text, const std::string& piece) { printer.Add(text, piece); },
        [&](size_t text, const WrittenText& written) {
          printer.End(text, {.prompt = prompt_of(text),
                             .text = written.text,
                             .end = NameOf(written.end),
                             .tokens = std::ssize(written.ids)});
        });
    Summarise(times);
    return absl::OkStatus();
  }

  // Lines of rank 0's standard input, each behind all that has been said, until there are no more.
  absl::Status Converse(const Prompt& first) {
    OpenTexts texts(*writer_.predictor, 1, writer_.model().sequence_length());
    std::vector<int32_t> ids = tokenizer_.EncodeDocument(first.text);
    std::string text = first.text;
    std::vector<Message> messages = Opening();
    if (!FLAGS_chat) out() << text << std::flush;
    WritingTimes all;
    for (uint64_t turn = 0;; ++turn) {
      TREFOIL_ASSIGN_OR_RETURN(const std::optional<std::string> line, ReadLine());
      if (!line.has_value()) break;
      if (FLAGS_chat) {
        messages.push_back({.role = "user", .content = *line});
        TREFOIL_ASSIGN_OR_RETURN(ids, chat_->Ids(tokenizer_, messages));
      } else {
        const std::vector<int32_t> more = tokenizer_.Encode(*line + "\n", text);
        ids.insert(ids.end(), more.begin(), more.end());
        text += *line + "\n";
      }
      const TextToWrite wanted = Wanted(ids, turn);
      const WritingTimes times = WriteAsText(
          texts, tokenizer_, std::span(&wanted, 1), options_,
          [&](size_t, const std::string& piece) { out() << piece << std::flush; },
          [&](size_t, const WrittenText& written) {
            messages.push_back({.role = "assistant", .content = written.text});
            ids.insert(ids.end(), written.ids.begin(), written.ids.end());
            if (written.end == TextEnd::kEnd) ids.push_back(tokenizer_.end_of_text());
            text += written.text;
            out() << std::endl;
          });
      all.prompt_tokens += times.prompt_tokens;
      all.prompt_seconds += times.prompt_seconds;
      all.written_tokens += times.written_tokens;
      all.written_seconds += times.written_seconds;
    }
    Summarise(all);
    return absl::OkStatus();
  }

 private:
  // Rank 0's; those of others go nowhere.
  std::ostream& out() { return world_.rank() == 0 ? std::cout : nowhere_; }

  // What precedes what a user says.
  static std::vector<Message> Opening() {
    if (FLAGS_system.empty()) return {};
    return {{.role = "system", .content = FLAGS_system}};
  }

  absl::StatusOr<std::vector<int32_t>> IdsOf(const Prompt& prompt) {
    if (!FLAGS_chat && prompt.messages.empty()) return tokenizer_.EncodeDocument(prompt.text);
    if (!FLAGS_chat) return Bad(prompt.place, ": has messages, which take --chat");
    std::vector<Message> messages = Opening();
    messages.insert(messages.end(), prompt.messages.begin(), prompt.messages.end());
    if (prompt.messages.empty()) messages.push_back({.role = "user", .content = prompt.text});
    return chat_->Ids(tokenizer_, messages);
  }

  TextToWrite Wanted(const std::vector<int32_t>& ids, uint64_t number) const {
    return {.prompt = ids,
            .most_tokens = FLAGS_tokens,
            .sampling = {.temperature = static_cast<float>(FLAGS_temperature),
                         .top_k = FLAGS_top_k,
                         .top_p = static_cast<float>(FLAGS_top_p)},
            .seed = FLAGS_seed + number};
  }

  void NoteLength(const Prompt& prompt, int64_t tokens) const {
    const int64_t context = writer_.model().sequence_length();
    if (tokens <= context || world_.rank() != 0) return;
    std::cerr << "trefoil generate: note: " << prompt.place << ": the prompt has " << tokens - 1
              << " tokens, the model's context " << context << ": only the last " << context << " of them count\n";
  }

  // Of rank 0; none at the end.
  absl::StatusOr<std::optional<std::string>> ReadLine() {
    std::string line, message;
    if (world_.rank() == 0) message = std::getline(std::cin, line) ? "+" + line : "";
    message = world_.all().BroadcastString(message);
    if (message.empty()) return std::optional<std::string>();
    TREFOIL_RETURN_IF_ERROR(CheckText(message, "standard input"));
    return std::optional<std::string>(message.substr(1));
  }

  void Summarise(const WritingTimes& times) const {
    if (world_.rank() != 0) return;
    const int64_t kept = writer_.predictor->device().memory().peak[static_cast<size_t>(Purpose::kCache)];
    std::cerr << "trefoil generate: read " << Tokens(times.prompt_tokens)
              << Speed(times.prompt_tokens, times.prompt_seconds) << ", wrote " << Tokens(times.written_tokens)
              << Speed(times.written_tokens, times.written_seconds);
    if (kept > 0) std::cerr << ", " << BytesText(kept) << " of keys and values on a rank";
    std::cerr << std::endl;
  }

  const Asked& asked_;
  World& world_;
  TrainedModel& writer_;
  Tokenizer& tokenizer_;
  TextOptions options_;
  std::optional<Chat> chat_;
  std::ostream nowhere_{nullptr};
};

absl::Status Generate(FileSystem& fs, const Asked& asked, World& world) {
  std::vector<std::string> words = asked.words;
  for (const auto* list : {&asked.prompts, &asked.stop}) words.insert(words.end(), list->begin(), list->end());
  TREFOIL_RETURN_IF_ERROR(CheckSameOnRanks(world.all(), CommandLineFacts(words)));
  TREFOIL_RETURN_IF_ERROR(CheckFlags(asked));
  TREFOIL_RETURN_IF_ERROR(world.all().Agree(CheckCpuLevel()));
  std::vector<Prompt> prompts;
  if (!FLAGS_prompts.empty()) {
    TREFOIL_ASSIGN_OR_RETURN(prompts, ReadPrompts(FLAGS_prompts, world.all()));
  }
  for (const std::string& text : asked.prompts) prompts.push_back({.text = text, .place = "--prompt"});
  if (prompts.empty()) prompts.push_back({.place = "--prompt"});
  const std::unique_ptr<Device> device = OpenCpu(RuntimeConfig(), world.local_size());
  TREFOIL_ASSIGN_OR_RETURN(TrainedModel writer,
                           LoadTrainedModel(fs, "generate", CheckContinues, Copies::kNone, world, *device));
  Generation generation(asked, world, writer);
  TREFOIL_RETURN_IF_ERROR(generation.Prepare(fs));
  return FLAGS_interactive ? generation.Converse(prompts.front()) : generation.Run(prompts);
}

}  // namespace

int GenerateMain(int argc, char** argv) {
  const std::unique_ptr<World> world = NewMpiWorld(&argc, &argv);
  const bool speak = world->rank() == 0;
  world->set_timeout_seconds(24 * 3600);  // ranks wait for rank 0's reader
  Asked asked;
  for (const auto& [name, to] : {std::pair("prompt", &asked.prompts), std::pair("stop", &asked.stop)}) {
    auto taken = TakeRepeated(name, "TEXT", &argc, argv);
    if (!taken.ok()) return Fail("generate", taken.status(), speak);
    *to = *std::move(taken);
  }
  asked.words.assign(argv + 1, argv + argc);
  const absl::Status status = Generate(FileSystem::Posix(), asked, *world);
  return status.ok() ? 0 : Fail("generate", status, speak);
}

}  // namespace trefoil
