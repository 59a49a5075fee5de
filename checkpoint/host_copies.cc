#include "checkpoint/host_copies.h"

#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>

#include <algorithm>
#include <cstring>
#include <deque>
#include <memory>

#include "checkpoint/packed.h"
#include "checkpoint/part.h"
#include "checkpoint/streams.h"
#include "runtime/files/crc32c.h"

namespace trefoil {
namespace {

using Bytes = std::span<std::byte>;

// A file on its way out, and behind it the checksum of what was read.
class Leaving {
 public:
  Leaving(FileSystem& fs, std::string path) : path_(std::move(path)) {
    auto file = fs.Open(path_);
    status = file.status();
    if (file.ok()) file_ = *std::move(file);
  }
  void Read(Bytes block) {
    if (status.ok()) status = file_->Read(at_, block);
    at_ += static_cast<int64_t>(block.size());
    crc_ = Crc32c(block, crc_);
  }
  void Sign(Bytes block) { std::memcpy(block.data(), &crc_, sizeof(crc_)); }
  absl::Status status;

 private:
  const std::string path_;
  std::unique_ptr<ReadableFile> file_;
  int64_t at_ = 0;
  uint32_t crc_ = 0;
};

// A copy that comes in.
class Coming {
 public:
  Coming(FileSystem& fs, std::string path, std::string from) : path_(std::move(path)), from_(std::move(from)) {
    auto file = fs.Create(path_);
    status = file.status();
    if (file.ok()) file_ = *std::move(file);
  }
  void Append(Bytes block) {
    if (status.ok()) status = file_->Append(block);
    crc_ = Crc32c(block, crc_);
  }
  void Check(Bytes block) {
    uint32_t sent = 0;
    std::memcpy(&sent, block.data(), sizeof(sent));
    if (status.ok() && sent != crc_) {
      status = absl::DataLossError(absl::StrFormat("%s: the copy that came from %s has CRC32C %08x, but %08x was sent", path_,
                                                   from_, crc_, sent));
    }
    if (status.ok()) status = file_->Close();
    file_.reset();
  }
  absl::Status status;

 private:
  const std::string path_, from_;
  std::unique_ptr<WritableFile> file_;
  uint32_t crc_ = 0;
};

}  // namespace

std::vector<int> CopyHolders(const Hosts& hosts, int rank, int copies) {
  const auto ring = hosts.RanksByHost();
  const auto mine = std::find_if(ring.begin(), ring.end(), [&](const auto& host) { return host.first == hosts.of(rank); });
  const auto place = static_cast<size_t>(mine - ring.begin()), local = static_cast<size_t>(hosts.LocalRank(rank));
  std::vector<int> holders;
  for (size_t behind = 1; behind < static_cast<size_t>(copies); ++behind) {
    const std::vector<int>& ranks = ring[(place + behind) % ring.size()].second;
    holders.push_back(ranks[local % ranks.size()]);
  }
  return holders;
}

absl::Status SendCopies(FileSystem& fs, Group& all_ranks, int copies, const std::string& folder,
                        const absl::StatusOr<RankPart>& mine) {
  const int rank = all_ranks.rank();
  std::vector<Group::RankText> sizes;
  std::vector<Stream> sent, received;
  std::deque<Leaving> leaving;
  std::deque<Coming> coming;
  if (mine.ok() && (*mine)->has_files()) {
    const PartEntry& entry = (*mine)->entry;
    Packer packer;
    Pack(entry, &packer);
    for (const int holder : CopyHolders(*all_ranks.membership().hosts, rank, copies)) {
      sizes.push_back({.rank = holder, .text = packer.bytes()});
      const auto send = [&](const std::string& name, int64_t bytes) {
        Leaving& file = leaving.emplace_back(fs, folder + "/" + name);
        sent.push_back({.peer = holder, .bytes = bytes, .next = [&file](Bytes block) { file.Read(block); }});
        sent.push_back({.peer = holder, .bytes = sizeof(uint32_t), .next = [&file](Bytes block) { file.Sign(block); }});
      };
      send(DataFileName(rank), entry.file_bytes);
      send(PartFileName(rank), entry.part_bytes);
    }
  }
  for (const Group::RankText& text : all_ranks.ExchangeStrings(std::move(sizes))) {
    Unpacker unpacker(text.text);
    const PartEntry entry = UnpackPart(&unpacker);
    const auto receive = [&](const std::string& name, int64_t bytes) {
      Coming& file = coming.emplace_back(fs, folder + "/" + name, all_ranks.membership().NameOf(text.rank));
      received.push_back({.peer = text.rank, .bytes = bytes, .next = [&file](Bytes block) { file.Append(block); }});
      received.push_back({.peer = text.rank, .bytes = sizeof(uint32_t), .next = [&file](Bytes block) { file.Check(block); }});
    };
    receive(DataFileName(entry.rank), entry.file_bytes);
    receive(PartFileName(entry.rank), entry.part_bytes);
  }
  ExchangeStreams(all_ranks, sent, received);
  absl::Status status;
  for (const Leaving& file : leaving) status.Update(file.status);
  for (const Coming& file : coming) status.Update(file.status);
  return status;
}

}  // namespace trefoil
