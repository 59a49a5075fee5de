// The order of time: what recurrent layers need to know of where rows lie. They have, for each of their directions, the
// steps of all samples: row s * B + b is step s of sample b, which is token s, or counted from the end of the sample.
//
//   const TimeStepTables tables = TimeStepsOf(lengths, tokens, /*directions=*/1, tensor_ranks, tensor_rank);
//   tables.rows_of_steps[s * B + b];         // b * T + s
//
// Threads: pure function.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace trefoil {

// B samples of T tokens, N = B * T rows, d directions, t tensor ranks.
struct TimeStepTables {
  std::vector<int32_t> rows_of_steps;     // [d][N]: of a step, the row b * T + token
  std::vector<int32_t> steps_of_rows;     // [d][N]: the inverse
  std::vector<int32_t> outputs_of_rows;   // [N][d]: of a row, its step among the outputs of all directions [d][T + 1][B]
  std::vector<int32_t> parts_of_steps;    // [d][N]: of a step, this rank's part of a row's columns [N][d][t]
  std::vector<int32_t> columns_of_ranks;  // [B][t]: of a sample's part of columns, its row where ranks were gathered [t][B]
  std::vector<int32_t> ranks_of_columns;  // [t][B]: the inverse
};

// lengths: of each sample; the second direction begins at its end, and padding comes behind its first token.
TimeStepTables TimeStepsOf(std::span<const int32_t> lengths, int64_t tokens, int directions, int ranks, int rank);

}  // namespace trefoil
