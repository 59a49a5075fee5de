// TensorBoard event files, scalars only.
//
//   TensorBoardWriter board(fs, folder);
//   TREFOIL_RETURN_IF_ERROR(board.Open(/*resumed_step=*/0));
//   TREFOIL_RETURN_IF_ERROR(board.Write(wall_time, step, {{"loss", 2.5}}));
//
// A file is a row of records, little-endian:
//   record := u64 length | u32 masked(crc of those 8 bytes) | event of `length` bytes | u32 masked(crc of the event)
//   masked(crc32c) := rotate_right(crc32c, 15) + 0xA282EAD8
//   event := protobuf { 1: double wall_time, 2: int64 step, 3: string file_version | 5: summary | 7: session_log }
//   summary := { 1: repeated value { 1: string tag, 2: float simple_value } }
//   session_log := { 1: enum status, START = 1 }
// The first event has file_version "brain.Event:2". Each start of a run begins a file of its own, with a session_log
// START at its first step: TensorBoard then drops what older files have from that step on.
//
// Example, an event at time 1700000000 of step 5 with loss 2.5:
//   1a00000000000000 129bd82d | 09 0000 0040 fc54 d941 10 05 2a 0d 0a 0b 0a 04 "loss" 15 00002040 | 95d4ad7b
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "runtime/files/file.h"
#include "training/log/growing_file.h"

namespace trefoil {

struct Scalar {
  std::string tag;
  double value;
};

// Whole records. wall_time: seconds since 1970.
std::string TensorBoardVersion(double wall_time);
std::string TensorBoardStart(double wall_time, int64_t step);
std::string TensorBoardScalars(double wall_time, int64_t step, const std::vector<Scalar>& scalars);

// Failure: as of GrowingFile.
class TensorBoardWriter {
 public:
  TensorBoardWriter(FileSystem& fs, std::string folder) : fs_(fs), folder_(std::move(folder)) {}

  // Makes a new event file in the folder. resumed_step: the last step that older files keep; 0 for a new run.
  absl::Status Open(int64_t resumed_step);
  // The record is in the file on return.
  absl::Status Write(double wall_time, int64_t step, const std::vector<Scalar>& scalars);
  absl::Status Flush();

 private:
  FileSystem& fs_;
  const std::string folder_;
  std::optional<GrowingFile> file_;  // once it is open
};

}  // namespace trefoil
