#include "launcher/config/config_page.h"

#include <absl/strings/str_cat.h>
#include <absl/strings/str_join.h>
#include <absl/strings/str_split.h>
#include <glog/logging.h>
#include <google/protobuf/descriptor.h>
#include <google/protobuf/text_format.h>

#include <optional>
#include <vector>

#include "training/config/validate.h"

namespace trefoil {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::EnumValueDescriptor;
using google::protobuf::FieldDescriptor;
using google::protobuf::Message;

constexpr size_t kColumns = 120;

constexpr char kIntroduction[] =
    "# Every field of a config\n"
    "\n"
    "`docs/config_page` writes this page from the comments of the `.proto` files; a test compares the two.\n"
    "\n"
    "A config is protobuf text format: `trefoil presets llama_60m` prints one. Any field can be given on the command line\n"
    "as `--set path.to.field=value`, an entry of a list also as `--set path+=value`. The run folder's `config.pbtxt` shows\n"
    "every field as it was filled in. \"Default\" is said where it depends on no other field and no machine.\n"
    "\n";
constexpr char kClusters[] =
    "\n"
    "# Every field of a cluster file\n"
    "\n"
    "What `trefoil plan --cluster=FILE` reads and `trefoil calibrate` writes; `trefoil presets dgx_h100` prints one.\n"
    "\n";

// Runs that differ in what defaults may depend on.
std::vector<RunConfig> FilledExamples() {
  constexpr const char* kExamples[] = {
      "model { family: GPT layers: 4 hidden: 64 heads: 4 sequence_length: 32 } training { steps: 100 global_batch: 8 }",
      "model { family: LLAMA layers: 8 hidden: 192 heads: 3 sequence_length: 64 } training { steps: 50 global_batch: 12 }"};
  std::vector<RunConfig> filled;
  for (const char* text : kExamples) {
    RunConfig config;
    CHECK(google::protobuf::TextFormat::ParseFromString(text, &config));
    const int ranks = static_cast<int>(filled.size()) + 1;
    FillDefaults(&config, ranks, {.pays = ranks == 1});
    filled.push_back(config);
  }
  return filled;
}

// A field's comment as one paragraph, whether it stands before the field or ends its line.
template <typename T>
std::string Comment(const T* described) {
  google::protobuf::SourceLocation location;
  if (!described->GetSourceLocation(&location)) return "";
  const std::vector<std::string> words =
      absl::StrSplit(absl::StrCat(location.leading_comments, " ", location.trailing_comments),
                     absl::ByAnyChar(" \n"), absl::SkipEmpty());
  std::string text = absl::StrJoin(words, " ");
  if (!text.empty() && text.back() != '.') text += '.';
  return text;
}

// `text` in lines of kColumns at most, the first after `first`, the others after `others`.
std::string Wrapped(const std::string& first, const std::string& others, const std::string& text) {
  std::string page, line = first;
  bool empty = true;
  for (const absl::string_view word : absl::StrSplit(text, ' ', absl::SkipEmpty())) {
    if (!empty && line.size() + 1 + word.size() > kColumns) {
      absl::StrAppend(&page, line, "\n");
      line = others;
      empty = true;
    }
    absl::StrAppend(&line, empty ? "" : " ", word);
    empty = false;
  }
  return absl::StrCat(page, line, "\n");
}

std::string TypeText(const FieldDescriptor* field) {
  std::string type;
  switch (field->cpp_type()) {
    case FieldDescriptor::CPPTYPE_FLOAT:
    case FieldDescriptor::CPPTYPE_DOUBLE:
      type = "number";
      break;
    case FieldDescriptor::CPPTYPE_STRING:
      type = "text";
      break;
    case FieldDescriptor::CPPTYPE_BOOL:
      type = "true or false";
      break;
    case FieldDescriptor::CPPTYPE_ENUM:
      type = "one of";
      break;
    default:
      type = "whole number";
  }
  return field->is_repeated() ? absl::StrCat("list of ", type) : type;
}

// " (default 2)", where all the filled messages have that.
std::string Default(const FieldDescriptor* field, const std::vector<const Message*>& filled) {
  std::optional<std::string> common;
  for (const Message* message : filled) {
    // The page's descriptors have comments, the compiled ones have values.
    const FieldDescriptor* own = message->GetDescriptor()->FindFieldByName(field->name());
    if (own->is_repeated()) return "";
    std::string value;
    google::protobuf::TextFormat::PrintFieldValueToString(*message, own, -1, &value);
    if (common && *common != value) return "";
    common = value;
  }
  const bool says_nothing = !common || *common == "\"\"" || *common == "0" || *common == "false";
  const bool unset_enum = field->cpp_type() == FieldDescriptor::CPPTYPE_ENUM && common &&
                          *common == field->enum_type()->value(0)->name();
  return says_nothing || unset_enum ? "" : absl::StrCat(" (default ", *common, ")");
}

bool IsMessage(const FieldDescriptor* field) { return field->cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE; }
bool IsEnum(const FieldDescriptor* field) { return field->cpp_type() == FieldDescriptor::CPPTYPE_ENUM; }

std::string Choices(const FieldDescriptor* field) {
  std::string text;
  for (int i = 0; i < field->enum_type()->value_count(); ++i) {
    const EnumValueDescriptor* value = field->enum_type()->value(i);
    const std::string comment = Comment(value);
    if (value->number() == 0 && comment.empty()) continue;
    const std::string name = value->number() == 0 ? "left out" : absl::StrCat("`", value->name(), "`");
    text += Wrapped("  - ", "    ", comment.empty() ? name : absl::StrCat(name, ": ", comment));
  }
  return text;
}

// A message's own fields, then a section of each message among them. `filled`: that message of the filled examples.
std::string Section(const Descriptor* message, const std::string& path, const std::vector<const Message*>& filled) {
  std::string text;
  for (int i = 0; i < message->field_count();) {
    const FieldDescriptor* first = message->field(i);
    if (IsMessage(first)) {
      ++i;
      continue;
    }
    const auto name = [&](const FieldDescriptor* field) {
      return absl::StrCat("`", path, field->name(), "`", Default(field, filled));
    };
    std::vector<std::string> names = {name(first)};
    for (++i; i < message->field_count(); ++i) {
      const FieldDescriptor* next = message->field(i);
      if (next->cpp_type() != first->cpp_type() || IsEnum(first) || !Comment(next).empty()) break;
      names.push_back(name(next));
    }
    text += Wrapped("- ", "  ", absl::StrCat(absl::StrJoin(names, ", "), ": ", TypeText(first), ". ", Comment(first)));
    if (IsEnum(first)) text += Choices(first);
  }
  for (int i = 0; i < message->field_count(); ++i) {
    const FieldDescriptor* field = message->field(i);
    if (!IsMessage(field)) continue;
    const std::string name = absl::StrCat(path, field->name());
    absl::StrAppend(&text, "\n## `", name, "`", field->is_repeated() ? " (a list of these)" : "", "\n\n");
    for (const std::string& comment : {Comment(field), Comment(field->message_type())}) {
      if (!comment.empty()) absl::StrAppend(&text, Wrapped("", "", comment), "\n");
    }
    std::vector<const Message*> parts;
    for (const Message* whole : filled) {
      const FieldDescriptor* own = whole->GetDescriptor()->FindFieldByName(field->name());
      if (!own->is_repeated()) parts.push_back(&whole->GetReflection()->GetMessage(*whole, own));
    }
    text += Section(field->message_type(), absl::StrCat(name, "."), parts);
  }
  return text;
}

}  // namespace

std::string ConfigPage(const google::protobuf::FileDescriptorSet& files) {
  google::protobuf::DescriptorPool pool;
  for (const auto& file : files.file()) CHECK(pool.BuildFile(file) != nullptr) << file.name();
  const Descriptor* run = pool.FindMessageTypeByName("trefoil.RunConfig");
  const Descriptor* cluster = pool.FindMessageTypeByName("trefoil.Cluster");
  CHECK(run != nullptr && cluster != nullptr);
  const std::vector<RunConfig> examples = FilledExamples();
  std::vector<const Message*> filled;
  for (const RunConfig& config : examples) filled.push_back(&config);
  return absl::StrCat(kIntroduction, Section(run, "", filled), kClusters, Section(cluster, "", {}));
}

}  // namespace trefoil
