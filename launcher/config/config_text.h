// Protobuf text format with messages for people; the parts of launcher/config/config.h.
#pragma once

#include <google/protobuf/descriptor.h>
#include <google/protobuf/message.h>

#include <span>
#include <string>
#include <vector>

#include "launcher/config/presets.h"
#include "runtime/files/file.h"
#include "runtime/status.h"

namespace trefoil {

// A text and what to call it in messages.
struct Source {
  std::string name;
  std::string text;
};
// The file or built-in that `given` names, a built-in first. A path to no file may name a built-in by its last part:
// "configs/llama_60m.pbtxt". `flag` and `kind` are for messages: "--config", "preset".
absl::StatusOr<Source> FindSource(FileSystem& fs, const std::string& flag, const std::string& kind,
                                  std::span<const Preset> built_in, const std::string& given);

// Merges `text` into `message`, whose path from the config's root is `root` ("" for the root itself). Appends a line to
// `problems` for every mistake found; `source` names the text in them. Each legal field is merged even so.
void MergeText(const std::string& source, const std::string& text, const std::string& root,
               google::protobuf::Message* message, std::vector<std::string>* problems);

// Performs one "PATH=VALUE" or "PATH+=VALUE" on `message`. Appends to `problems` instead if it cannot.
void ApplySet(const std::string& set, google::protobuf::Message* message, std::vector<std::string>* problems);

// "model has no field 'hiden'; did you mean 'hidden'?"
std::string NoSuchField(const std::string& path, const google::protobuf::Descriptor& type, const std::string& name);
// "'FAST' is not one of GPIPE, ONE_F_ONE_B, INTERLEAVED", "'two' is not a whole number" ...
std::string NotAValue(const google::protobuf::FieldDescriptor& field, const std::string& value);

}  // namespace trefoil
