#include "launcher/help.h"

#include <absl/strings/match.h>
#include <absl/strings/str_cat.h>
#include <absl/strings/str_join.h>
#include <gflags/gflags.h>

#include <algorithm>

#include "runtime/version.h"

namespace trefoil {
namespace {

using gflags::CommandLineFlagInfo;

// Sorted by name.
std::vector<CommandLineFlagInfo> FlagsOf(const Command& command) {
  std::vector<CommandLineFlagInfo> all, own;
  gflags::GetAllFlags(&all);
  for (const CommandLineFlagInfo& flag : all) {
    for (const char* file : command.flag_files) {
      if (flag.filename == file) own.push_back(flag);
    }
  }
  std::sort(own.begin(), own.end(), [](const auto& a, const auto& b) { return a.name < b.name; });
  return own;
}

std::vector<Command::Repeated> RepeatedOf(const Command& command) {
  std::vector<Command::Repeated> repeated = command.repeated;
  if (command.sets) {
    repeated.push_back({.name = "set",
                        .value = "PATH=VALUE",
                        .description = "Any field of the config: --set model.layers=12 --set 'data.train+=more/train-*'\n"
                                       "      docs/config.md explains them all."});
  }
  return repeated;
}

bool IsLogFlag(const CommandLineFlagInfo& flag) {
  return absl::StrContains(flag.filename, "logging.cc") || absl::StrContains(flag.filename, "vlog_is_on.cc");
}

// Finds a flag that the command takes.
bool FindFlag(const Command& command, const std::string& name, CommandLineFlagInfo* flag) {
  if (!gflags::GetCommandLineFlagInfo(name.c_str(), flag)) return false;
  if (IsLogFlag(*flag)) return true;
  return std::any_of(command.flag_files.begin(), command.flag_files.end(),
                     [&](const char* file) { return flag->filename == file; });
}

const char* TypeName(const std::string& type) {
  if (type == "bool") return "true or false";
  if (type == "double") return "a number";
  return type == "string" ? "a text" : "a whole number";
}

absl::Status NoSuchFlag(const Command& command, const std::string& name) {
  std::vector<std::string> names = {"help"};
  for (const CommandLineFlagInfo& flag : FlagsOf(command)) names.push_back(flag.name);
  for (const Command::Repeated& flag : RepeatedOf(command)) names.push_back(flag.name);
  const std::string nearest = NearestName(name, names);
  return absl::InvalidArgumentError(
      absl::StrCat("no flag '--", name, "'; ", nearest.empty() ? "" : absl::StrCat("did you mean '--", nearest, "'? "),
                   "`trefoil help ", command.name, "` lists them"));
}

const Command* FindCommand(std::span<const Command> commands, const std::string& name) {
  for (const Command& command : commands) {
    if (name == command.name) return &command;
  }
  return nullptr;
}

int UnknownCommand(std::span<const Command> commands, const std::string& name, std::ostream& err) {
  std::vector<std::string> names = {"help"};
  for (const Command& command : commands) names.push_back(command.name);
  const std::string nearest = NearestName(name, names);
  err << "trefoil: no command '" << name << "'; "
      << (nearest.empty() ? absl::StrCat("commands: ", absl::StrJoin(names, ", "))
                          : absl::StrCat("did you mean '", nearest, "'?"))
      << "\n";
  return 2;
}

bool AsksForVersion(const std::string& word) { return word == "--version" || word == "-version"; }

bool AsksForHelp(const std::string& word) { return word == "--help" || word == "-help" || word == "-h"; }

}  // namespace

std::string ProgramHelp(std::span<const Command> commands) {
  std::string help =
      "Trefoil pretrains transformers with tensor, pipeline and data parallelism across MPI ranks.\n"
      "\n"
      "  trefoil COMMAND [flags]\n"
      "\n";
  size_t width = 4;
  for (const Command& command : commands) width = std::max(width, std::string(command.name).size());
  const auto line = [&](const std::string& name, const std::string& summary) {
    absl::StrAppend(&help, "  ", name, std::string(width - name.size() + 2, ' '), summary, "\n");
  };
  for (const Command& command : commands) line(command.name, command.summary);
  line("help", "Explain a command, its flags and examples: trefoil help COMMAND.");
  absl::StrAppend(&help, "\ntrefoil ", VersionText(), "\n");
  return help;
}

std::string CommandHelp(const Command& command) {
  std::string help = absl::StrCat(command.summary, "\n\n", command.examples);
  const std::vector<CommandLineFlagInfo> flags = FlagsOf(command);
  const std::vector<Command::Repeated> repeated = RepeatedOf(command);
  if (!flags.empty() || !repeated.empty()) absl::StrAppend(&help, "\nFlags:\n");
  for (const CommandLineFlagInfo& flag : flags) {
    const char* quote = flag.type == "string" ? "\"" : "";
    absl::StrAppend(&help, flag.name.size() == 1 ? "  -" : "  --", flag.name, " (", TypeName(flag.type),
                    flag.default_value.empty() ? "" : absl::StrCat("; default ", quote, flag.default_value, quote), ")\n      ",
                    flag.description, "\n");
  }
  for (const Command::Repeated& flag : repeated) {
    absl::StrAppend(&help, "  --", flag.name, " ", flag.value, " (any number of times)\n      ", flag.description, "\n");
  }
  return help;
}

std::vector<std::string> FlagList(const Command& command) {
  std::vector<std::string> list;
  for (const CommandLineFlagInfo& flag : FlagsOf(command)) list.push_back(absl::StrCat(flag.name, " ", flag.type));
  for (const Command::Repeated& flag : RepeatedOf(command)) list.push_back(absl::StrCat(flag.name, " ", flag.value));
  return list;
}

absl::Status ParseFlags(const Command& command, int* argc, char** argv) {
  int kept = 1;
  int i = 1;
  for (; i < *argc; ++i) {
    const std::string word = argv[i];
    if (word == "--") {
      ++i;
      break;
    }
    if (word.size() < 2 || word[0] != '-') {
      if (command.word_ends_flags) break;
      argv[kept++] = argv[i];
      continue;
    }
    std::string name = word.substr(word[1] == '-' ? 2 : 1);
    const size_t equals = name.find('=');
    bool has_value = equals != std::string::npos;
    std::string value = has_value ? name.substr(equals + 1) : "";
    name = name.substr(0, equals);
    const std::vector<Command::Repeated> repeated = RepeatedOf(command);
    if (std::any_of(repeated.begin(), repeated.end(), [&](const auto& flag) { return name == flag.name; })) {
      argv[kept++] = argv[i];
      if (!has_value && i + 1 < *argc) argv[kept++] = argv[++i];
      continue;
    }
    CommandLineFlagInfo flag;
    if (!FindFlag(command, name, &flag)) {
      const bool negated = !has_value && absl::StartsWith(name, "no") && FindFlag(command, name.substr(2), &flag) &&
                           flag.type == "bool";
      if (!negated) return NoSuchFlag(command, name);
      value = "false";
    } else if (!has_value && flag.type == "bool") {
      value = "true";
    } else if (!has_value) {
      if (i + 1 == *argc) {
        return absl::InvalidArgumentError(absl::StrCat("--", name, ": nothing follows; give ", TypeName(flag.type)));
      }
      value = argv[++i];
    }
    if (gflags::SetCommandLineOption(flag.name.c_str(), value.c_str()).empty()) {
      return absl::InvalidArgumentError(absl::StrCat("--", flag.name, ": '", value, "' is not ", TypeName(flag.type)));
    }
  }
  while (i < *argc) argv[kept++] = argv[i++];
  *argc = kept;
  argv[kept] = nullptr;
  return absl::OkStatus();
}

int Dispatch(std::span<const Command> commands, int argc, char** argv, std::ostream& out, std::ostream& err) {
  const std::string name = argc > 1 ? argv[1] : "help";
  if (name == "help" || AsksForHelp(name)) {
    if (argc <= 2) {
      out << ProgramHelp(commands);
      return 0;
    }
    const Command* command = FindCommand(commands, argv[2]);
    if (command == nullptr) return UnknownCommand(commands, argv[2], err);
    out << CommandHelp(*command);
    return 0;
  }
  if (AsksForVersion(name)) {
    out << "trefoil " << VersionText() << "\n";
    return 0;
  }
  const Command* command = FindCommand(commands, name);
  if (command == nullptr) return UnknownCommand(commands, name, err);
  --argc, ++argv;
  for (int i = 1; i < argc && std::string(argv[i]) != "--"; ++i) {
    if (argv[i][0] != '-' && command->word_ends_flags) break;
    if (AsksForHelp(argv[i])) {
      out << CommandHelp(*command);
      return 0;
    }
  }
  if (const absl::Status status = ParseFlags(*command, &argc, argv); !status.ok()) {
    err << "trefoil " << name << ": " << std::string(status.message()) << "\n";
    return 2;
  }
  return command->main(argc, argv);
}

}  // namespace trefoil
