#include "tests/checkpoint/example_state.h"

#include <glog/logging.h>

#include <cstring>
#include <fstream>
#include <random>

#include "checkpoint/directory.h"
#include "checkpoint/reader.h"
#include "checkpoint/writer.h"
#include "parallel/collectives/world.h"
#include "tests/parallel/example_table.h"

namespace trefoil {
namespace {

using Random = std::mt19937_64;

int64_t Below(Random& random, int64_t n) { return static_cast<int64_t>(random() % static_cast<uint64_t>(n)); }

struct Part {
  int rank;
  Box box;
};

Box Whole(const Shape& shape) {
  Shape zero = shape;
  for (int i = 0; i < zero.rank(); ++i) zero[i] = 0;
  return {zero, shape};
}

// The r-th of `parts` nearly equal parts of `box` along `dim`.
Box Slab(Box box, int dim, int r, int parts) {
  const int64_t n = box.extent[dim], begin = n * r / parts, end = n * (r + 1) / parts;
  box.offset[dim] += begin;
  box.extent[dim] = end - begin;
  return box;
}

void AddFlat(const Box& box, int first_rank, int ranks, std::vector<Part>* parts) {
  const int64_t n = box.extent.elements();
  for (int r = 0; r < ranks; ++r) {
    for (const Box& piece : Flatten(box, n * r / ranks, n * (r + 1) / ranks)) parts->push_back({first_rank + r, piece});
  }
}

void AddRandomBoxes(const Box& box, int ranks, int depth, Random& random, std::vector<Part>* parts) {
  const int dim = box.extent.rank() == 0 ? 0 : static_cast<int>(Below(random, box.extent.rank()));
  if (depth == 0 || box.extent.rank() == 0 || box.extent[dim] < 2) {
    parts->push_back({static_cast<int>(Below(random, ranks)), box});
    return;
  }
  const int64_t at = 1 + Below(random, box.extent[dim] - 1);
  Box low = box, high = box;
  low.extent[dim] = at;
  high.offset[dim] += at;
  high.extent[dim] -= at;
  AddRandomBoxes(low, ranks, depth - 1, random, parts);
  AddRandomBoxes(high, ranks, depth - 1, random, parts);
}

std::vector<Part> Cut(const Shape& shape, int ranks, Random& random) {
  std::vector<Part> parts;
  const Box whole = Whole(shape);
  const int64_t way = Below(random, 4);
  if (way == 0) {
    AddFlat(whole, 0, ranks, &parts);
  } else if (way == 1 || shape.rank() == 0) {
    AddRandomBoxes(whole, ranks, 4, random, &parts);
  } else {
    const int dim = way == 2 ? 0 : shape.rank() - 1;
    if (ranks % 2 == 0 && Below(random, 2) == 0) {  // two slabs, each in flat ranges
      for (int half = 0; half < 2; ++half) AddFlat(Slab(whole, dim, half, 2), half * ranks / 2, ranks / 2, &parts);
    } else {
      for (int r = 0; r < ranks; ++r) parts.push_back({r, Slab(whole, dim, r, ranks)});
    }
  }
  return parts;
}

std::string ReadAndCompare(const CheckpointReader& reader, const std::vector<GlobalTensor>& state, int rank, int ranks,
                           uint64_t cut_seed) {
  RankSlices mine = CutForRank(state, rank, ranks, cut_seed, /*filled=*/false);
  const RankSlices expected = CutForRank(state, rank, ranks, cut_seed, /*filled=*/true);
  if (absl::Status status = reader.Read(mine.slices); !status.ok()) return std::string(status.message());
  return mine.memory == expected.memory ? "" : "elements differ on rank " + std::to_string(rank);
}

}  // namespace

std::vector<GlobalTensor> RandomState(uint64_t seed, int64_t scale) {
  std::vector<GlobalTensor> state = {
      {"blocks.0.attention.q.weight", DType::kBFloat16, {8 * scale, 6}, {}},
      {"adam.m/blocks.0.attention.q.weight", DType::kFloat32, {8 * scale, 6}, {}},
      {"adam.v/blocks.0.attention.q.weight", DType::kFloat32, {8 * scale, 6}, {}},
      {"blocks.0.norm.scale", DType::kFloat32, {7 * scale}, {}},
      {"count", DType::kInt32, {}, {}},
      {"embedding", DType::kFloat32, {5 * scale, 9}, {}},
      {"four", DType::kInt32, {3 * scale, 2, 4, 3}, {}},
      {"one row", DType::kBFloat16, {1, 13}, {}},
      {"one column", DType::kBFloat16, {11 * scale, 1}, {}},
      {"quote \" backslash \\ \xc3\xa9", DType::kBFloat16, {3}, {}},
      {"three", DType::kBFloat16, {4 * scale, 3, 5}, {}},
  };
  Random random(seed);
  for (GlobalTensor& tensor : state) {
    tensor.data.resize(static_cast<size_t>(tensor.shape.elements()) * SizeOf(tensor.dtype));
    for (std::byte& byte : tensor.data) byte = static_cast<std::byte>(random());
  }
  return state;
}

RankSlices CutForRank(const std::vector<GlobalTensor>& state, int rank, int ranks, uint64_t cut_seed, bool filled) {
  RankSlices mine;
  Random random(cut_seed);
  for (const GlobalTensor& tensor : state) {
    for (const Part& part : Cut(tensor.shape, ranks, random)) {
      if (part.rank != rank) continue;
      const size_t element = SizeOf(tensor.dtype);
      auto& memory = mine.memory.emplace_back(static_cast<size_t>(part.box.extent.elements()) * element,
                                              std::byte{0xaa});
      if (filled) {
        ForEachElement(tensor.shape, part.box, [&](size_t global, size_t local) {
          std::memcpy(&memory[local * element], &tensor.data[global * element], element);
        });
      }
      mine.slices.push_back({tensor.name, tensor.dtype, tensor.shape, part.box, memory.data()});
    }
  }
  return mine;
}

CheckpointContent ContentOf(int64_t step, const std::vector<ShardedTensor>& slices) {
  CheckpointContent content;
  content.step = step;
  content.trainer_state = "state of step " + std::to_string(step);
  content.model = "a model";
  content.owner = "0a1b";
  content.parts = static_cast<int>(slices.size());
  const auto memory = std::make_shared<std::vector<std::byte>>();
  content.part = [slices, memory](int i) {
    ShardedTensor slice = slices[static_cast<size_t>(i)];
    memory->assign(slice.data, slice.data + slice.bytes());
    slice.data = memory->data();
    return std::vector<ShardedTensor>{slice};
  };
  return content;
}

std::vector<absl::Status> Save(const std::vector<FileSystem*>& file_systems, const std::string& folder,
                               const std::vector<GlobalTensor>& state, int64_t step, const SaveOptions& options) {
  const int ranks = static_cast<int>(file_systems.size());
  std::vector<absl::Status> statuses(file_systems.size());
  RunRanksAsThreads(ranks, [&](World& world) {
    const std::unique_ptr<Device> device = NewNullDevice();
    const std::unique_ptr<Group> group = world.NewGroupOfAll(*device);
    const RankSlices mine = CutForRank(state, world.rank(), ranks, options.cut_seed, /*filled=*/true);
    CheckpointContent content = ContentOf(step, mine.slices);
    content.owner = options.owner;
    content.may_write = options.may_write;
    const auto rank = static_cast<size_t>(world.rank());
    FileSystem& fs = *file_systems[rank];
    statuses[rank] = WriteCheckpoint(fs, *group, folder, content);
    if (rank == 0 && statuses[rank].ok()) {
      RemoveOldCheckpoints(fs, folder, step, {.last = options.keep_last, .every = options.keep_every});
    }
  });
  return statuses;
}

std::string Load(const std::string& path, const std::vector<GlobalTensor>& state, int ranks, uint64_t cut_seed) {
  const auto reader = CheckpointReader::Open(FileSystem::Posix(), path);
  if (!reader.ok()) return std::string(reader.status().message());
  if (reader->tensors().size() != state.size()) return "number of tensors";
  for (int rank = 0; rank < ranks; ++rank) {
    if (std::string error = ReadAndCompare(*reader, state, rank, ranks, cut_seed); !error.empty()) return error;
  }
  return "";
}

std::string LoadOnAll(const std::string& path, const std::vector<GlobalTensor>& state, int ranks, uint64_t cut_seed) {
  std::vector<std::string> errors(static_cast<size_t>(ranks));
  RunRanksAsThreads(ranks, [&](World& world) {
    std::string& error = errors[static_cast<size_t>(world.rank())];
    auto reader = CheckpointReader::OpenOnAll(FileSystem::Posix(), world.all(), path);
    absl::Status status = reader.status();
    if (status.ok()) {
      const RankSlices mine = CutForRank(state, world.rank(), ranks, cut_seed, /*filled=*/false);
      status = reader->Locate(world.all(), mine.slices);
    }
    error = status.ok() ? ReadAndCompare(*reader, state, world.rank(), ranks, cut_seed) : std::string(status.message());
  });
  for (const std::string& error : errors) {
    if (!error.empty()) return error;
  }
  return "";
}

void FlipBit(const std::string& path, int64_t at) {
  std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
  const int byte = file.seekg(at).get();
  file.seekp(at).put(static_cast<char>(byte ^ 1));
  CHECK(file.good()) << path;
}

}  // namespace trefoil
