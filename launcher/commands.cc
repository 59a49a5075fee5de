#include "launcher/command.h"
#include "launcher/launch.h"
#include "launcher/presets.h"

namespace trefoil {

std::span<const Command> Commands() {
  static const std::vector<Command>& commands = *new std::vector<Command>{
      {.name = "launch",
       .summary = "Run a command on several ranks of this machine; Ctrl-C saves and stops.",
       .examples = "  trefoil launch -n 4 -- train --config=quickstart --set data.train='corpus/train-*'\n"
                   "  trefoil launch -n 8 --mpirun='--hostfile hosts' -- train --config=run.pbtxt\n",
       .flag_files = {"launcher/launch.cc"},
       .word_ends_flags = true,
       .main = LaunchMain},
      {.name = "presets",
       .summary = "List the configs that are built in, or print one.",
       .examples = "  trefoil presets\n"
                   "  trefoil presets llama_60m > run.pbtxt      # to start a config of your own\n",
       .flag_files = {},
       .main = PresetsMain},
  };
  return commands;
}

}  // namespace trefoil
