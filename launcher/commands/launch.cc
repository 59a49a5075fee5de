#include "launcher/commands/launch.h"

#include <absl/strings/str_cat.h>
#include <absl/strings/str_join.h>
#include <absl/strings/str_split.h>
#include <fcntl.h>
#include <gflags/gflags.h>
#include <glog/logging.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <thread>

#include "launcher/cluster/mpirun_noise.h"
#include "launcher/commands/commands.h"
#include "runtime/host/cpu_features.h"

DEFINE_int32(n, 0, "Ranks. 0: one for each core of this machine; on the hosts that --mpirun names, one for each of their slots.");
DEFINE_bool(pin, false,
            "Give each rank cores of its own, side by side: as many as OMP_NUM_THREADS says, or its share of this machine's. "
            "More runtime.threads are refused. For a machine that runs nothing else: two pinned jobs would share cores.");
DEFINE_string(mpirun, "", "More options for mpirun, separated by spaces, such as '--hostfile hosts'.");

namespace trefoil {
namespace {

constexpr int kSecondsToDie = 10;

std::string OwnPath() {
  char path[PATH_MAX];
  const ssize_t size = readlink("/proc/self/exe", path, sizeof(path));
  CHECK_GT(size, 0) << "/proc/self/exe: " << std::strerror(errno);
  return std::string(path, static_cast<size_t>(size));
}

// In the child of a fork: becomes the command, `errors` as its stderr.
[[noreturn]] void Become(const std::vector<std::string>& command, const sigset_t& signals, pid_t parent, int errors) {
  setpgid(0, 0);
  // If this program is killed outright, mpirun is told to end its ranks.
  prctl(PR_SET_PDEATHSIG, SIGTERM);
  if (getppid() != parent) _exit(1);
  sigprocmask(SIG_SETMASK, &signals, nullptr);
  // Outside the terminal's foreground group, reading from it would stop mpirun.
  const int nothing = open("/dev/null", O_RDONLY);
  dup2(nothing, STDIN_FILENO);
  dup2(errors, STDERR_FILENO);
  std::vector<char*> argv;
  for (const std::string& word : command) argv.push_back(const_cast<char*>(word.c_str()));
  argv.push_back(nullptr);
  execvp(argv[0], argv.data());
  std::fprintf(stderr, "trefoil launch: cannot run %s: %s; is openmpi-bin installed?\n", argv[0], std::strerror(errno));
  _exit(127);
}

// What comes out of `from` goes to stderr, without mpirun's noise, until all of its writers are gone or `stop` is readable
// and nothing more comes: ranks that mpirun left behind may hold it open.
void PassErrors(int from, int stop) {
  MpirunNoise noise;
  const auto show = [](std::string_view text) {
    while (!text.empty()) {
      const ssize_t written = write(STDERR_FILENO, text.data(), text.size());
      if (written < 0 && errno == EINTR) continue;
      if (written <= 0) return;
      text.remove_prefix(static_cast<size_t>(written));
    }
  };
  char buffer[4096];
  for (;;) {
    pollfd files[] = {{from, POLLIN, 0}, {stop, POLLIN, 0}};
    if (poll(files, 2, -1) < 0 && errno == EINTR) continue;
    if (files[0].revents == 0) break;
    const ssize_t size = read(from, buffer, sizeof(buffer));
    if (size < 0 && errno == EINTR) continue;
    if (size <= 0) break;
    show(noise.Add({buffer, static_cast<size_t>(size)}));
  }
  show(noise.End());
}

// SIGKILL to every child: as subreaper, this process inherits what a killed mpirun leaves.
void KillChildren() {
  for (int round = 0; round < 100; ++round) {
    std::ifstream children(absl::StrCat("/proc/self/task/", getpid(), "/children"));
    bool any = false;
    for (pid_t child; children >> child; any = true) kill(child, SIGKILL);
    if (!any) return;
    while (waitpid(-1, nullptr, WNOHANG) > 0) {
    }
    usleep(10'000);
  }
}

}  // namespace

bool NamesHosts(const std::vector<std::string>& mpirun_options) {
  constexpr const char* kOptions[] = {"hostfile", "machinefile", "default-hostfile", "host", "H", "rankfile", "rf"};
  return std::any_of(mpirun_options.begin(), mpirun_options.end(), [&](const std::string& option) {
    const std::string_view name = std::string_view(option).substr(std::min(option.find_first_not_of('-'), option.size()));
    return option.starts_with('-') && std::find(std::begin(kOptions), std::end(kOptions), name) != std::end(kOptions);
  });
}

std::vector<std::string> MpirunCommand(const LaunchPlan& plan) {
  std::vector<std::string> command = {"mpirun"};
  if (plan.ranks > 0) {
    command.emplace_back("-n");
    command.push_back(absl::StrCat(plan.ranks));
  }
  if (plan.pinned > 0) {
    // What Linux calls a core is a hardware thread to Open MPI.
    for (const char* word : {"--use-hwthread-cpus", "--bind-to", "hwthread", "--map-by"}) command.emplace_back(word);
    command.push_back(absl::StrCat("slot:PE=", plan.pinned));
  } else {
    for (const char* word : {"--bind-to", "none"}) command.emplace_back(word);
  }
  // Open MPI counts places its own way: --oversubscribe always, the effect by ours; on other hosts by its own.
  command.emplace_back("--oversubscribe");
  if (!plan.other_hosts) {
    for (const char* word : {"--mca", "mpi_yield_when_idle", plan.ranks > plan.cores ? "1" : "0"}) {
      command.emplace_back(word);
    }
  }
  if (plan.passes_threads) {
    for (const char* word : {"-x", "OMP_NUM_THREADS"}) command.emplace_back(word);
  }
  command.insert(command.end(), plan.mpirun_options.begin(), plan.mpirun_options.end());
  command.insert(command.end(), plan.program.begin(), plan.program.end());
  return command;
}

int RunWithSignals(const std::vector<std::string>& command) {
  sigset_t signals, before;
  sigemptyset(&signals);
  for (const int signal : {SIGINT, SIGTERM, SIGHUP, SIGCHLD}) sigaddset(&signals, signal);
  CHECK_EQ(sigprocmask(SIG_BLOCK, &signals, &before), 0);
  prctl(PR_SET_CHILD_SUBREAPER, 1);

  int errors[2], stop[2];
  CHECK_EQ(pipe2(errors, O_CLOEXEC), 0) << "pipe: " << std::strerror(errno);
  CHECK_EQ(pipe2(stop, O_CLOEXEC), 0) << "pipe: " << std::strerror(errno);
  const pid_t self = getpid();
  const pid_t child = fork();
  CHECK_GE(child, 0) << "fork: " << std::strerror(errno);
  if (child == 0) Become(command, before, self, errors[1]);
  setpgid(child, child);  // here too, so that no signal can come between
  close(errors[1]);
  std::thread passing(PassErrors, errors[0], stop[0]);

  int interrupts = 0;
  int status = 0;
  for (bool running = true; running;) {
    const timespec patience = {kSecondsToDie, 0};
    const int signal = interrupts >= 2 ? sigtimedwait(&signals, nullptr, &patience) : sigwaitinfo(&signals, nullptr);
    if (signal < 0 && errno == EINTR) continue;
    if (signal == SIGCHLD) {
      // Several ends may come as one SIGCHLD, orphans' among them.
      for (pid_t ended; (ended = waitpid(-1, &status, WNOHANG)) > 0;) {
        if (ended == child) {
          running = false;
          break;
        }
      }
      continue;
    }
    // Another request to stop, or patience is over.
    ++interrupts;
    if (interrupts == 1) {
      std::fprintf(stderr, "\ntrefoil launch: stopping after this step; once more to kill\n");
      kill(child, SIGUSR1);
    } else if (interrupts == 2) {
      std::fprintf(stderr, "\ntrefoil launch: killing\n");
      kill(child, SIGTERM);
    } else {
      kill(child, SIGKILL);
    }
  }
  if (interrupts >= 2) KillChildren();
  close(stop[1]);
  passing.join();
  close(errors[0]);
  close(stop[0]);
  prctl(PR_SET_CHILD_SUBREAPER, 0);
  CHECK_EQ(sigprocmask(SIG_SETMASK, &before, nullptr), 0);
  const int code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  if (code > 128 && interrupts < 2) {
    std::fprintf(stderr, "trefoil launch: a rank was ended by signal %d (%s)\n", code - 128, strsignal(code - 128));
  }
  return code;
}

int LaunchMain(int argc, char** argv) {
  if (argc < 2) {
    std::fprintf(stderr, "trefoil launch: nothing to run; example: trefoil launch -n 4 -- train --config=run.pbtxt\n");
    return 2;
  }
  if (FLAGS_n < 0) {
    std::fprintf(stderr, "trefoil launch: -n: %d, must not be negative; nearest legal: 1\n", FLAGS_n);
    return 2;
  }
  LaunchPlan plan;
  plan.cores = CoresAllowed();
  plan.mpirun_options = absl::StrSplit(FLAGS_mpirun, ' ', absl::SkipEmpty());
  plan.other_hosts = NamesHosts(plan.mpirun_options);
  plan.ranks = FLAGS_n > 0 || plan.other_hosts ? FLAGS_n : plan.cores;
  plan.program.assign(argv + 1, argv + argc);
  // A path is another program; a word is a command of this one.
  const bool is_command = plan.program[0].find('/') == std::string::npos;
  const std::string shown = absl::StrCat(is_command ? "trefoil " : "", absl::StrJoin(plan.program, " "));
  if (is_command) plan.program.insert(plan.program.begin(), OwnPath());

  if (!plan.other_hosts) {
    setenv("OMP_NUM_THREADS", absl::StrCat(std::max(1, plan.cores / plan.ranks)).c_str(), /*overwrite=*/0);
  }
  const char* threads_each = getenv("OMP_NUM_THREADS");
  plan.passes_threads = threads_each != nullptr;
  if (FLAGS_pin) {
    if (threads_each == nullptr) {
      std::fprintf(stderr, "trefoil launch: --pin: on the hosts that --mpirun names, OMP_NUM_THREADS must say how many cores "
                           "each rank gets; nearest legal: OMP_NUM_THREADS=1\n");
      return 2;
    }
    const int threads = std::max(1, std::atoi(threads_each));
    // On other hosts mpirun knows what there is.
    if (!plan.other_hosts && plan.ranks * threads > plan.cores) {
      std::fprintf(stderr,
                   "trefoil launch: --pin: -n %d x %d threads (OMP_NUM_THREADS) is %d cores, must be at most the %d here; "
                   "nearest legal: -n %d\n",
                   plan.ranks, threads, plan.ranks * threads, plan.cores, std::max(1, plan.cores / threads));
      return 2;
    }
    plan.pinned = threads;
  }
  if (geteuid() == 0) {
    setenv("OMPI_ALLOW_RUN_AS_ROOT", "1", 1);
    setenv("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1", 1);
  }
  const std::string ranks = plan.ranks == 0 ? "a rank for each slot" : absl::StrCat(plan.ranks, plan.ranks == 1 ? " rank" : " ranks");
  const std::string threads = threads_each == nullptr ? "its share of its host's cores"
                                                      : absl::StrCat(threads_each, std::atoi(threads_each) == 1 ? " thread" : " threads");
  std::fprintf(stderr, "trefoil launch: %s of `%s`, %s each; Ctrl-C saves and stops, twice kills\n", ranks.c_str(),
               shown.c_str(), threads.c_str());
  return RunWithSignals(MpirunCommand(plan));
}

}  // namespace trefoil
