// Running the real program: `trefoil` under mpirun, in processes of its own.
#pragma once

#include <gtest/gtest.h>
#include <sys/types.h>

#include <functional>
#include <string>
#include <vector>

namespace trefoil {

struct Ended {
  int status = 0;      // exit status; 128 + N after signal N
  std::string output;  // stdout and stderr
  double seconds = 0;  // that it took
};

// A command that runs meanwhile. Killed if still there at the end, or after two minutes.
class Program {
 public:
  // argv[0] may be a path or a name on the PATH. `output`: a file for what it prints.
  Program(const std::vector<std::string>& argv, const std::string& output);
  ~Program();
  pid_t pid() const { return pid_; }
  std::string Output() const;
  // Polls until the condition says true; false if the program ends before, or after two minutes.
  bool Until(const std::function<bool()>& condition) const;
  // The processes that it started, of mpirun: the ranks.
  std::vector<pid_t> Children() const;
  Ended Wait();

 private:
  const std::string output_;
  pid_t pid_ = -1;
  double start_ = 0;
};

// Absolute path of the program under test.
std::string Trefoil();
// mpirun of `trefoil ARGUMENTS` on so many ranks.
std::vector<std::string> OnRanks(int ranks, const std::vector<std::string>& arguments);
// Runs to the end.
Ended RunProgram(const std::vector<std::string>& argv);
// Without the line of speeds with which `trefoil generate` ends.
Ended WithoutSpeeds(Ended ended);

int Count(const std::string& text, const std::string& part);
// A folder of this name, empty, in the test's temporary folder.
std::string EmptyFolder(const std::string& name);
void WriteText(const std::string& path, const std::string& text);
std::string ReadText(const std::string& path);
// PREFIX.bin and .idx: one document of 330 tokens, all 0.
void WriteZeroTokens(const std::string& prefix);

}  // namespace trefoil
