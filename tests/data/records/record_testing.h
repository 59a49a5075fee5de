// Records in files, as `trefoil tokenize --records` writes them.
#pragma once

#include <string>
#include <vector>

#include "data/records/record_set.h"
#include "tests/data/data_testing.h"

namespace trefoil {

inline void WriteRecords(const std::string& prefix, const RecordDescription& description,
                         const std::vector<Record>& records) {
  std::vector<std::vector<int32_t>> documents;
  for (const Record& record : records) documents.insert(documents.end(), record.begin(), record.end());
  WriteDocuments(prefix, documents, description.StoredVocabulary());
  ASSERT_TRUE(WriteFileAtomically(FileSystem::Posix(), prefix + ".json", ToJson(description)).ok());
}

inline RecordSet OpenRecords(const std::vector<std::string>& globs) {
  auto records = RecordSet::Open(globs);
  EXPECT_TRUE(records.ok()) << records.status();
  return *std::move(records);
}

}  // namespace trefoil
