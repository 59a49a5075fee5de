// Files that a folder from elsewhere names.
//
// A name from such a file must not lead out of the folder, by itself or as a link; but links of the Hugging Face hub's
// cache, from MODEL/snapshots/REVISION to MODEL/blobs, are followed.
#pragma once

#include <string>

#include "runtime/status.h"

namespace trefoil {

// The path of `name` in `folder`. Failure: InvalidArgument if the name has a slash, or is a link that leads elsewhere;
// NotFound if there is nothing of that name. Looks at this machine's files.
absl::StatusOr<std::string> FileInFolder(const std::string& folder, const std::string& name);

}  // namespace trefoil
