#include "runtime/config/rules.h"

#include <absl/strings/str_join.h>
#include <google/protobuf/descriptor.h>

#include <cmath>
#include <type_traits>

namespace trefoil {

using google::protobuf::FieldDescriptor;
using google::protobuf::Reflection;

std::string EnumNames(const google::protobuf::EnumDescriptor& type) {
  std::vector<std::string> names;
  for (int i = 0; i < type.value_count(); ++i) {
    if (type.value(i)->number() != 0) names.push_back(type.value(i)->name());
  }
  return absl::StrJoin(names, ", ");
}

void Rules::AtLeastOne(const std::string& path, int64_t value) {
  if (value < 1 && Good(path)) Bad(path, absl::StrCat(value, ", must be at least 1; nearest legal: 1"));
}

void Rules::Share(const std::string& path, double value, bool one) {
  if (!Good(path) || value < 1 || (one && value == 1)) return;
  Bad(path, absl::StrCat(value, ", must be in [0, 1", one ? "]" : ")", "; nearest legal: ", one ? "1" : "0.999"));
}

void Rules::Positive(const std::string& path, double value, const char* usual) {
  if (Good(path) && value <= 0) Bad(path, absl::StrCat(value, ", must be above 0; usual: ", usual));
}

void Rules::Fields(const google::protobuf::Message& message, const std::string& prefix) {
  const Reflection& reflection = *message.GetReflection();
  for (int i = 0; i < message.GetDescriptor()->field_count(); ++i) {
    const FieldDescriptor* field = message.GetDescriptor()->field(i);
    const std::string path = prefix + field->name();
    if (field->is_repeated()) continue;
    switch (field->cpp_type()) {
      case FieldDescriptor::CPPTYPE_MESSAGE:
        Fields(reflection.GetMessage(message, field), path + ".");
        break;
      case FieldDescriptor::CPPTYPE_INT32:
        NotNegative(path, reflection.GetInt32(message, field));
        break;
      case FieldDescriptor::CPPTYPE_INT64:
        NotNegative(path, reflection.GetInt64(message, field));
        break;
      case FieldDescriptor::CPPTYPE_FLOAT:
        NotNegative(path, reflection.GetFloat(message, field));
        break;
      case FieldDescriptor::CPPTYPE_DOUBLE:
        NotNegative(path, reflection.GetDouble(message, field));
        break;
      case FieldDescriptor::CPPTYPE_ENUM: {
        const int value = reflection.GetEnumValue(message, field);
        if (field->enum_type()->FindValueByNumber(value) == nullptr) {
          Bad(path, absl::StrCat(value, ", not one of its choices; legal: ", EnumNames(*field->enum_type())));
        }
        break;
      }
      default:
        break;
    }
  }
}

template <typename T>
void Rules::NotNegative(const std::string& path, T value) {
  if constexpr (std::is_floating_point_v<T>) {
    if (!std::isfinite(value)) {
      Bad(path, absl::StrCat(value, ", must be a finite number; nearest legal: leave it out for its default"));
      return;
    }
  }
  // 0 is "default" for most fields, and a value of its own for the others: always the nearest legal value.
  if (value < 0) Bad(path, absl::StrCat(value, ", must not be negative; nearest legal: 0"));
}

}  // namespace trefoil
