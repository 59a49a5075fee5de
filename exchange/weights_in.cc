#include "exchange/weights_in.h"

#include <absl/strings/match.h>
#include <absl/strings/str_cat.h>
#include <absl/strings/str_join.h>
#include <absl/strings/str_replace.h>
#include <glog/logging.h>

#include <algorithm>
#include <set>
#include <utility>

#include "exchange/number_formats.h"

namespace trefoil {
namespace {

constexpr int64_t kPieceElements = 1 << 24;

// The tensor of a name, with the prefix or without, as newer files spell it or older ones.
const ForeignTensor* FindSpelled(const ForeignTensors& tensors, const ForeignFamily& family, const std::string& name) {
  const std::string older =
      absl::StrReplaceAll(name, {{"LayerNorm.weight", "LayerNorm.gamma"}, {"LayerNorm.bias", "LayerNorm.beta"}});
  for (const std::string& spelled : {name, older}) {
    if (const ForeignTensor* const found = tensors.Find(spelled); found != nullptr) return found;
    if (!spelled.starts_with(family.base_prefix)) continue;
    if (const ForeignTensor* const found = tensors.Find(spelled.substr(std::string(family.base_prefix).size()));
        found != nullptr) {
      return found;
    }
  }
  return nullptr;
}

bool IsIgnored(const ForeignFamily& family, const std::string& name) {
  return std::any_of(family.ignored.begin(), family.ignored.end(), [&](const std::string& pattern) {
    return MatchesName(pattern, name) || MatchesName(pattern, family.base_prefix + name);
  });
}

bool OfHead(const NamedTensor& named) {
  return std::all_of(named.parameters.begin(), named.parameters.end(),
                     [](const Parameter* parameter) { return parameter->name.starts_with("head."); });
}

// The first names of a list that may be long.
std::string Some(const std::vector<std::string>& names) {
  constexpr size_t kShown = 8;
  const std::vector<std::string> first(names.begin(),
                                       names.begin() + static_cast<std::ptrdiff_t>(std::min(names.size(), kShown)));
  return absl::StrCat(absl::StrJoin(first, ", "),
                      names.size() > kShown ? absl::StrCat(" and ", names.size() - kShown, " more") : "");
}

}  // namespace

absl::StatusOr<WeightsIn> WeightsIn::Match(const ForeignTensors& tensors, const ForeignFamily& family,
                                           const ModelConfig& model, const ParameterTable& table, bool without_head) {
  TREFOIL_ASSIGN_OR_RETURN(std::vector<NamedTensor> all, ExpandNames(family.rows, model, table));
  WeightsIn weights(tensors, model.head_dim());
  std::vector<std::string> absent, misshapen, unreadable, unknown;
  std::set<std::string> used;
  for (NamedTensor& named : all) {
    const ForeignTensor* const tensor = FindSpelled(tensors, family, named.name);
    if (tensor == nullptr) {
      if (!without_head || !OfHead(named)) {
        absent.push_back(named.name);
        continue;
      }
      for (const Parameter* parameter : named.parameters) weights.missing_.push_back(parameter->name);
      continue;
    }
    used.insert(tensor->name);
    if (tensor->shape != named.shape) {
      const ForeignTensor wanted = {.name = "", .dtype = "", .shape = named.shape};
      misshapen.push_back(absl::StrCat(tensor->name, " is ", tensor->ShapeText(), " and must be ", wanted.ShapeText()));
      continue;
    }
    if (!FindNumberFormat(tensor->dtype)->real) unreadable.push_back(tensor->name + " is " + tensor->dtype);
    weights.sources_.push_back({std::move(named), tensor});
    weights.AddPieces(weights.sources_.size() - 1);
  }
  for (const ForeignTensor& tensor : tensors.tensors()) {
    if (used.contains(tensor.name)) continue;
    const bool known = IsIgnored(family, tensor.name) ||
                       (model.tied() && family.tied_head != nullptr && tensor.name == family.tied_head);
    (known ? weights.ignored_ : unknown).push_back(tensor.name);
  }
  std::vector<std::string> problems;
  for (const auto& [what, names] :
       {std::pair("missing: ", &absent), std::pair("of another shape than the config says: ", &misshapen),
        std::pair("no floating point: ", &unreadable), std::pair("unknown: ", &unknown)}) {
    if (!names->empty()) problems.push_back(what + Some(*names));
  }
  if (!problems.empty()) {
    return absl::InvalidArgumentError(absl::StrCat("its tensors are not those of a ", family.model_type,
                                                   " of this config:\n  ", absl::StrJoin(problems, "\n  ")));
  }
  if (model.tied()) TREFOIL_RETURN_IF_ERROR(weights.CheckTied(family));
  return weights;
}

void WeightsIn::AddPieces(size_t source) {
  const NamedTensor& named = sources_[source].named;
  int64_t first_output = 0;
  for (const Parameter* parameter : named.parameters) {
    const int64_t rows = parameter->shape[0], columns = parameter->shape.elements() / rows;
    int64_t at_once = std::clamp<int64_t>(kPieceElements / columns, 1, rows);
    if (named.arrangement == Arrangement::kPairsTogether)
      at_once = std::max(head_dim_, at_once / head_dim_ * head_dim_);
    if (named.arrangement == Arrangement::kTransposed) at_once = rows;
    for (int64_t row = 0; row < rows; row += at_once) {
      pieces_.push_back({parameter, row, std::min(at_once, rows - row), source, first_output});
    }
    first_output += rows;
  }
}

absl::Status WeightsIn::CheckTied(const ForeignFamily& family) const {
  const ForeignTensor* const head = family.tied_head == nullptr ? nullptr : tensors_->Find(family.tied_head);
  const auto table = std::find_if(sources_.begin(), sources_.end(), [](const Source& source) {
    return source.named.parameters.front()->name == "embedding.token.weight";
  });
  if (head == nullptr || table == sources_.end()) return absl::OkStatus();
  const int64_t elements = table->tensor->elements();
  bool same = head->shape == table->tensor->shape;
  std::vector<float> a, b;
  for (int64_t first = 0; same && first < elements; first += kPieceElements) {
    a.resize(static_cast<size_t>(std::min(kPieceElements, elements - first)));
    b.resize(a.size());
    TREFOIL_RETURN_IF_ERROR(tensors_->Read(*head, first, a));
    TREFOIL_RETURN_IF_ERROR(tensors_->Read(*table->tensor, first, b));
    same = a == b;
  }
  if (same) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("tie_word_embeddings is true, but ", head->name,
                                                 " is another matrix than ", table->tensor->name,
                                                 ": one of the two is wrong"));
}

