#include "runtime/host/host_limits.h"

#include <algorithm>
#include <fstream>
#include <optional>
#include <sstream>
#include <string_view>
#include <vector>

namespace trefoil {
namespace {

// Version 1 writes the largest number of whole pages where there is no limit.
constexpr int64_t kUnlimited = int64_t{1} << 60;

bool Lists(const std::string& names, std::string_view name) {
  std::istringstream list(names);
  for (std::string one; std::getline(list, one, ',');) {
    if (one == name) return true;
  }
  return false;
}

struct Group {
  std::string folder;
  bool unified;  // version 2, whose files have other names
};

// A line of /proc/self/mountinfo, which is "36 35 98:0 ROOT POINT options [more options] - TYPE source OPTIONS".
struct Mount {
  std::string root, point, type, options;
};

Mount ParseMount(const std::string& line) {
  std::istringstream words(line);
  Mount mount;
  std::string skipped;
  words >> skipped >> skipped >> skipped >> mount.root >> mount.point;
  while (words >> skipped && skipped != "-") {
  }
  words >> mount.type >> skipped >> mount.options;
  return mount;
}

// This process's group in the hierarchy of `controller` ("" : of version 2), "/slurm/job_7".
std::optional<std::string> PathOfGroup(const std::string& root, std::string_view controller) {
  std::ifstream lines(root + "/proc/self/cgroup");
  for (std::string line; std::getline(lines, line);) {  // "4:memory:/slurm/job_7", "0::/slurm/job_7"
    const size_t first = line.find(':'), second = line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    if (controller.empty() ? controllers.empty() : Lists(controllers, controller)) return line.substr(second + 1);
  }
  return std::nullopt;
}

// What leads from the top of a mount, which shows `top` and what is below it, to `group`: "/step_0" or "". Nothing if the
// mount shows other groups only.
std::optional<std::string> PathBelow(std::string top, const std::string& group) {
  if (top == "/") top.clear();
  // In a namespace of groups: the mount shows groups from further up, and the way down is unknown.
  if (top.starts_with("/..") || group.starts_with("/..")) return "";
  const bool inside = group.starts_with(top) && (group.size() == top.size() || group[top.size()] == '/');
  return inside ? std::optional(group.substr(top.size())) : std::nullopt;
}

// This process's groups with limits of `controller`, each with those around it as far as they are mounted. Some may lack
// the controller, and so its files.
std::vector<Group> GroupsOf(const std::string& root, std::string_view controller) {
  std::vector<Group> groups;
  std::ifstream lines(root + "/proc/self/mountinfo");
  for (std::string line; std::getline(lines, line);) {
    const Mount mount = ParseMount(line);
    const bool unified = mount.type == "cgroup2";
    if (!unified && (mount.type != "cgroup" || !Lists(mount.options, controller))) continue;
    const std::optional<std::string> group = PathOfGroup(root, unified ? "" : controller);
    const std::optional<std::string> below = group.has_value() ? PathBelow(mount.root, *group) : std::nullopt;
    if (!below.has_value()) continue;
    const std::string top = root + mount.point;
    for (std::string path = *below; path.size() > 1; path.erase(path.rfind('/'))) groups.push_back({top + path, unified});
    groups.push_back({top, unified});
  }
  return groups;
}

// The first number of a file; nothing where there is none ("max", no such file).
std::optional<int64_t> NumberIn(const std::string& path) {
  std::ifstream file(path);
  int64_t number = 0;
  return file >> number ? std::optional(number) : std::nullopt;
}

// The number in a line "name 4096" or "name: 4096 kB"; 0 if it is not there.
int64_t NumberOf(const std::string& path, const std::string& name) {
  std::ifstream lines(path);
  for (std::string line; std::getline(lines, line);) {
    std::istringstream words(line);
    std::string first;
    int64_t number = 0;
    if (words >> first >> number && first == name) return number;
  }
  return 0;
}

// "0-3,8": 5.
int CountCores(const std::string& path) {
  std::ifstream file(path);
  int count = 0;
  for (std::string range; std::getline(file, range, ',');) {
    std::istringstream numbers(range);
    int first = 0, last = 0;
    char dash = 0;
    if (!(numbers >> first)) continue;
    if (!(numbers >> dash >> last)) last = first;
    count += last - first + 1;
  }
  return count;
}

int64_t MemoryLimit(const Group& group) {
  int64_t limit = kUnlimited;
  // Above memory.high nothing is killed, but slowed down until it is as good as dead.
  for (const char* file : {"/memory.max", "/memory.high"}) {
    if (group.unified) limit = std::min(limit, NumberIn(group.folder + file).value_or(kUnlimited));
  }
  if (!group.unified) limit = NumberIn(group.folder + "/memory.limit_in_bytes").value_or(kUnlimited);
  return limit;
}

int64_t MemoryTaken(const Group& group) {
  const std::string stat = group.folder + "/memory.stat", of_all = group.unified ? "" : "total_";
  const int64_t files = NumberOf(stat, of_all + "inactive_file") + NumberOf(stat, of_all + "active_file");
  const int64_t usage =
      NumberIn(group.folder + (group.unified ? "/memory.current" : "/memory.usage_in_bytes")).value_or(0);
  return std::max<int64_t>(0, usage - files);
}

// Rounded up; 0: none.
int QuotaOfCores(const Group& group) {
  int64_t quota = 0, period = 0;
  if (group.unified) {
    std::ifstream(group.folder + "/cpu.max") >> quota >> period;  // "max 100000" or "150000 100000"
  } else {
    quota = NumberIn(group.folder + "/cpu.cfs_quota_us").value_or(0);  // -1: none
    period = NumberIn(group.folder + "/cpu.cfs_period_us").value_or(0);
  }
  return quota > 0 && period > 0 ? static_cast<int>((quota + period - 1) / period) : 0;
}

}  // namespace

HostLimits ReadHostLimits(const std::string& root) {
  HostLimits limits = {.memory_bytes = NumberOf(root + "/proc/meminfo", "MemTotal:") << 10,
                       .available_bytes = NumberOf(root + "/proc/meminfo", "MemAvailable:") << 10};
  constexpr int64_t kPage = 4096;
  const auto lower = [](auto* value, auto least) { *value = *value == 0 ? least : std::min(*value, least); };
  for (const Group& group : GroupsOf(root, "memory")) {
    const int64_t limit = MemoryLimit(group);
    if (limit >= kUnlimited) continue;
    lower(&limits.memory_bytes, limit);
    lower(&limits.available_bytes, std::max(kPage, limit - MemoryTaken(group)));
  }
  for (const Group& group : GroupsOf(root, "cpu")) {
    if (const int cores = QuotaOfCores(group); cores > 0) lower(&limits.cores, cores);
  }
  for (const Group& group : GroupsOf(root, "cpuset")) {
    const int cores = CountCores(group.folder + (group.unified ? "/cpuset.cpus.effective" : "/cpuset.effective_cpus"));
    if (cores > 0) lower(&limits.cores, cores);
  }
  return limits;
}

}  // namespace trefoil
