// What a run on CPUs multiplies with where its config leaves that open (training.precision, runtime.bf16_products): the
// faster precision and, for bf16, the faster instructions, by a measurement of this CPU.
//
//   const KnownSpeeds known = SpeedsOfThisCpu(FileSystem::Posix(), CacheFolder());
//   FillDefaults(&config, ranks, DefaultsBy(known.speeds));
//
// A CPU is measured once, in about 0.1 s: its speeds are kept in the file product_speeds of the user's cache folder, one
// line each,
//   95.1 1210 88.3 AMX build 3f9a1c0b5d7e2468 AMD EPYC 9R14 (00a10f11)
// GFLOP/s in float32, in bf16 by its own instructions and in bf16 by float32's; the CPU level, the program and the CPU that
// they are of. The file may be deleted at any time; a line that makes no sense counts as none.
#pragma once

#include <string>

#include "runtime/files/file.h"
#include "runtime/host/product_speeds.h"
#include "training/config/validate.h"

namespace trefoil {

// $XDG_CACHE_HOME/trefoil, else $HOME/.cache/trefoil; empty if neither variable is an absolute path.
std::string CacheFolder();

struct KnownSpeeds {
  ProductSpeeds speeds;
  std::string source;  // "measured now", or "measured before, in FILE"
};

// Of this CPU at the used level by this program: from `folder`, else measured and put there if that is possible.
KnownSpeeds SpeedsOfThisCpu(FileSystem& fs, const std::string& folder);

Bf16Defaults DefaultsBy(const ProductSpeeds& speeds);

// "float32 95.1, bf16 1210 by AMX, bf16 88.3 by float32's instructions, GFLOP/s of a core; measured now".
std::string SpeedsText(const KnownSpeeds& known);

// Of this CPU: "AMX", "AVX512_BF16" for NATIVE; else "float32's instructions".
std::string ProductsText(RuntimeConfig::Bf16Products products);

}  // namespace trefoil
