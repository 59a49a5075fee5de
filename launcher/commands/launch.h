// `trefoil launch -n 4 -- train --config=...`: ranks on this machine (or where --mpirun='--hostfile ...' says), with an
// interrupt that saves.
//
// mpirun itself answers SIGINT and SIGTERM by killing its ranks, and only SIGUSR1 passes through it. So mpirun runs in
// a process group of its own, out of the terminal's reach, and here SIGINT, SIGTERM and SIGHUP become a SIGUSR1, at
// which `trefoil train` finishes its step, saves and exits with 0. A second one kills: SIGTERM to mpirun, and SIGKILL to
// it and to all that it left ten seconds later, or at once at the third.
#pragma once

#include <string>
#include <vector>

namespace trefoil {

struct LaunchPlan {
  int ranks = 1;                            // 0: as many as the hosts have slots; for other hosts only
  int cores = 1;                            // that this process may use
  bool other_hosts = false;                 // NamesHosts(mpirun_options)
  bool passes_threads = true;               // OMP_NUM_THREADS is set, for all ranks
  int pinned = 0;                           // cores that each rank gets to itself, side by side; 0: all ranks, all cores
  std::vector<std::string> mpirun_options;  // the user's, after ours
  std::vector<std::string> program;         // and its arguments
};

// Whether these options of mpirun say on which hosts ranks run. Then this machine's cores say nothing about theirs: ranks
// share out the cores of the host that they find themselves on.
bool NamesHosts(const std::vector<std::string>& mpirun_options);

// The mpirun command: ranks may outnumber cores (waiting ranks then give up theirs), and are bound to none unless
// pinned, since another job on the machine would get the same ones.
std::vector<std::string> MpirunCommand(const LaunchPlan& plan);

// Runs a command as above until it ends. Returns its exit status; 128 + N if signal N ended it, which is said in a line;
// 127 if it cannot run. Its stderr comes without what mpirun says of exit statuses (launcher/cluster/mpirun_noise.h).
// Threads: blocks the signals for the calling thread meanwhile, so call it before other threads exist.
int RunWithSignals(const std::vector<std::string>& command);

}  // namespace trefoil
