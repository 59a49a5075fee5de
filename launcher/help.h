// The command line of `trefoil COMMAND [flags]`: finding the command, its help, and its flags.
//
// Flags are gflags, defined in the source of their command (launcher/commands/tokenize.cc). gflags knows all flags of
// the program at once and would accept any of them anywhere; here a command takes its own flags only (and glog's, such
// as
// --logtostderr), and an unknown one is an error that names the nearest.
#pragma once

#include <ostream>
#include <span>
#include <string>
#include <vector>

#include "launcher/command.h"
#include "runtime/status.h"

namespace trefoil {

// Performs the command line: runs a command and returns its exit status, or prints help or the version (0), or a clear
// error to `err` (2: the command line is wrong, and nothing ran).
int Dispatch(std::span<const Command> commands, int argc, char** argv, std::ostream& out, std::ostream& err);

// What `trefoil` and `trefoil help COMMAND` print.
std::string ProgramHelp(std::span<const Command> commands);
std::string CommandHelp(const Command& command);

// Names and types of the flags that a command takes: "config string". Sorted.
std::vector<std::string> FlagList(const Command& command);

// Sets the flags in argv and takes them out; `--` is taken out too and ends them. argv[0] stays. So does what a command
// takes any number of times, --set of one with `sets` among it.
absl::Status ParseFlags(const Command& command, int* argc, char** argv);

}  // namespace trefoil
