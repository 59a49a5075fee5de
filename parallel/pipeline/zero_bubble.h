// The zero-bubble schedules: backwards come in two, and the halves for the weights, for which nobody waits, fill what would
// be idle. Functions of the table in parallel/pipeline/schedule.cc.
//
// p stages; r, the stage, from 0; F, I and W as in parallel/pipeline/schedule.h, of chunk 1 with a 1 behind.
//
//   ZbH1    p - r F; then by turns I, W if more than r I are done, F if any is left; the other W at the end. As many
//           micro-batches in flight as 1F1B has at most, p, on every stage.
//   ZbH2    2 (p - r) - 1 F first, W if more than 2 r I are done: twice as many in flight.
// The others are for a fold of two chunks, where stage 0 has both ends of the model and stage p - 1 hands over to itself:
//   ZbV     at least 2 p - 1 micro-batches. 2 (p - r) - 1 F; r times F1 F; p - r times F1 I1 W1; F I W F1 I1 W1 until all
//           is forwarded; r times I I1; p - r times I W; the other W1, then the other W.
//   DualPipeV  at least 2 p. 2 (p - r - 1) F; r + 1 times F F1; p - r - 1 times I1 W1 F1; F B1 F1 B until all of chunk 0
//           is forwarded; p - r - 1 times B1 F1 B; r + 1 times B1 B, of which the last r + 1 in two; p - r - 1 times W I;
//           the other W.
//
// With F, I and W of one length and free messages, in units of one of a chunk, of at least 2 p micro-batches:
//
//             idle between a stage's   the step's length   in flight,
//             first and last action    beyond the work     at most
//   ZbH1      p - 1 - r                p - 1               p
//   ZbH2      0                        p - 1               2 p - 1
//   ZbV       0                        p - 1               2 p          (of half the size, as are the units)
//   DualPipeV p - 1 - r                p - 1               2 p + 1      (likewise)
//
// So what ZbH2 and ZbV gain over ZbH1 and DualPipeV counts only where a stage may begin its next step while others end
// theirs.
//
// Sources: ZB-H1, ZB-H2 (Qi et al. 2023, "Zero bubble pipeline parallelism"), ZB-V (Qi et al. 2024, "Pipeline parallelism
// with controllable memory"), DualPipeV (DeepSeek-AI 2025).
// Threads: pure functions.
#pragma once

#include <vector>

#include "parallel/pipeline/schedule.h"

namespace trefoil {

std::vector<Action> ZbH1(int stages, int chunks, int micro_batches, int stage);
std::vector<Action> ZbH2(int stages, int chunks, int micro_batches, int stage);
std::vector<Action> ZbV(int stages, int chunks, int micro_batches, int stage);
std::vector<Action> DualPipeV(int stages, int chunks, int micro_batches, int stage);

}  // namespace trefoil
