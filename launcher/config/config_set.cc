#include <absl/strings/ascii.h>
#include <absl/strings/match.h>
#include <absl/strings/numbers.h>
#include <absl/strings/str_cat.h>
#include <absl/strings/str_join.h>
#include <absl/strings/str_split.h>

#include "launcher/config/config_text.h"

namespace trefoil {
namespace {

using google::protobuf::EnumValueDescriptor;
using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::Reflection;

const EnumValueDescriptor* FindChoice(const FieldDescriptor& field, const std::string& name) {
  for (int i = 0; i < field.enum_type()->value_count(); ++i) {
    const EnumValueDescriptor* value = field.enum_type()->value(i);
    if (value->number() != 0 && absl::EqualsIgnoreCase(value->name(), name)) return value;
  }
  return nullptr;
}

// Sets a field, or appends to a repeated one. False: `value` is not of its type.
bool Assign(Message* message, const FieldDescriptor* field, const std::string& value) {
  const Reflection* reflection = message->GetReflection();
  // TREFOIL_ASSIGN(Int32, x): the setter of a field, or the adder of a repeated one.
#define TREFOIL_ASSIGN(Type, x)                                                                     \
  (field->is_repeated() ? reflection->Add##Type(message, field, x) : reflection->Set##Type(message, field, x), true)
  switch (field->cpp_type()) {
    case FieldDescriptor::CPPTYPE_INT32: {
      int32_t number;
      return absl::SimpleAtoi(value, &number) && TREFOIL_ASSIGN(Int32, number);
    }
    case FieldDescriptor::CPPTYPE_INT64: {
      int64_t number;
      return absl::SimpleAtoi(value, &number) && TREFOIL_ASSIGN(Int64, number);
    }
    case FieldDescriptor::CPPTYPE_UINT32: {
      uint32_t number;
      return absl::SimpleAtoi(value, &number) && TREFOIL_ASSIGN(UInt32, number);
    }
    case FieldDescriptor::CPPTYPE_UINT64: {
      uint64_t number;
      return absl::SimpleAtoi(value, &number) && TREFOIL_ASSIGN(UInt64, number);
    }
    case FieldDescriptor::CPPTYPE_FLOAT: {
      float number;
      return absl::SimpleAtof(value, &number) && TREFOIL_ASSIGN(Float, number);
    }
    case FieldDescriptor::CPPTYPE_DOUBLE: {
      double number;
      return absl::SimpleAtod(value, &number) && TREFOIL_ASSIGN(Double, number);
    }
    case FieldDescriptor::CPPTYPE_BOOL: {
      bool flag;
      return absl::SimpleAtob(value, &flag) && TREFOIL_ASSIGN(Bool, flag);
    }
    case FieldDescriptor::CPPTYPE_ENUM: {
      const EnumValueDescriptor* choice = FindChoice(*field, value);
      return choice != nullptr && TREFOIL_ASSIGN(Enum, choice);
    }
    case FieldDescriptor::CPPTYPE_STRING:
      return TREFOIL_ASSIGN(String, value);
    case FieldDescriptor::CPPTYPE_MESSAGE:
      return false;
  }
#undef TREFOIL_ASSIGN
  return false;
}

}  // namespace

void ApplySet(const std::string& set, Message* message, std::vector<std::string>* problems) {
  const auto problem = [&](const std::string& text) {
    problems->push_back(absl::StrCat("--set ", set, ": ", text));
  };
  const size_t equals = set.find('=');
  if (equals == std::string::npos || equals == 0) {
    return problem("must be PATH=VALUE, for example parallel.tensor=2");
  }
  const bool append = set[equals - 1] == '+';
  const std::string path = set.substr(0, equals - (append ? 1 : 0));
  const std::string value = set.substr(equals + 1);

  const std::vector<std::string> names = absl::StrSplit(path, '.');
  std::string walked;
  const FieldDescriptor* field = nullptr;
  for (size_t i = 0; i < names.size(); ++i) {
    if (field != nullptr) message = message->GetReflection()->MutableMessage(message, field);
    field = message->GetDescriptor()->FindFieldByName(names[i]);
    if (field == nullptr) return problem(NoSuchField(walked, *message->GetDescriptor(), names[i]));
    absl::StrAppend(&walked, walked.empty() ? "" : ".", names[i]);
    if (i + 1 < names.size() && field->cpp_type() != FieldDescriptor::CPPTYPE_MESSAGE) {
      return problem(absl::StrCat(walked, " is a value and has no fields; did you mean ", walked, "=", value, "?"));
    }
  }
  if (append && !field->is_repeated()) {
    return problem(absl::StrCat(path, " is not a list; did you mean ", path, "=", value, "?"));
  }
  if (field->cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE) {
    return MergeText(absl::StrCat("--set ", path), value, path,
                     message->GetReflection()->MutableMessage(message, field), problems);
  }
  if (field->is_repeated()) {
    if (!append) message->GetReflection()->ClearField(message, field);
    if (value.empty()) return;
  }
  if (!Assign(message, field, value)) problem(NotAValue(*field, value));
}

}  // namespace trefoil
