#include "training/log/tensorboard.h"

#include <absl/strings/str_format.h>
#include <unistd.h>

#include <bit>
#include <chrono>
#include <cstring>

#include "runtime/files/crc32c.h"

namespace trefoil {
namespace {

static_assert(std::endian::native == std::endian::little);

template <typename T>
std::string Bytes(T value) {
  std::string bytes(sizeof(T), '\0');
  std::memcpy(bytes.data(), &value, sizeof(T));
  return bytes;
}

std::string Varint(uint64_t value) {
  std::string bytes;
  for (; value >= 0x80; value >>= 7) bytes.push_back(static_cast<char>(value | 0x80));
  bytes.push_back(static_cast<char>(value));
  return bytes;
}

// Protobuf fields, numbers up to 15; the low three bits of the key are the wire type.
std::string VarintField(int number, uint64_t value) { return static_cast<char>(number << 3) + Varint(value); }
std::string DoubleField(int number, double value) { return static_cast<char>(number << 3 | 1) + Bytes(value); }
std::string BytesField(int number, const std::string& value) {
  return static_cast<char>(number << 3 | 2) + Varint(value.size()) + value;
}
std::string FloatField(int number, float value) { return static_cast<char>(number << 3 | 5) + Bytes(value); }

std::string Record(const std::string& event) {
  const auto masked = [](const std::string& bytes) { return Bytes(std::rotr(Crc32c(bytes), 15) + 0xA282EAD8u); };
  const std::string length = Bytes<uint64_t>(event.size());
  return length + masked(length) + event + masked(event);
}

std::string EventHead(double wall_time, int64_t step) {
  return DoubleField(1, wall_time) + VarintField(2, static_cast<uint64_t>(step));
}

}  // namespace

std::string TensorBoardVersion(double wall_time) {
  return Record(DoubleField(1, wall_time) + BytesField(3, "brain.Event:2"));
}

std::string TensorBoardStart(double wall_time, int64_t step) {
  return Record(EventHead(wall_time, step) + BytesField(7, VarintField(1, 1)));
}

std::string TensorBoardScalars(double wall_time, int64_t step, const std::vector<Scalar>& scalars) {
  std::string summary;
  for (const Scalar& scalar : scalars) {
    summary += BytesField(1, BytesField(1, scalar.tag) + FloatField(2, static_cast<float>(scalar.value)));
  }
  return Record(EventHead(wall_time, step) + BytesField(5, summary));
}

absl::Status TensorBoardWriter::Open(int64_t resumed_step) {
  char host[256] = "localhost";
  gethostname(host, sizeof(host) - 1);
  const double now = std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
  const std::string name = absl::StrFormat("%s/events.out.tfevents.%010d.%s.%d.0", folder_, static_cast<int64_t>(now),
                                           host, getpid());
  file_.emplace(fs_, name, TensorBoardVersion(now) + TensorBoardStart(now, resumed_step + 1));
  return file_->Open(/*bytes=*/0);
}

absl::Status TensorBoardWriter::Write(double wall_time, int64_t step, const std::vector<Scalar>& scalars) {
  return file_->Add(TensorBoardScalars(wall_time, step, scalars));
}

absl::Status TensorBoardWriter::Flush() { return file_->Flush(); }

}  // namespace trefoil
