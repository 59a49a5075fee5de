// Output files that appear together: written to a folder of their own inside the output's, moved when all are there.
//
//   TREFOIL_ASSIGN_OR_RETURN(auto output, StagedOutput::Begin(fs, "tokens", {.ours = IsOurs}, /*overwrite=*/false));
//   ... write tokens/partial/* ...
//   TREFOIL_RETURN_IF_ERROR(output->Publish());
//
// So whoever finds one of the files, and finds no `partial` beside it, finds all of them. Destroyed without Publish, it
// removes `partial`, and the folder is as it was. The folder is locked meanwhile (runtime/files/folder_lock.h).
//
// In a job one rank has it; the others write to Partial(folder) once that rank says that Begin went well. One thread
// at a time.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "runtime/files/file.h"
#include "runtime/files/folder_lock.h"
#include "runtime/status.h"

namespace trefoil {

class StagedOutput {
 public:
  struct Names {
    // Whether a file of this name, in a folder that has `all` of these (sorted), is such output: it makes way for what
    // is published.
    std::function<bool(const std::string& name, const std::vector<std::string>& all)> ours;
    // Whether it makes others whole, so that it comes after them and goes before them (an .idx of a .bin). Apart from
    // that files come in the order of their names and go in the reverse.
    std::function<bool(const std::string& name)> last = [](const std::string&) { return false; };
  };

  // Makes the folder and an empty `partial` in it. `fs` outlives the output.
  // Failure: the folder has such files and they are not to be overwritten; another process has it.
  static absl::StatusOr<std::unique_ptr<StagedOutput>> Begin(FileSystem& fs, const std::string& folder, Names names,
                                                             bool overwrite);
  ~StagedOutput();
  StagedOutput(const StagedOutput&) = delete;
  StagedOutput& operator=(const StagedOutput&) = delete;

  static std::string Partial(const std::string& folder) { return folder + "/partial"; }
  // Removes what the folder has of such files, and moves those of `partial` there.
  absl::Status Publish();

 private:
  StagedOutput(FileSystem& fs, std::string folder, Names names);
  // The names of our files in a folder, in an order that is safe to write them in.
  absl::StatusOr<std::vector<std::string>> List(const std::string& folder) const;

  FileSystem& fs_;
  const std::string folder_;
  const Names names_;
  std::unique_ptr<FolderLock> lock_;
};

}  // namespace trefoil