absl::Status WeightsIn::Read(const Piece& piece, std::span<float> out) const {
  const Source& source = sources_[piece.tensor];
  const int64_t columns = piece.parameter->shape.elements() / piece.parameter->shape[0];
  CHECK_EQ(static_cast<int64_t>(out.size()), piece.elements());
  const int64_t first = (piece.first_output + piece.first_row) * columns;
  if (source.named.arrangement == Arrangement::kSame) return tensors_->Read(*source.tensor, first, out);
  if (source.named.arrangement == Arrangement::kPairsTogether) {
    std::vector<float> there(out.size());
    TREFOIL_RETURN_IF_ERROR(tensors_->Read(*source.tensor, first, there));
    for (int64_t row = 0; row < piece.rows; ++row) {
      const int64_t head = row / head_dim_, i = row % head_dim_, half = head_dim_ / 2;
      const int64_t from = head * head_dim_ + (i < half ? 2 * i : 2 * (i - half) + 1);
      std::copy_n(there.begin() + from * columns, columns, out.begin() + row * columns);
    }
    return absl::OkStatus();
  }
  // [inputs, outputs]: as many of its rows at once as fill a buffer.
  const int64_t outputs = source.named.outputs(), at_once = std::clamp<int64_t>((1 << 20) / outputs, 1, columns);
  std::vector<float> there;
  for (int64_t input = 0; input < columns; input += at_once) {
    const int64_t inputs = std::min(at_once, columns - input);
    there.resize(static_cast<size_t>(inputs * outputs));
    TREFOIL_RETURN_IF_ERROR(tensors_->Read(*source.tensor, input * outputs, there));
    for (int64_t row = 0; row < piece.rows; ++row) {
      const float* const column = there.data() + piece.first_output + piece.first_row + row;
      for (int64_t i = 0; i < inputs; ++i) out[static_cast<size_t>(row * columns + input + i)] = column[i * outputs];
    }
  }
  return absl::OkStatus();
}

}  // namespace trefoil
