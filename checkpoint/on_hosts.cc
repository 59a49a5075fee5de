#include "checkpoint/on_hosts.h"

#include <absl/strings/str_cat.h>
#include <absl/strings/str_join.h>
#include <glog/logging.h>

#include <algorithm>
#include <set>
#include <tuple>
#include <utility>

#include "checkpoint/directory.h"
#include "checkpoint/manifest.h"
#include "checkpoint/packed.h"
#include "runtime/files/crc32c.h"
#include "runtime/number_text.h"

namespace trefoil {
namespace {

// What is of one save: a step may have been saved twice.
struct Save {
  int64_t step = 0;
  uint32_t manifest_crc = 0;
  auto operator<=>(const Save&) const = default;
};

struct Found {
  std::string path;
  std::vector<int> writers;                  // ranks that wrote files
  std::map<int, std::vector<int>> holders;   // hosts by writer
  std::vector<int> hosts;                    // that have the manifest
};
using FoundSaves = std::map<Save, Found>;

bool HasFile(FileSystem& fs, const std::string& path, int64_t bytes) {
  const auto file = fs.Open(path);
  return file.ok() && (*file)->size() == bytes;
}

// The newest in this host's folder, packed; what is not readable is left out, with a warning.
absl::StatusOr<std::string> PackHeldHere(FileSystem& fs, const std::string& folder, int host) {
  TREFOIL_ASSIGN_OR_RETURN(std::vector<std::string> complete, CompleteCheckpoints(fs, folder));
  if (complete.size() > kMostFound) complete.resize(kMostFound);
  Packer packer;
  for (const std::string& path : complete) {
    // One that a save of the same step was replacing when its host died has another name on other hosts.
    if (path != CheckpointPath(folder, StepOf(path))) continue;
    const std::string name = path + "/" + kManifestFile;
    const absl::StatusOr<std::string> text = ReadFile(fs, name);
    const absl::StatusOr<Manifest> manifest = text.ok() ? DecodeManifest(*text, name) : text.status();
    if (!manifest.ok()) {
      LOG(WARNING) << manifest.status().message() << "; nothing in that folder is used";
      continue;
    }
    packer.Number(manifest->step);
    packer.Number(Crc32c(*text));
    packer.Text(path);
    packer.Number(host);
    packer.Number(static_cast<int64_t>(manifest->parts.size()));
    for (const PartEntry& part : manifest->parts) {
      packer.Number(part.rank);
      const bool here = HasFile(fs, path + "/" + DataFileName(part.rank), part.file_bytes) &&
                        HasFile(fs, path + "/" + PartFileName(part.rank), part.part_bytes);
      packer.Number(here ? 1 : 0);
    }
  }
  return packer.bytes();
}

FoundSaves UnpackHeld(const std::string& packed) {
  FoundSaves saves;
  for (Unpacker unpacker(packed); !unpacker.done();) {
    Save save;
    save.step = unpacker.Number();
    save.manifest_crc = static_cast<uint32_t>(unpacker.Number());
    Found& found = saves[save];
    found.path = unpacker.Text();
    const auto host = static_cast<int>(unpacker.Number());
    found.hosts.push_back(host);
    found.writers.clear();
    for (int64_t parts = unpacker.Number(); parts > 0; --parts) {
      found.writers.push_back(static_cast<int>(unpacker.Number()));
      if (unpacker.Number() == 1) found.holders[found.writers.back()].push_back(host);
    }
  }
  return saves;
}

std::string NoteOfIncomplete(const Found& found, const Hosts& hosts) {
  std::vector<int> missing;
  for (const int writer : found.writers) {
    if (!found.holders.contains(writer)) missing.push_back(writer);
  }
  std::vector<std::string> names;
  const auto ring = hosts.RanksByHost();
  for (const int host : found.hosts) names.push_back(ring[static_cast<size_t>(host)].first);
  return absl::StrCat("Ignoring ", found.path, " of ", absl::StrJoin(names, ", "), ": no host of this job has the files of ",
                      missing.size() == 1 ? "rank " : "ranks ", RangesText(missing), " of the job that saved it.");
}

// Those that are complete, newest first, as rank 0 chooses them; packed.
std::string Choose(const FoundSaves& saves, const Hosts& hosts, std::vector<std::string>* notes) {
  std::vector<std::pair<Save, const Found*>> order;
  for (const auto& [save, found] : saves) order.emplace_back(save, &found);
  std::sort(order.begin(), order.end(), [](const auto& a, const auto& b) {
    return std::tuple(a.first.step, a.second->hosts.size(), a.first.manifest_crc) >
           std::tuple(b.first.step, b.second->hosts.size(), b.first.manifest_crc);
  });
  Packer packer;
  int chosen = 0;
  std::set<int64_t> steps;
  for (const auto& [save, found] : order) {
    if (found->holders.size() < found->writers.size()) {
      if (chosen == 0) notes->push_back(NoteOfIncomplete(*found, hosts));
      continue;
    }
    if (chosen == kMostFound || !steps.insert(save.step).second) continue;
    ++chosen;
    packer.Text(found->path);
    packer.Number(found->hosts.front());  // whose manifest rank 0 gets
    packer.Number(static_cast<int64_t>(found->holders.size()));
    for (const auto& [writer, holders] : found->holders) {
      packer.Number(writer);
      packer.Number(static_cast<int64_t>(holders.size()));
      for (const int host : holders) packer.Number(host);
    }
  }
  return packer.bytes();
}

}  // namespace

absl::StatusOr<std::vector<CheckpointOnHosts>> FindOnHosts(FileSystem& fs, Group& all, const std::string& folder,
                                                           std::vector<std::string>* notes) {
  const Hosts& hosts = *all.membership().hosts;
  const auto ring = hosts.RanksByHost();
  int here = 0;
  while (ring[static_cast<size_t>(here)].first != hosts.of(all.rank())) ++here;
  const bool leads = hosts.LocalRank(all.rank()) == 0;
  absl::StatusOr<std::string> held = leads ? PackHeldHere(fs, folder, here) : std::string();
  TREFOIL_RETURN_IF_ERROR(all.Agree(held.status()));
  const std::string of_all =
      all.ReduceStrings(*held, [](const std::string& lower, const std::string& upper) { return lower + upper; });
  const bool first = all.rank() == 0;
  const std::string chosen = all.BroadcastString(first ? Choose(UnpackHeld(of_all), hosts, notes) : "");

  std::vector<CheckpointOnHosts> found;
  std::vector<Group::RankText> manifests;
  absl::Status status;
  for (Unpacker unpacker(chosen); !unpacker.done();) {
    CheckpointOnHosts& checkpoint = found.emplace_back();
    checkpoint.path = unpacker.Text();
    if (unpacker.Number() == here && leads) {
      const auto text = ReadFile(fs, checkpoint.path + "/" + kManifestFile);
      status.Update(text.status());
      if (text.ok()) manifests.push_back({.rank = 0, .text = absl::StrCat(found.size() - 1, "\n", *text)});
    }
    for (int64_t writers = unpacker.Number(); writers > 0; --writers) {
      std::vector<int>& holders = checkpoint.holders[static_cast<int>(unpacker.Number())];
      for (int64_t count = unpacker.Number(); count > 0; --count) holders.push_back(static_cast<int>(unpacker.Number()));
    }
  }
  TREFOIL_RETURN_IF_ERROR(all.Agree(status));
  for (const Group::RankText& text : all.ExchangeStrings(std::move(manifests))) {
    const size_t end = text.text.find('\n');
    found[std::stoul(text.text.substr(0, end))].manifest = text.text.substr(end + 1);
  }
  return found;
}

}  // namespace trefoil
