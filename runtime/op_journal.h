// The ops that each thread called last, by name: what the message of an error can say when a device reports it late.
//
//   NoteOp("matmul");   // runtime/ops.cc at every op, parallel/ at every message of GPUs
//   LastOps();          // "by this thread rms_norm, matmul; by another SumParts": the newest last
//
// Process-wide, because any call on any thread may be the one that finds the error, with no device at hand. Nothing but
// such messages reads it.
//
// Threads: both may be called from any. Threads beyond the 32nd share places with earlier ones.
#pragma once

#include <string>

namespace trefoil {

// `name` lives for ever.
void NoteOp(const char* name);
// Empty if there was none.
std::string LastOps();

}  // namespace trefoil
