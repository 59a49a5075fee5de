#include "launcher/cluster/product_choice.h"

#include <absl/strings/match.h>
#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>
#include <absl/strings/str_split.h>

#include <cmath>
#include <cstdlib>
#include <optional>
#include <sstream>
#include <vector>

#include "runtime/version.h"

namespace trefoil {
namespace {

constexpr char kFile[] = "product_speeds";
constexpr double kGiga = 1e9;

std::string Key() { return absl::StrCat(Name(UsedCpuLevel()), " ", VersionText(), " ", CpuModel()); }

// Rejects what no CPU can have.
bool Possible(double speed) { return std::isfinite(speed) && speed > 0 && speed < 1e6; }

std::optional<ProductSpeeds> Parse(const std::string& line) {
  std::istringstream in(line);
  ProductSpeeds speeds;
  std::string key;
  in >> speeds.float32 >> speeds.bf16_native >> speeds.bf16_float32 >> std::ws;
  std::getline(in, key);
  const bool native = CpuHasBFloat16() ? Possible(speeds.bf16_native) : speeds.bf16_native == 0;
  if (key != Key() || !native || !Possible(speeds.float32) || !Possible(speeds.bf16_float32)) return std::nullopt;
  for (double* speed : {&speeds.float32, &speeds.bf16_native, &speeds.bf16_float32}) *speed *= kGiga;
  return speeds;
}

// Adds the speeds to the file. What fails costs the next start a measurement, and nothing else.
void Keep(FileSystem& fs, const std::string& folder, std::vector<std::string> lines, const ProductSpeeds& speeds) {
  const std::string key = Key();
  std::erase_if(lines, [&](const std::string& line) { return line.empty() || absl::EndsWith(line, " " + key); });
  constexpr size_t kMost = 50;  // a cluster's kinds of CPU, each with a few builds
  if (lines.size() >= kMost) lines.erase(lines.begin(), lines.end() - (kMost - 1));
  lines.push_back(absl::StrFormat("%.4g %.4g %.4g %s", speeds.float32 / kGiga, speeds.bf16_native / kGiga,
                                  speeds.bf16_float32 / kGiga, key));
  std::string text;
  for (const std::string& line : lines) absl::StrAppend(&text, line, "\n");
  fs.MakeFolder(folder.substr(0, folder.rfind('/'))).IgnoreError();
  fs.MakeFolder(folder).IgnoreError();
  WriteFileAtomically(fs, absl::StrCat(folder, "/", kFile), text).IgnoreError();
}

}  // namespace

std::string CacheFolder() {
  const auto absolute = [](const char* variable) {
    const char* value = std::getenv(variable);
    return value != nullptr && *value == '/' ? std::string(value) : "";
  };
  if (const std::string cache = absolute("XDG_CACHE_HOME"); !cache.empty()) return cache + "/trefoil";
  if (const std::string home = absolute("HOME"); !home.empty()) return home + "/.cache/trefoil";
  return "";
}

KnownSpeeds SpeedsOfThisCpu(FileSystem& fs, const std::string& folder) {
  std::vector<std::string> lines;
  if (!folder.empty()) {
    const std::string path = absl::StrCat(folder, "/", kFile);
    const absl::StatusOr<std::string> text = ReadFile(fs, path);
    if (text.ok()) lines = absl::StrSplit(*text, '\n');
    for (const std::string& line : lines) {
      if (const auto speeds = Parse(line)) return {.speeds = *speeds, .source = "measured before, in " + path};
    }
  }
  const ProductSpeeds speeds = MeasureProductSpeeds();
  if (!folder.empty()) Keep(fs, folder, std::move(lines), speeds);
  return {.speeds = speeds, .source = "measured now"};
}

Bf16Defaults DefaultsBy(const ProductSpeeds& speeds) {
  return {.pays = Bf16Pays(speeds),
          .products = FasterBf16Products(speeds) == Bf16Products::kNative ? RuntimeConfig::NATIVE : RuntimeConfig::FLOAT32};
}

std::string SpeedsText(const KnownSpeeds& known) {
  const ProductSpeeds& speeds = known.speeds;
  std::string text = absl::StrFormat("float32 %.4g", speeds.float32 / kGiga);
  if (speeds.bf16_native > 0) {
    absl::StrAppendFormat(&text, ", bf16 %.4g by %s", speeds.bf16_native / kGiga, ProductsText(RuntimeConfig::NATIVE));
  }
  absl::StrAppendFormat(&text, ", bf16 %.4g by %s, GFLOP/s of a core; %s", speeds.bf16_float32 / kGiga,
                        ProductsText(RuntimeConfig::FLOAT32), known.source);
  return text;
}

std::string ProductsText(RuntimeConfig::Bf16Products products) {
  return products == RuntimeConfig::NATIVE && CpuHasBFloat16() ? Name(UsedCpuLevel()) : "float32's instructions";
}

}  // namespace trefoil
