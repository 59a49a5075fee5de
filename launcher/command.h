// One subcommand of the `trefoil` program.
#pragma once

#include <span>
#include <vector>

namespace trefoil {

struct Command {
  const char* name;
  const char* summary;   // one line
  const char* examples;  // one or more lines, each indented by two spaces
  // The sources that define its flags, as gflags knows them ("launcher/commands/train.cc"): no other command's flag is
  // accepted.
  std::vector<const char*> flag_files;
  // Takes `--set PATH=VALUE`, any number of times; they stay in argv for TakeSets (launcher/config/config.h).
  bool sets = false;
  // Others that it takes any number of times; they stay in argv for TakeRepeated (launcher/repeated_flags.h).
  struct Repeated {
    const char* name;
    const char* value;  // "TEXT"
    const char* description;
  };
  std::vector<Repeated> repeated = {};
  // Flags end at the first word: what follows is another program's.
  bool word_ends_flags = false;
  // argv[0] is the command's name; flags are already parsed and taken out. Returns the exit status.
  int (*main)(int argc, char** argv);
};

// Every command, in the order of a user's first day. launcher/commands.cc: a new command is a line there.
std::span<const Command> Commands();

}  // namespace trefoil
