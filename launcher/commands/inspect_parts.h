// What `trefoil inspect` says of each kind of thing (launcher/commands/inspect.h). Internal to it.
#pragma once

#include <ostream>
#include <string>
#include <vector>

#include "launcher/commands/inspect.h"

namespace trefoil {

// "step         600" and the like: a label and a text in columns.
void InspectLine(std::ostream& out, const std::string& label, const std::string& text);
// A text on one line, in quotes, at most `most` bytes of it: newlines as \n, what is not UTF-8 as \xHH.
std::string QuotedText(const std::string& text, size_t most);

// `folder`: of one checkpoint.
absl::Status InspectCheckpoint(FileSystem& fs, const InspectOptions& options, const std::string& folder,
                               std::ostream& out);
// `globs`: as in TokenSet::Open.
absl::Status InspectTokenFiles(FileSystem& fs, const InspectOptions& options, const std::vector<std::string>& prefixes,
                               std::ostream& out);
absl::Status InspectTokenizer(FileSystem& fs, const InspectOptions& options, const std::string& path, std::ostream& out);

}  // namespace trefoil
