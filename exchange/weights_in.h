// The weights of others as the parameters of a model here, piece by piece.
//
//   TREFOIL_ASSIGN_OR_RETURN(const WeightsIn weights, WeightsIn::Match(*tensors, family, model, table, without_head));
//   for (const WeightsIn::Piece& piece : weights.pieces()) {
//     std::vector<float> values(piece.elements());
//     TREFOIL_RETURN_IF_ERROR(weights.Read(piece, values));
//   }
//
// Threads: const calls from any.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "exchange/families/family.h"
#include "exchange/foreign_tensors.h"
#include "exchange/name_map.h"
#include "parallel/parameter.h"
#include "runtime/status.h"

namespace trefoil {

class WeightsIn {
 public:
  // Rows of a parameter that are read at once: of large ones so many as 64 MiB of float32 have, of those that lie
  // transposed all.
  struct Piece {
    const Parameter* parameter = nullptr;
    int64_t first_row = 0, rows = 0;
    size_t tensor = 0;         // that it lies in
    int64_t first_output = 0;  // of the tensor, of the parameter's row 0

    int64_t elements() const { return parameter->shape.elements() / parameter->shape[0] * rows; }
  };

  // Which tensor each parameter of the table lies in; with `without_head` those of the head, and of its norm, may be
  // missing. What this refers to outlives it. `model` is filled. Failure: one error that lists all tensors that are
  // missing, that have another shape, or that no parameter wants.
  static absl::StatusOr<WeightsIn> Match(const ForeignTensors& tensors, const ForeignFamily& family,
                                         const ModelConfig& model, const ParameterTable& table, bool without_head);

  // All of every parameter that is there, in the order of the tensors' names there.
  const std::vector<Piece>& pieces() const { return pieces_; }
  // Parameters that are not there.
  const std::vector<std::string>& missing() const { return missing_; }
  // Tensors that were left out, as the family says; for people.
  const std::vector<std::string>& ignored() const { return ignored_; }

  // `out` has room for the piece's elements.
  absl::Status Read(const Piece& piece, std::span<float> out) const;

 private:
  struct Source {
    NamedTensor named;
    const ForeignTensor* tensor = nullptr;
  };

  WeightsIn(const ForeignTensors& tensors, int64_t head_dim) : tensors_(&tensors), head_dim_(head_dim) {}
  void AddPieces(size_t source);
  // That what is tied is the same where it is there twice.
  absl::Status CheckTied(const ForeignFamily& family) const;

  const ForeignTensors* tensors_;
  int64_t head_dim_;
  std::vector<Source> sources_;
  std::vector<Piece> pieces_;
  std::vector<std::string> missing_, ignored_;
};

}  // namespace trefoil
