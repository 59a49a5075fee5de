// Which tensor of a family's folders is which parameter here: a table of names, used in both directions.
//
//   const NameRow kRows[] = {
//       {"embedding.token.weight", "wte.weight"},
//       {"blocks.#.attention.{q,k,v}.weight", "h.#.attn.c_attn.weight", Arrangement::kTransposed},
//       {"blocks.#.attention_norm.*", "h.#.ln_1.*"}};
//   TREFOIL_ASSIGN_OR_RETURN(const std::vector<NamedTensor> tensors, ExpandNames(kRows, model, DeclareModel(model)));
//
// # stands for the number of a block, from 0; * for weight and for bias; {a,b,c} for several parameters that lie in one
// tensor, one behind the other along the outputs. A row whose parameters the model does not have says nothing.
//
// Threads: pure functions.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "model/model.pb.h"
#include "parallel/parameter.h"
#include "runtime/status.h"

namespace trefoil {

// How a tensor's elements lie there, where a parameter here is a matrix [outputs, inputs].
enum class Arrangement {
  kSame,
  kTransposed,  // [inputs, outputs]
  // Rows of queries or keys, head by head, with the two of a rotary pair side by side: (2 i, 2 i + 1) there is (i, i +
  // D/2) here.
  kPairsTogether,
};

struct NameRow {
  const char* ours;
  const char* theirs;
  Arrangement arrangement = Arrangement::kSame;
  // The dims there, where they are others than arrangement and parameters say, of as many elements.
  std::vector<int64_t> (*shape)(const ModelConfig& model) = nullptr;
  // Whether the row is of such a model. Null: of any.
  bool (*when)(const ModelConfig& model) = nullptr;
};

// A tensor of theirs and the parameters that lie in it.
struct NamedTensor {
  std::string name;
  std::vector<int64_t> shape;  // there
  Arrangement arrangement = Arrangement::kSame;
  std::vector<const Parameter*> parameters;  // of the table

  // Of a parameter, dim 0; of all of them together.
  int64_t outputs() const;
  // Of an output: the product of the other dims.
  int64_t inputs() const;
};

// What the rows say of a model: in the order of the rows, block by block. The table outlives the result. A parameter
// that no row names is an error (kUnimplemented) that lists all of them.
absl::StatusOr<std::vector<NamedTensor>> ExpandNames(std::span<const NameRow> rows, const ModelConfig& model,
                                                     const ParameterTable& table);

// Whether a name is what a pattern says, in which # stands for a number and a * at the beginning or the end for
// anything.
bool MatchesName(const std::string& pattern, const std::string& name);

}  // namespace trefoil
