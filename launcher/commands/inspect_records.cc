#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>
#include <absl/strings/str_join.h>

#include <algorithm>

#include "data/records/record_set.h"
#include "launcher/commands/inspect_parts.h"

namespace trefoil {
namespace {

constexpr int64_t kShown = 3;

std::string LabelName(const RecordDescription& description, int32_t label) {
  return absl::StrCat(label, " ", description.labels[static_cast<size_t>(label)]);
}

// A part of a record in words.
std::string PartText(const RecordDescription& description, RecordPart part, const std::vector<int32_t>& ids,
                     const std::optional<Tokenizer>& tokenizer) {
  switch (part) {
    case RecordPart::kLabel:
      return LabelName(description, ids.front());
    case RecordPart::kValue:
      return absl::StrCat(ValueOf(ids));
    case RecordPart::kTokenLabels: {
      std::vector<std::string> found;
      for (size_t i = 0; i < ids.size(); ++i) {
        if (ids[i] > 0) found.push_back(absl::StrCat("token ", i, ": ", LabelName(description, ids[i] - 1)));
      }
      constexpr size_t kMost = 8;
      const size_t more = found.size() - std::min(found.size(), kMost);
      found.resize(found.size() - more);
      if (found.empty()) return "none";
      return absl::StrJoin(found, ", ") + (more > 0 ? absl::StrCat(" and ", more, " more") : "");
    }
    case RecordPart::kAnswers:
      return absl::StrCat(std::count(ids.begin(), ids.end(), 1), " of ", ids.size(), " tokens are to be learnt");
    default:
      return BeginningOf(ids, tokenizer);
  }
}

absl::Status ShowRecord(const RecordSet& set, int64_t record, const std::optional<Tokenizer>& tokenizer,
                        std::ostream& out) {
  TREFOIL_ASSIGN_OR_RETURN(const Record parts, set.Read(record));
  for (size_t p = 0; p < parts.size(); ++p) {
    const RecordPart part = set.description().parts[p];
    InspectLine(out, p == 0 ? absl::StrCat("record ", record) : "",
                absl::StrCat(Name(part), ": ", PartText(set.description(), part, parts[p], tokenizer)));
  }
  return absl::OkStatus();
}

// Reads every record, which checks its ids.
absl::Status Verify(const RecordSet& set, std::ostream& out) {
  for (int64_t record = 0; record < set.size(); ++record) TREFOIL_RETURN_IF_ERROR(set.Read(record).status());
  InspectLine(out, "whole", absl::StrCat("every record was read; the ids of texts are in [0, ",
                                         set.description().vocabulary, ")"));
  return absl::OkStatus();
}

}  // namespace

absl::Status InspectRecords(FileSystem& fs, const InspectOptions& options, const std::vector<std::string>& prefixes,
                            std::ostream& out) {
  TREFOIL_ASSIGN_OR_RETURN(const RecordSet set, RecordSet::Open(prefixes, fs));
  const RecordDescription& description = set.description();
  const std::string& first = set.files().front().prefix();
  InspectLine(out, "records", set.files().size() == 1
                                  ? absl::StrCat(set.size(), " in ", first, ".bin, .idx, .json")
                                  : absl::StrCat(set.size(), " in ", set.files().size(), " pairs of files, ", first, " to ",
                                                 set.files().back().prefix()));
  InspectLine(out, "parts", Names(description.parts));
  for (int64_t p = 0; p < set.parts() && set.size() > 0; ++p) {
    const RecordPart part = description.parts[static_cast<size_t>(p)];
    if (!IsText(part)) continue;
    Lengths lengths;
    for (int64_t record = 0; record < set.size(); ++record) lengths.Add(set.Length(record, p));
    InspectLine(out, Name(part), lengths.Range());
    PrintLengths(lengths, out);
  }
  PrintCounts("labels", description.labels, set.label_counts(), out);
  TREFOIL_ASSIGN_OR_RETURN(std::optional<Tokenizer> tokenizer, TokenizerOf(fs, options, first, out));
  if (tokenizer && tokenizer->checksum() != description.tokenizer) {
    InspectLine(out, "", absl::StrFormat("not the one that wrote these records (%08x), so that texts are ids",
                                         description.tokenizer));
    tokenizer.reset();
  }
  if (options.document < 0 || options.document >= std::max<int64_t>(set.size(), 1)) {
    return absl::InvalidArgumentError(absl::StrCat("--document: ", options.document, ", must be in [0, ", set.size(),
                                                   "), the records there are; nearest legal: ",
                                                   options.document < 0 ? 0 : set.size() - 1));
  }
  const int64_t end = std::min(set.size(), options.document + kShown);
  for (int64_t record = options.document; record < end; ++record) {
    TREFOIL_RETURN_IF_ERROR(ShowRecord(set, record, tokenizer, out));
  }
  return options.verify ? Verify(set, out) : absl::OkStatus();
}

}  // namespace trefoil
