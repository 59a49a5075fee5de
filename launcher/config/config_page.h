// docs/config.md: every field of a config and of a cluster file, from the comments of the .proto files that declare
// them.
//
//   ConfigPage(set)      ->  "# Every field of a config\n ... - `model.layers`: whole number. Transformer
//                            blocks.\n ..."
//
// A field without a comment shares the one above it. Defaults are what FillDefaults (training/config/validate.h) fills
// in, where that depends on no other field and no machine; the comments explain the rest.
//
// Threads: pure function.
#pragma once

#include <google/protobuf/descriptor.pb.h>

#include <string>

namespace trefoil {

// `files`: training/run.proto, planner/cluster.proto and what they import, each after its imports, with source
// information (protoc --include_imports --include_source_info --descriptor_set_out).
std::string ConfigPage(const google::protobuf::FileDescriptorSet& files);

}  // namespace trefoil
