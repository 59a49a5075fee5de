// The data of a run as its task reads them: which files, which samples are made of them.
//
//   TREFOIL_ASSIGN_OR_RETURN(const TaskData data, OpenTaskData(config, TaskData::Part::kTrain));
//   data.samples->Get(0, 8);
//
// Threads: as data/samples.h; opening on one.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "data/samples.h"
#include "runtime/status.h"
#include "training/run.pb.h"

namespace trefoil {

struct TaskData {
  enum class Part { kTrain, kHeldOut };

  // One of the files, enough to tell it from another.
  struct File {
    std::string name;  // without its folder
    int64_t items = 0;  // tokens or images
    uint32_t checksum = 0;
    // Where sources are mixed by weight: the entry of data.train that it belongs to, from 1, and that one's share.
    int source = 0;
    double share = 0;
  };
  // One entry of data.train where they are mixed by weight, else all.
  struct Source {
    std::string name;
    int64_t samples = 0;
    std::function<double(int64_t samples)> epochs;  // through it, after so many samples of the run
  };

  std::unique_ptr<const Samples> samples;
  std::string unit;   // for people, what a sample is: "samples of 256 tokens", "pairs"
  std::string items;  // what files count: "tokens"
  std::vector<File> files;
  std::vector<Source> sources;
  std::string note;                  // what was left out, for people; empty: nothing
  std::vector<std::string> classes;  // names, by id; empty: the task has none

  int64_t items_in_all() const;
};

// `config` is filled and legal. Held-out samples come in an order of their own, the same in every run, without what makes
// training samples vary (crops and the like) and without task.examples.
// Failure: files that cannot be opened or hold what the task cannot read; too little in them.
absl::StatusOr<TaskData> OpenTaskData(const RunConfig& config, TaskData::Part part);

// Names of the classes that the training data name, by id, of a task with head CLASSES.
absl::StatusOr<std::vector<std::string>> ClassesOfData(const DataConfig& data, TaskConfig::Kind kind);

// Whether records of a task were tokenized by the tokenizer with this checksum (Tokenizer::checksum); any where a task has
// none.
absl::Status CheckTokenizerOfData(const RunConfig& config, uint32_t checksum);

}  // namespace trefoil
