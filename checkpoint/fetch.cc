#include "checkpoint/fetch.h"

#include <map>
#include <memory>
#include <utility>

#include "checkpoint/packed.h"
#include "checkpoint/streams.h"

namespace trefoil {
namespace {

// A file that others ask for, opened when the first byte of it leaves.
class Served {
 public:
  Served(FileSystem& fs, std::string path) : fs_(fs), path_(std::move(path)) {}
  void Read(int64_t offset, std::span<std::byte> block) {
    if (status.ok() && file_ == nullptr) {
      auto file = fs_.Open(path_);
      status = file.status();
      if (file.ok()) file_ = *std::move(file);
    }
    if (status.ok()) status = file_->Read(offset, block);
  }
  absl::Status status;

 private:
  FileSystem& fs_;
  const std::string path_;
  std::unique_ptr<ReadableFile> file_;
};

}  // namespace

std::vector<Unread> FetchFromOthers(FileSystem& fs, Group& group, const std::string& folder,
                                    const std::vector<Wanted>& wanted) {
  std::vector<std::byte> taken;  // of the one that is coming in
  std::vector<Stream> sent, received;
  std::map<int, Packer> asked;
  for (const Wanted& want : wanted) {
    Packer& packer = asked[want.server];
    packer.Text(want.file);
    packer.Number(want.offset);
    packer.Number(want.bytes);
    received.push_back({.peer = want.server, .bytes = want.bytes, .next = [&](std::span<std::byte> block) {
                          taken.insert(taken.end(), block.begin(), block.end());
                          if (static_cast<int64_t>(taken.size()) < want.bytes) return;
                          want.take(taken);
                          taken.clear();
                        }});
  }
  std::vector<Group::RankText> texts;
  for (const auto& [server, packer] : asked) texts.push_back({.rank = server, .text = packer.bytes()});
  std::map<std::string, Served> files;
  for (const Group::RankText& text : group.ExchangeStrings(std::move(texts))) {
    for (Unpacker unpacker(text.text); !unpacker.done();) {
      const std::string name = unpacker.Text();
      Served& file = files.try_emplace(name, fs, folder + "/" + name).first->second;
      const int64_t offset = unpacker.Number(), bytes = unpacker.Number();
      sent.push_back({.peer = text.rank, .bytes = bytes,
                      .next = [&file, at = offset](std::span<std::byte> block) mutable {
                        file.Read(at, block);
                        at += static_cast<int64_t>(block.size());
                      }});
    }
  }
  ExchangeStreams(group, sent, received);
  std::vector<Unread> unread;
  for (const auto& [name, file] : files) {
    if (!file.status.ok()) unread.push_back({.file = name, .status = file.status});
  }
  return unread;
}

}  // namespace trefoil
