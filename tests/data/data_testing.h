// What tests of samples share: a folder, token files, errors.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <initializer_list>
#include <numeric>
#include <span>
#include <string>
#include <vector>

#include "data/host_tensor.h"
#include "data/tokens/token_file.h"
#include "runtime/files/file.h"

namespace trefoil {

// A new folder of the test that runs.
inline std::string TestFolder() {
  const std::string folder = testing::TempDir() + "/" + testing::UnitTest::GetInstance()->current_test_info()->name() +
                             std::to_string(getpid());
  EXPECT_TRUE(FileSystem::Posix().Remove(folder).ok());
  EXPECT_TRUE(FileSystem::Posix().MakeFolder(folder).ok());
  return folder;
}

// Writes a pair of token files.
inline void WriteDocuments(const std::string& prefix, const std::vector<std::vector<int32_t>>& documents,
                           int64_t vocabulary = 1000) {
  auto writer = TokenFileWriter::Create(FileSystem::Posix(), prefix, vocabulary);
  ASSERT_TRUE(writer.ok()) << writer.status();
  for (const auto& document : documents) ASSERT_TRUE((*writer)->AddDocument(document).ok());
  ASSERT_TRUE((*writer)->Finish().ok());
}

// Three files FOLDER/train-N that hold 0, 1, 2 ... 202 in order: token t of the data set is t. The middle one is shorter
// than a sample.
inline void WriteCounting(const std::string& folder) {
  std::vector<int32_t> all(203);
  std::iota(all.begin(), all.end(), 0);
  WriteDocuments(folder + "/train-00000", {{all.begin(), all.begin() + 101}});
  WriteDocuments(folder + "/train-00001", {{all.begin() + 101, all.begin() + 104}});
  WriteDocuments(folder + "/train-00002", {{all.begin() + 104, all.end()}});
}

// Row `row` of an int32 or float32 tensor of two dims.
template <typename T = int32_t>
std::vector<T> Row(const HostTensor& tensor, int64_t row) {
  const int64_t columns = tensor.shape()[1];
  const auto values = std::span(tensor.values<T>()).subspan(row * columns, columns);
  return {values.begin(), values.end()};
}

inline void ExpectError(const absl::Status& status, std::initializer_list<std::string> parts) {
  ASSERT_FALSE(status.ok());
  for (const std::string& part : parts) {
    EXPECT_NE(status.message().find(part), std::string::npos) << status << "\nlacks " << part;
  }
}

}  // namespace trefoil
