#include "checkpoint/slice_directory.h"

#include <absl/strings/str_cat.h>
#include <glog/logging.h>

#include <string>

#include "checkpoint/packed.h"

namespace trefoil {
namespace {

void Pack(const ManifestSlice& slice, Packer* packer) {
  packer->Number(slice.rank);
  packer->Number(slice.byte_offset);
  packer->OfBox(slice.box);
  packer->Number(slice.chunk_bytes);
  packer->Number(static_cast<int64_t>(slice.crcs.size()));
  for (const uint32_t crc : slice.crcs) packer->Number(crc);
}

ManifestSlice UnpackSlice(int dims, Unpacker* unpacker) {
  ManifestSlice slice;
  slice.rank = static_cast<int32_t>(unpacker->Number());
  slice.byte_offset = unpacker->Number();
  slice.box = unpacker->OfBox(dims);
  slice.chunk_bytes = unpacker->Number();
  slice.crcs.resize(static_cast<size_t>(unpacker->Number()));
  for (uint32_t& crc : slice.crcs) crc = static_cast<uint32_t>(unpacker->Number());
  return slice;
}

// What goes to each rank, put together.
using Packers = std::map<int, Packer>;

std::vector<Group::RankText> TextsOf(const Packers& packers) {
  std::vector<Group::RankText> texts;
  for (const auto& [rank, packer] : packers) texts.push_back({.rank = rank, .text = packer.bytes()});
  return texts;
}

}  // namespace

SliceDirectory::SliceDirectory(Group& group, const std::vector<TensorEntry>& tensors,
                               const std::vector<ManifestTensor>& known)
    : group_(group), tensors_(tensors), first_band_({0}) {
  for (const TensorEntry& tensor : tensors) {
    first_band_.push_back(first_band_.back() + Bands(tensor.shape, tensor.bands).count());
  }
  Packers told;
  auto entry = tensors.begin();
  for (const ManifestTensor& tensor : known) {  // both are sorted
    while (entry != tensors.end() && entry->name < tensor.name) ++entry;
    CHECK(entry != tensors.end() && entry->name == tensor.name) << tensor.name;
    const int64_t number = entry - tensors.begin();
    const Bands bands = BandsOf(number);
    for (const ManifestSlice& slice : tensor.slices) {
      for (int64_t band = bands.First(slice.box); band <= bands.Last(slice.box); ++band) {
        Packer& packer = told[KeeperOf({number, band})];
        packer.Number(number);
        packer.Number(band);
        Pack(slice, &packer);
      }
    }
  }
  for (const Group::RankText& text : group.ExchangeStrings(TextsOf(told))) {
    for (Unpacker unpacker(text.text); !unpacker.done();) {
      const int64_t number = unpacker.Number(), band = unpacker.Number();
      kept_[{number, band}].push_back(UnpackSlice(tensors[static_cast<size_t>(number)].shape.rank(), &unpacker));
    }
  }
}

Bands SliceDirectory::BandsOf(int64_t tensor) const {
  const TensorEntry& entry = tensors_[static_cast<size_t>(tensor)];
  return Bands(entry.shape, entry.bands);
}

int SliceDirectory::KeeperOf(const Key& key) const {
  return static_cast<int>((first_band_[static_cast<size_t>(key.first)] + key.second) % group_.size());
}

absl::Status SliceDirectory::Tiling() const {
  static const std::vector<ManifestSlice> kNone;
  const int64_t ranks = group_.size();
  for (size_t number = 0; number < tensors_.size(); ++number) {
    const TensorEntry& tensor = tensors_[number];
    const Bands bands(tensor.shape, tensor.bands);
    const int64_t begin = first_band_[number];
    for (int64_t band = ((group_.rank() - begin) % ranks + ranks) % ranks; band < bands.count(); band += ranks) {
      const auto found = kept_.find({static_cast<int64_t>(number), band});
      const Box region = bands.Region(band);
      std::vector<Box> boxes;
      for (const ManifestSlice& slice : found == kept_.end() ? kNone : found->second) {
        CHECK(Intersect(slice.box, region, &boxes.emplace_back()));
      }
      const std::string error = TilingError(region, boxes);
      if (error.empty()) continue;
      const std::string where = bands.count() > 1 ? absl::StrCat("of ", ToString(region), ", ") : "";
      return absl::DataLossError(
          absl::StrCat("tensor \"", tensor.name, "\" ", tensor.shape.ToString(), ": ", where, error));
    }
  }
  return absl::OkStatus();
}

std::vector<ManifestTensor> SliceDirectory::Find(std::span<const ShardedTensor> targets) const {
  Packers asked;
  for (const ShardedTensor& target : targets) {
    if (target.box.extent.elements() == 0) continue;
    const TensorEntry* const entry = FindNamed(tensors_, target.name);
    CHECK(entry != nullptr) << target.name;
    const int64_t number = entry - tensors_.data();
    const Bands bands = BandsOf(number);
    for (int64_t band = bands.First(target.box); band <= bands.Last(target.box); ++band) {
      Packer& packer = asked[KeeperOf({number, band})];
      packer.Number(number);
      packer.Number(band);
      packer.OfBox(target.box);
    }
  }
  // Who asks gets each slice of a band once, however many of its boxes have something of it.
  Packers answers;
  for (const Group::RankText& text : group_.ExchangeStrings(TextsOf(asked))) {
    std::map<Key, std::vector<bool>> told;
    for (Unpacker unpacker(text.text); !unpacker.done();) {
      Key key;
      key.first = unpacker.Number();
      key.second = unpacker.Number();
      const Box box = unpacker.OfBox(tensors_[static_cast<size_t>(key.first)].shape.rank());
      const auto kept = kept_.find(key);
      if (kept == kept_.end()) continue;
      std::vector<bool>& done = told[key];
      done.resize(kept->second.size());
      for (size_t i = 0; i < done.size(); ++i) {
        Box both;
        if (done[i] || !Intersect(kept->second[i].box, box, &both)) continue;
        done[i] = true;
        Packer& packer = answers[text.rank];
        packer.Number(key.first);
        Pack(kept->second[i], &packer);
      }
    }
  }
  // Of a slice that lies in several bands only one is kept.
  std::map<int64_t, std::map<std::pair<int32_t, int64_t>, ManifestSlice>> found;
  for (const Group::RankText& text : group_.ExchangeStrings(TextsOf(answers))) {
    for (Unpacker unpacker(text.text); !unpacker.done();) {
      const int64_t number = unpacker.Number();
      ManifestSlice slice = UnpackSlice(tensors_[static_cast<size_t>(number)].shape.rank(), &unpacker);
      const std::pair place(slice.rank, slice.byte_offset);
      found[number].emplace(place, std::move(slice));
    }
  }
  std::vector<ManifestTensor> result;
  for (auto& [number, slices] : found) {
    const TensorEntry& entry = tensors_[static_cast<size_t>(number)];
    ManifestTensor& tensor = result.emplace_back(ManifestTensor{entry.name, entry.dtype, entry.shape, {}});
    for (auto& [place, slice] : slices) tensor.slices.push_back(std::move(slice));
  }
  return result;
}

}  // namespace trefoil
