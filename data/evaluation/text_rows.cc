#include "data/evaluation/text_rows.h"

#include <absl/strings/str_cat.h>

#include <algorithm>
#include <utility>

#include "data/text/utf8.h"

namespace trefoil {
namespace {

// Where the white space that ends a text begins.
size_t EndSpaces(std::string_view text) {
  size_t end = 0;
  for (size_t at = 0; at < text.size();) {
    const size_t space = SpaceLength(text.substr(at));
    at += space > 0 ? space : std::max<size_t>(1, Utf8Length(text.substr(at)));
    if (space == 0) end = at;
  }
  return end;
}

int32_t BeginOrEnd(const Tokenizer& tokenizer) {
  return tokenizer.begin_of_text() >= 0 ? tokenizer.begin_of_text() : tokenizer.end_of_text();
}

class RowMaker {
 public:
  RowMaker(Tokenizer& tokenizer, const RowOptions& options)
      : tokenizer_(tokenizer),
        options_(options),
        before_(options.begin.empty() ? BeginOrEnd(tokenizer) : options.begin.back()) {}

  absl::StatusOr<TaskRows> Run(const EvaluationTask& task) {
    for (const EvaluationExample& example : task.examples) {
      for (const Continuation& continuation : example.continuations) {
        result_.first.push_back(result_.rows.size());
        const absl::Status added = task.kind == EvaluationKind::kPerplexity ? AddDocument(continuation.text)
                                                                            : Add(continuation, example.place);
        if (!added.ok()) return absl::InvalidArgumentError(absl::StrCat(example.place, ": ", added.message()));
      }
    }
    result_.first.push_back(result_.rows.size());
    return std::move(result_);
  }

 private:
  absl::Status AddDocument(const std::string& text) {
    const std::vector<int32_t> ids = tokenizer_.Encode(text);
    if (ids.empty()) return absl::InvalidArgumentError("has no token; this tokenizer leaves out all of it");
    const int64_t stride = options_.stride > 0 ? options_.stride : options_.context;
    std::vector<TextRow> windows = Windows(ids, before_, options_.context, stride);
    std::move(windows.begin(), windows.end(), std::back_inserter(result_.rows));
    return absl::OkStatus();
  }

  absl::Status Add(const Continuation& continuation, const std::string& place) {
    const std::string_view context = std::string_view(continuation.context).substr(0, EndSpaces(continuation.context));
    const std::vector<int32_t> all = tokenizer_.Encode(continuation.context + continuation.text);
    const size_t known = context.empty() ? 0 : tokenizer_.Encode(context).size();
    if (all.size() <= known) {
      return absl::InvalidArgumentError(
          absl::StrCat("\"", continuation.answer, "\" has no token of its own behind its context"));
    }
    TextRow row = {.ids = options_.begin, .scored = static_cast<int64_t>(all.size() - known)};
    if (row.scored > options_.context) {
      return absl::InvalidArgumentError(absl::StrCat("\"", continuation.answer.substr(0, 40), "\" has ", row.scored,
                                                     " tokens, more than the ", options_.context,
                                                     " that the model reads"));
    }
    if (row.ids.empty() && known == 0) row.ids.push_back(before_);
    row.ids.insert(row.ids.end(), all.begin(), all.end());
    if (row.length() > options_.context) {
      if (result_.cut++ == 0) result_.first_cut = place;
      row.ids.erase(row.ids.begin(), row.ids.end() - (options_.context + 1));
    }
    result_.rows.push_back(std::move(row));
    return absl::OkStatus();
  }

  Tokenizer& tokenizer_;
  const RowOptions& options_;
  const int32_t before_;
  TaskRows result_;
};

}  // namespace

std::vector<int32_t> BeginOfTexts(const Tokenizer& tokenizer) {
  if (tokenizer.files().json) return tokenizer.before_text();
  return {BeginOrEnd(tokenizer)};
}

std::vector<TextRow> Windows(const std::vector<int32_t>& ids, int32_t before, int64_t context, int64_t stride) {
  const auto all = static_cast<int64_t>(ids.size());
  const int64_t first = std::min(context, all);
  std::vector<TextRow> windows = {{.ids = {before}, .scored = first}};
  windows[0].ids.insert(windows[0].ids.end(), ids.begin(), ids.begin() + first);
  for (int64_t done = first; done < all;) {
    const int64_t scored = std::min(stride, all - done);
    done += scored;
    windows.push_back({.ids = {ids.begin() + (done - context - 1), ids.begin() + done}, .scored = scored});
  }
  return windows;
}

absl::StatusOr<TaskRows> RowsOf(const EvaluationTask& task, Tokenizer& tokenizer, const RowOptions& options) {
  return RowMaker(tokenizer, options).Run(task);
}

}  // namespace trefoil
