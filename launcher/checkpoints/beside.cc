#include "launcher/checkpoints/beside.h"

#include <vector>

#include "data/tokens/tokenizer_files.h"
#include "launcher/config/config.h"

namespace trefoil {

absl::Status CopyBeside(FileSystem& fs, const std::string& from, const std::string& to, const std::string& comment,
                        const std::function<void(RunConfig*)>& change) {
  TREFOIL_ASSIGN_OR_RETURN(const std::vector<std::string> names, fs.List(from));
  for (const std::string& name : names) {
    if (!IsTokenizerFile(name)) continue;
    TREFOIL_ASSIGN_OR_RETURN(const std::string content, ReadFile(fs, from + "/" + name));
    const std::string path = to + "/" + name;
    if (!fs.Exists(path)) {
      TREFOIL_RETURN_IF_ERROR(WriteFileAtomically(fs, path, content));
      continue;
    }
    TREFOIL_ASSIGN_OR_RETURN(const std::string there, ReadFile(fs, path));
    if (there != content) {
      return absl::FailedPreconditionError(path + " is another tokenizer than " + from + "/" + name +
                                           ", so that folder is of another run; give another");
    }
  }
  const std::string path = from + "/config.pbtxt";
  if (!fs.Exists(path) || fs.Exists(to + "/config.pbtxt")) return absl::OkStatus();
  TREFOIL_ASSIGN_OR_RETURN(RunConfig config, ReadConfig(fs, path, {}));
  config.set_folder(to);
  change(&config);
  return WriteFileAtomically(fs, to + "/config.pbtxt", "# " + comment + "\n" + ConfigText(config));
}

}  // namespace trefoil
