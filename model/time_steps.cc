#include "model/time_steps.h"

namespace trefoil {

TimeStepTables TimeStepsOf(std::span<const int32_t> lengths, int64_t tokens, int directions, int ranks, int rank) {
  const auto samples = static_cast<int64_t>(lengths.size()), n = samples * tokens;
  const auto narrow = [](int64_t value) { return static_cast<int32_t>(value); };
  TimeStepTables tables;
  for (std::vector<int32_t>* of_directions : {&tables.rows_of_steps, &tables.steps_of_rows, &tables.outputs_of_rows,
                                              &tables.parts_of_steps}) {
    of_directions->resize(static_cast<size_t>(directions * n));
  }
  for (int64_t d = 0; d < directions; ++d) {
    for (int64_t s = 0; s < tokens; ++s) {
      for (int64_t b = 0; b < samples; ++b) {
        const int64_t length = lengths[static_cast<size_t>(b)];
        const int64_t token = d == 1 && s < length ? length - 1 - s : s;
        const int64_t row = b * tokens + token, step = s * samples + b;
        tables.rows_of_steps[static_cast<size_t>(d * n + step)] = narrow(row);
        tables.steps_of_rows[static_cast<size_t>(d * n + row)] = narrow(step);
        tables.outputs_of_rows[static_cast<size_t>(row * directions + d)] =
            narrow((d * (tokens + 1) + s + 1) * samples + b);
        tables.parts_of_steps[static_cast<size_t>(d * n + step)] = narrow((row * directions + d) * ranks + rank);
      }
    }
  }
  for (int64_t b = 0; b < samples; ++b) {
    for (int64_t r = 0; r < ranks; ++r) tables.columns_of_ranks.push_back(narrow(r * samples + b));
  }
  for (int64_t r = 0; r < ranks; ++r) {
    for (int64_t b = 0; b < samples; ++b) tables.ranks_of_columns.push_back(narrow(b * ranks + r));
  }
  return tables;
}

}  // namespace trefoil
