// Models in and out, as the commands do it.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "exchange/export_model.h"
#include "exchange/families/family.h"
#include "exchange/import_model.h"

namespace trefoil {

struct ImportedRun {
  std::string checkpoint;  // its folder
  ForeignModel foreign;    // filled
  ImportSummary summary;
};

// The model with every default, as a run with it has it.
void FillModel(ForeignModel* foreign);

// EXPECTs that all goes well.
ImportedRun Import(const std::string& folder, const std::string& run, int ranks);
void Export(const ImportedRun& run, const std::string& folder, int ranks, const ExportOptions& options);

// All elements of a checkpoint by name, as bits.
std::map<std::string, std::vector<uint32_t>> TensorsOf(const std::string& checkpoint);

}  // namespace trefoil
