// The summary that rank 0 prints before step 1: what will run, where, and what it takes.
//
//   run       runs/a
//   program   build 3f9a1c0b5d7e2468 (GCC 12.2.0)
//   model     LLAMA: 6 layers, hidden 192, 6 heads (2 key/value), feed-forward 512, vocabulary 2048; 3.15M parameters
//   mesh      tensor 2 x pipeline 2 x data 2 = 8 ranks, 1 thread each
//
//                                              replica 0  replica 1
//                                             +----------+----------+
//             stage 0  embedding, layers 0-2  |   0  1   |   2  3   |
//                                             +----------+----------+
//             stage 1  layers 3-5, head       |   4  5   |   6  7   |
//                                             +----------+----------+
//   ...
//
// In the picture a row is a pipeline stage with its layers, a column a model replica, and a cell the tensor ranks of
// both; rows and columns beyond a few are left out ("...").
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "training/log/peak_flops.h"
#include "training/run.pb.h"

namespace trefoil {

// Said where PlanWithSaves (planner/plan.h) has put the saves there, of the config that was given.
std::string SavesInForeground(const RunConfig& config);

// What the config alone does not say.
struct Summary {
  std::string program;  // its build (runtime/version.h)
  int ranks = 1;
  int threads = 1;  // of each rank
  int64_t parameters = 0, trained_parameters = 0;
  double flops_per_sample = 0;  // forward and backward, of the whole model
  std::string products;        // what matrices are multiplied with and why (launcher/prepare.h); may be empty
  PeakFlops peak;              // of all ranks together
  int worst_rank = 0;          // the one that needs most memory
  std::vector<std::pair<std::string, int64_t>> memory;  // its bytes by purpose, each at its highest
  int64_t reserved = 0;        // bytes that it gets from the system for all that
  // The names of the modules of each virtual stage of the pipeline, in order (model/module.h).
  std::vector<std::vector<std::string>> modules;
};

// Several lines. The config is filled and legal for summary.ranks.
std::string Describe(const RunConfig& config, const Summary& summary);

}  // namespace trefoil
