#include "launcher/commands/images.h"

#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>
#include <gflags/gflags.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <filesystem>
#include <iostream>
#include <memory>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "data/images/idx_file.h"
#include "data/images/image_file.h"
#include "data/images/read_image.h"
#include "data/images/resize.h"
#include "data/sampler.h"
#include "launcher/commands/commands.h"
#include "launcher/corpus_flags.h"
#include "launcher/flags/input.h"
#include "launcher/flags/output.h"
#include "launcher/flags/overwrite.h"
#include "launcher/given_flags.h"
#include "launcher/report/progress.h"
#include "launcher/staged_output.h"
#include "parallel/collectives/world.h"
#include "runtime/number_text.h"
#include "runtime/random.h"

DEFINE_string(images, "",
              "Instead of --input, an IDX file of images, MNIST's format, compressed (.gz) or not; with --labels.");
DEFINE_int64(size, 0,
             "Height and width to scale pictures to, of which the middle is kept. 0, with --images only: as they are.");
DEFINE_int64(channels, 0, "1: grey, 3: colour. 0: 3, but grey stays grey with --images.");
DEFINE_int64(shards, 0, "Number of files NAME-*. 0: one for each 256 MiB.");

namespace trefoil {
namespace {

constexpr int64_t kShardBytes = int64_t{256} << 20;
constexpr size_t kClassesShown = 20;
constexpr const char* kHeldOut = "held_out";

template <typename... Parts>
absl::Status Bad(const Parts&... parts) {
  return absl::InvalidArgumentError(absl::StrCat(parts...));
}

// What the input has: images 0, 1 .. labels.size() - 1.
struct Source {
  ImageFormat format;  // of what is written
  std::vector<int32_t> labels;
  std::vector<std::string> paths;  // of pictures; empty: IDX
  IdxPair idx;
};

absl::StatusOr<std::vector<std::string>> VisibleNames(FileSystem& fs, const std::string& folder) {
  TREFOIL_ASSIGN_OR_RETURN(std::vector<std::string> names, fs.List(folder));
  std::erase_if(names, [](const std::string& name) { return name.starts_with("."); });
  return names;
}

bool IsFolder(const std::string& path) {
  std::error_code ignored;
  return std::filesystem::is_directory(path, ignored);
}

absl::StatusOr<Source> ListFolder(FileSystem& fs, const ImagesRun& run) {
  if (run.size == 0) return Bad("size: 0; pictures of a folder are scaled to one height and width; 224 is usual");
  Source source;
  source.format.height = source.format.width = run.size;
  source.format.channels = run.channels == 0 ? 3 : run.channels;
  TREFOIL_ASSIGN_OR_RETURN(const std::vector<std::string> classes, VisibleNames(fs, run.input));
  if (classes.empty()) return Bad("input: ", run.input, " is empty; it is to have a folder of pictures for each class");
  for (const std::string& name : classes) {
    const std::string folder = run.input + "/" + name;
    if (!IsFolder(folder)) {
      return Bad("input: ", folder, " is a file; ", run.input, " is to have a folder of pictures for each class, ",
                 "and nothing else");
    }
    TREFOIL_ASSIGN_OR_RETURN(const std::vector<std::string> pictures, VisibleNames(fs, folder));
    if (pictures.empty()) return Bad("input: class ", folder, " has no pictures; add some or remove it");
    for (const std::string& picture : pictures) {
      if (IsFolder(folder + "/" + picture)) {
        return Bad("input: ", folder, "/", picture, " is a folder; a class's folder has pictures only");
      }
      source.paths.push_back(folder + "/" + picture);
      source.labels.push_back(static_cast<int32_t>(source.format.classes.size()));
    }
    source.format.classes.push_back(name);
  }
  return source;
}

absl::StatusOr<Source> ReadIdxSource(const ImagesRun& run) {
  if (run.images.empty() || run.labels.empty()) {
    return Bad(run.images.empty() ? "images" : "labels",
               ": empty; an IDX file of images and one of their labels are a pair");
  }
  if (run.channels == 3) return Bad("channels: 3; IDX files have grey images; give 1, or leave it out");
  Source source;
  TREFOIL_ASSIGN_OR_RETURN(source.idx, ReadIdxPair(run.images, run.labels));
  source.format = {.height = source.idx.height, .width = source.idx.width, .channels = 1, .classes = {}};
  if (run.size > 0) source.format.height = source.format.width = run.size;
  source.labels.assign(source.idx.labels.begin(), source.idx.labels.end());
  const int32_t largest = *std::max_element(source.labels.begin(), source.labels.end());
  for (int32_t label = 0; label <= largest; ++label) source.format.classes.push_back(absl::StrCat(label));
  return source;
}

absl::StatusOr<Source> OpenSource(FileSystem& fs, const ImagesRun& run) {
  if (run.size < 0 || run.size > ImageFormat::kLargestSide) {
    return Bad("size: ", run.size, " is not in [1, ", ImageFormat::kLargestSide, "]");
  }
  if (run.channels != 0 && run.channels != 1 && run.channels != 3) {
    return Bad("channels: ", run.channels, "; 1 is grey, 3 is colour");
  }
  const bool idx = !run.images.empty() || !run.labels.empty();
  if (run.input.empty() != idx) {
    return Bad(idx ? "input and images: both are given" : "input: empty",
               "; name either a folder with a folder of pictures for each class (--input), or a pair of IDX files ",
               "(--images, --labels)");
  }
  return idx ? ReadIdxSource(run) : ListFolder(fs, run);
}

// One file to write.
struct Shard {
  std::string name;
  std::vector<int64_t> images;  // numbers in the source
};

struct Plan {
  std::string folder, name;  // of the output
  std::vector<int64_t> train_of_class, held_out_of_class;
  int64_t train_shards = 0, held_out_shards = 0;
  std::vector<Shard> shards;
};

void AddShards(const std::string& name, const std::vector<int64_t>& images, int64_t shards, Plan* plan) {
  const auto count = static_cast<int64_t>(images.size());
  for (int64_t s = 0; s < shards; ++s) {
    const auto begin = images.begin() + s * count / shards, end = images.begin() + (s + 1) * count / shards;
    plan->shards.push_back({.name = absl::StrFormat("%s-%05d.images", name, s), .images = {begin, end}});
  }
}

absl::StatusOr<Plan> MakePlan(const ImagesRun& run, const Source& source) {
  Plan plan;
  const size_t slash = run.output.rfind('/');
  plan.folder = slash == std::string::npos ? "." : slash == 0 ? "/" : run.output.substr(0, slash);
  plan.name = slash == std::string::npos ? run.output : run.output.substr(slash + 1);
  if (plan.name.empty() || IsFolder(run.output)) {
    const std::string folder = run.output.empty() ? "images/" : plan.name.empty() ? run.output : run.output + "/";
    return Bad("output: ", run.output.empty() ? "empty" : run.output + " is a folder",
               "; give FOLDER/NAME, for files NAME-00000.images ...; for example: ", folder, "train");
  }
  if (!(run.held_out >= 0 && run.held_out <= 0.5)) {
    return Bad("held_out: ", run.held_out, " is outside [0, 0.5]; nearest: ", run.held_out > 0.5 ? "0.5" : "0");
  }
  if (run.held_out > 0 && plan.name == kHeldOut) {
    return Bad("output: ", run.output, " is the name of what is held out; give another name, or --held_out=0");
  }

  std::vector<std::vector<int64_t>> of_class(source.format.classes.size());
  for (size_t i = 0; i < source.labels.size(); ++i) {
    of_class[static_cast<size_t>(source.labels[i])].push_back(static_cast<int64_t>(i));
  }
  std::vector<bool> is_held_out(source.labels.size());
  for (size_t c = 0; c < of_class.size(); ++c) {
    const auto count = static_cast<int64_t>(of_class[c].size());
    const int64_t held_out =
        std::max<int64_t>(std::min<int64_t>(std::llround(static_cast<double>(count) * run.held_out), count - 1), 0);
    plan.train_of_class.push_back(count - held_out);
    plan.held_out_of_class.push_back(held_out);
    if (held_out == 0) continue;
    const Sampler order(count, RandomKey(run.split_seed, "images.held_out." + source.format.classes[c]));
    for (int64_t k = 0; k < held_out; ++k) {
      is_held_out[static_cast<size_t>(of_class[c][static_cast<size_t>(order.Index(k))])] = true;
    }
  }
  std::vector<int64_t> train, held_out;
  for (size_t i = 0; i < is_held_out.size(); ++i) {
    (is_held_out[i] ? held_out : train).push_back(static_cast<int64_t>(i));
  }
  if (run.held_out > 0 && held_out.empty()) {
    return Bad("held_out: ", run.held_out, " of so few images (", source.labels.size(), " in ", of_class.size(),
               " classes) is none; take a larger share, or 0");
  }
  const auto by_size = [&](const std::vector<int64_t>& images) {
    return (static_cast<int64_t>(images.size()) * source.format.bytes() + kShardBytes - 1) / kShardBytes;
  };
  if (run.shards < 0 || run.shards > static_cast<int64_t>(train.size())) {
    return Bad("shards: ", run.shards, ", must be from 1 to the number of training images, ", train.size(),
               "; 0 chooses");
  }
  plan.train_shards = run.shards > 0 ? run.shards : by_size(train);
  plan.held_out_shards = by_size(held_out);
  AddShards(plan.name, train, plan.train_shards, &plan);
  AddShards(kHeldOut, held_out, plan.held_out_shards, &plan);
  return plan;
}

// Image `index` of the source at the size that is written.
absl::StatusOr<std::vector<uint8_t>> MakeImage(FileSystem& fs, const Source& source, int64_t index) {
  const ImageFormat& format = source.format;
  Image image;
  if (source.paths.empty()) {
    const auto values = source.idx.Image(index);
    image = {.height = source.idx.height,
             .width = source.idx.width,
             .channels = 1,
             .values = std::vector<uint8_t>(values.begin(), values.end())};
  } else {
    TREFOIL_ASSIGN_OR_RETURN(image, ReadImage(fs, source.paths[static_cast<size_t>(index)], format.channels));
  }
  return CoverAndCrop(image, format.height, format.width).values;
}

absl::Status WriteShard(FileSystem& fs, const Source& source, const Shard& shard, const std::string& folder,
                        ProgressBar& bar) {
  std::vector<int32_t> labels;
  for (const int64_t image : shard.images) labels.push_back(source.labels[static_cast<size_t>(image)]);
  TREFOIL_ASSIGN_OR_RETURN(auto writer,
                           ImageFileWriter::Create(fs, folder + "/" + shard.name, source.format, labels));
  for (const int64_t image : shard.images) {
    TREFOIL_ASSIGN_OR_RETURN(const std::vector<uint8_t> values, MakeImage(fs, source, image));
    TREFOIL_RETURN_IF_ERROR(writer->Add(values));
    bar.Add(static_cast<int64_t>(values.size()));
  }
  return writer->Finish();
}

void PrintSummary(const Source& source, const Plan& plan, double seconds, int ranks, std::ostream& out) {
  const ImageFormat& format = source.format;
  int64_t train = 0, held_out = 0;
  for (const int64_t count : plan.train_of_class) train += count;
  for (const int64_t count : plan.held_out_of_class) held_out += count;
  out << absl::StrFormat("images       %s of %d x %d in %s, %d classes, %.1f MB\n", WithCommas(train + held_out),
                         format.height, format.width, format.channels == 1 ? "grey" : "colour", format.classes.size(),
                         static_cast<double>((train + held_out) * format.bytes()) / 1e6);
  const auto side = [&](const std::string& name, int64_t images, int64_t files) {
    out << absl::StrFormat("%-12s %s/%s-*, %s images (%.1f%%), %d %s\n", name, plan.folder, name, WithCommas(images),
                           100.0 * static_cast<double>(images) / static_cast<double>(train + held_out), files,
                           files == 1 ? "file" : "files");
  };
  side(plan.name, train, plan.train_shards);
  if (held_out > 0) side(kHeldOut, held_out, plan.held_out_shards);
  for (size_t c = 0; c < format.classes.size(); ++c) {
    if (c == kClassesShown && format.classes.size() > kClassesShown + 1) {
      const auto [fewest, most] = std::minmax_element(plan.train_of_class.begin(), plan.train_of_class.end());
      out << absl::StrFormat("             ... %d classes more; of all classes, the smallest has %s, the largest %s\n",
                             format.classes.size() - c, WithCommas(*fewest), WithCommas(*most));
      break;
    }
    out << absl::StrFormat("%-12s %-4d %-20s %s", c == 0 ? "classes" : "", c, format.classes[c],
                           WithCommas(plan.train_of_class[c]));
    if (held_out > 0) out << " + " << WithCommas(plan.held_out_of_class[c]) << " held out";
    out << "\n";
  }
  out << absl::StrFormat("time         %.1f s on %d %s\n", seconds, ranks, ranks == 1 ? "rank" : "ranks");
}

}  // namespace

absl::Status RunImages(FileSystem& fs, const ImagesRun& run, Group& group, std::ostream& out) {
  const bool first = group.rank() == 0;
  const auto start = std::chrono::steady_clock::now();
  auto source = OpenSource(fs, run);
  TREFOIL_RETURN_IF_ERROR(group.Agree(source.status()));
  auto plan = MakePlan(run, *source);
  TREFOIL_RETURN_IF_ERROR(group.Agree(plan.status()));

  std::unique_ptr<StagedOutput> output;  // rank 0's
  absl::Status status;
  if (first) {
    const auto is_ours = [&](const std::string& name, const std::vector<std::string>&) {
      const bool ours = name.starts_with(plan->name + "-") || (run.held_out > 0 && name.starts_with("held_out-"));
      return ours && name.ends_with(".images");
    };
    auto begun = StagedOutput::Begin(fs, plan->folder, {.ours = is_ours}, run.overwrite);
    status = begun.status();
    if (status.ok()) output = *std::move(begun);
  }
  TREFOIL_RETURN_IF_ERROR(group.Agree(status));

  std::vector<const Shard*> mine;
  int64_t my_bytes = 0;
  for (size_t s = static_cast<size_t>(group.rank()); s < plan->shards.size(); s += static_cast<size_t>(group.size())) {
    mine.push_back(&plan->shards[s]);
    my_bytes += static_cast<int64_t>(mine.back()->images.size()) * source->format.bytes();
  }
  ProgressBar bar("packing", first ? my_bytes : 0, std::min(group.size(), static_cast<int>(plan->shards.size())));
  for (const Shard* shard : mine) {
    status = WriteShard(fs, *source, *shard, StagedOutput::Partial(plan->folder), bar);
    if (!status.ok()) break;
  }
  if (status.ok()) bar.Finish();
  TREFOIL_RETURN_IF_ERROR(group.Agree(status));
  TREFOIL_RETURN_IF_ERROR(group.Agree(first ? output->Publish() : absl::OkStatus()));
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  if (first) PrintSummary(*source, *plan, seconds, group.size(), out);
  return absl::OkStatus();
}

int ImagesMain(int argc, char** argv) {
  auto world = NewMpiWorld(&argc, &argv);
  world->set_timeout_seconds(24 * 3600);  // ranks wait for the one with the most to do
  const ImagesRun run = {.input = FLAGS_input,
                         .images = FLAGS_images,
                         .labels = FLAGS_labels,
                         .output = FLAGS_output,
                         .size = FLAGS_size,
                         .channels = FLAGS_channels,
                         .held_out = FLAGS_held_out,
                         .split_seed = FLAGS_split_seed,
                         .shards = FLAGS_shards,
                         .overwrite = FLAGS_overwrite};
  absl::Status status = CheckSameOnRanks(world->all(), CommandLineFacts({argv + 1, argv + argc}));
  if (status.ok() && argc > 1) {
    status = Bad("'", argv[1], "' is no flag; the folder of pictures is --input=", argv[1]);
  }
  if (status.ok()) status = CheckCorpusFlags();
  if (status.ok()) status = RunImages(FileSystem::Posix(), run, world->all(), std::cout);
  if (status.ok()) return 0;
  if (world->rank() == 0) std::cerr << "trefoil images: " << std::string(status.message()) << "\n";
  return 1;
}

}  // namespace trefoil
