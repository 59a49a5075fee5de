// Parts of data files that lie on other hosts, read by ranks there. Internal to checkpoint/.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "parallel/collectives/group.h"
#include "runtime/files/file.h"
#include "runtime/status.h"

namespace trefoil {

struct Wanted {
  int server = 0;      // the rank that reads it for this one
  std::string file;    // in the folder
  int64_t offset = 0;
  int64_t bytes = 0;
  std::function<void(std::span<const std::byte> bytes)> take;  // called once, with all of it
};

// What this rank could not read for others.
struct Unread {
  std::string file;
  absl::Status status;
};

// Every rank of the group makes the call, with what it wants, which comes in the order given for each server, and with its
// own `folder`, from which it serves. Bytes that could not be read come as anything: who takes them checks them.
std::vector<Unread> FetchFromOthers(FileSystem& fs, Group& group, const std::string& folder,
                                    const std::vector<Wanted>& wanted);

}  // namespace trefoil
