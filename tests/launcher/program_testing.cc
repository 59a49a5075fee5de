#include "tests/launcher/program_testing.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <regex>
#include <sstream>

namespace trefoil {
namespace {

constexpr double kPatience = 120;

double Now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

}  // namespace

Program::Program(const std::vector<std::string>& argv, const std::string& output) : output_(output), start_(Now()) {
  std::vector<char*> words;
  for (const std::string& word : argv) words.push_back(const_cast<char*>(word.c_str()));
  words.push_back(nullptr);
  std::filesystem::remove(output);
  pid_ = fork();
  if (pid_ == 0) {
    setpgid(0, 0);
    const int file = open(output.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0644);
    dup2(file, STDOUT_FILENO);
    dup2(file, STDERR_FILENO);
    execvp(words[0], words.data());
    _exit(127);
  }
}

Program::~Program() {
  if (pid_ < 0) return;
  kill(pid_, SIGTERM);  // mpirun takes its ranks along
  const double end = Now() + 10;
  while (Now() < end && waitpid(pid_, nullptr, WNOHANG) == 0) usleep(10'000);
  kill(-pid_, SIGKILL);
  waitpid(pid_, nullptr, 0);
}

std::string Program::Output() const { return ReadText(output_); }

bool Program::Until(const std::function<bool()>& condition) const {
  for (const double end = Now() + kPatience; Now() < end; usleep(5'000)) {
    if (condition()) return true;
    siginfo_t info = {};
    if (waitid(P_PID, static_cast<id_t>(pid_), &info, WEXITED | WNOHANG | WNOWAIT) != 0 || info.si_pid == pid_) break;
  }
  return condition();
}

std::vector<pid_t> Program::Children() const {
  std::vector<pid_t> children;
  for (const auto& task : std::filesystem::directory_iterator("/proc/" + std::to_string(pid_) + "/task")) {
    std::ifstream file(task.path() / "children");
    for (pid_t child; file >> child;) children.push_back(child);
  }
  return children;
}

Ended Program::Wait() {
  int status = 0;
  pid_t ended = 0;
  for (const double end = Now() + kPatience; ended == 0 && Now() < end; usleep(5'000)) {
    ended = waitpid(pid_, &status, WNOHANG);
  }
  EXPECT_EQ(ended, pid_) << "still running:\n" << Output();
  if (ended != pid_) return {.status = -1, .output = Output(), .seconds = Now() - start_};
  pid_ = -1;
  return {.status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status),
          .output = Output(),
          .seconds = Now() - start_};
}

std::string Trefoil() { return std::filesystem::absolute("launcher/trefoil").string(); }

std::vector<std::string> OnRanks(int ranks, const std::vector<std::string>& arguments) {
  std::vector<std::string> argv = {"tests/mpi_run.sh", std::to_string(ranks), Trefoil()};
  argv.insert(argv.end(), arguments.begin(), arguments.end());
  return argv;
}

Ended RunProgram(const std::vector<std::string>& argv) {
  Program program(argv, testing::TempDir() + "/output");
  return program.Wait();
}

Ended WithoutSpeeds(Ended ended) {
  ended.output = std::regex_replace(ended.output, std::regex("trefoil generate: read [^\n]*\n"), "");
  return ended;
}

int Count(const std::string& text, const std::string& part) {
  int count = 0;
  for (size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + part.size())) ++count;
  return count;
}

std::string EmptyFolder(const std::string& name) {
  const std::string folder = testing::TempDir() + "/" + name;
  std::filesystem::remove_all(folder);
  std::filesystem::create_directories(folder);
  return folder;
}

void WriteText(const std::string& path, const std::string& text) { std::ofstream(path) << text; }

void WriteZeroTokens(const std::string& prefix) {
  // See data/tokens/token_file.h.
  std::ofstream idx(prefix + ".idx", std::ios::binary);
  const auto number = [&](auto value) { idx.write(reinterpret_cast<const char*>(&value), sizeof(value)); };
  idx.write("MMIDIDX\0\0", 9);
  number(uint64_t{1});
  number(uint8_t{8});
  number(uint64_t{1});
  number(uint64_t{2});
  number(int32_t{330});
  number(int64_t{0});
  number(int64_t{0});
  number(int64_t{1});
  idx.close();
  WriteText(prefix + ".bin", std::string(660, '\0'));
}

std::string ReadText(const std::string& path) {
  std::ostringstream text;
  text << std::ifstream(path).rdbuf();
  return text.str();
}

}  // namespace trefoil
