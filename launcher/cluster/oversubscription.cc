#include "launcher/cluster/oversubscription.h"

#include <absl/strings/str_cat.h>
#include <sched.h>

#include <algorithm>
#include <sstream>

#include "runtime/host/cpu_features.h"

namespace trefoil {

std::string CoresText(int threads) {
  std::string text = absl::StrCat(threads, " ");
  cpu_set_t allowed;
  if (sched_getaffinity(0, sizeof(allowed), &allowed) != 0) return text;
  for (int core = 0, left = CoresAllowed(); left > 0; ++core) {
    const bool is_allowed = CPU_ISSET(static_cast<size_t>(core), &allowed);
    text += is_allowed ? '1' : '0';
    left -= is_allowed;
  }
  return text;
}

std::string OversubscriptionLine(const Hosts& hosts, const std::vector<std::string>& cores) {
  std::string line;
  int others = 0;
  for (const auto& [host, ranks] : hosts.RanksByHost()) {
    std::string together;  // the cores of all its ranks
    int threads = 0, least = 1 << 30, most = 0;
    for (const int rank : ranks) {
      std::istringstream words(cores[static_cast<size_t>(rank)]);
      int own = 0;
      std::string allowed;
      words >> own >> allowed;
      threads += own;
      least = std::min(least, own);
      most = std::max(most, own);
      together.resize(std::max(together.size(), allowed.size()), '0');
      for (size_t i = 0; i < allowed.size(); ++i) together[i] = std::max(together[i], allowed[i]);
    }
    const auto count = static_cast<int>(std::count(together.begin(), together.end(), '1'));
    if (count == 0 || threads <= count) continue;
    if (!line.empty()) {
      ++others;
      continue;
    }
    const int size = static_cast<int>(ranks.size());
    const std::string each = least == most ? absl::StrCat(most) : absl::StrCat(least, " to ", most);
    line = absl::StrCat("warning   ", host, ": ", size, size == 1 ? " rank x " : " ranks x ", each,
                        most == 1 ? " thread are " : " threads are ", threads, " threads on ", count,
                        count == 1 ? " core" : " cores",
                        ", which take turns: a step may take several times longer; nearest that fits: ");
    if (size <= count) {
      absl::StrAppend(&line, "runtime.threads (or OMP_NUM_THREADS) ", count / size);
    } else {
      absl::StrAppend(&line, count, count == 1 ? " rank" : " ranks", " of one thread");
    }
  }
  if (others > 0) absl::StrAppend(&line, "; ", others, others == 1 ? " more host is" : " more hosts are", " like that");
  return line.empty() ? "" : line + "\n";
}

}  // namespace trefoil
