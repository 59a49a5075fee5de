#include "launcher/config/config_text.h"

#include <absl/strings/match.h>
#include <absl/strings/str_cat.h>
#include <absl/strings/str_join.h>
#include <absl/strings/str_split.h>
#include <google/protobuf/io/tokenizer.h>
#include <google/protobuf/text_format.h>

#include <cctype>
#include <optional>
#include <set>

#include "runtime/status.h"

namespace trefoil {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::EnumDescriptor;
using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::TextFormat;

struct Token {
  size_t begin;
  size_t end;
  int line;    // both from 0, as the parser counts: a tab goes to the next multiple of 8
  int column;
};

// Comments and white space left out. Words hold letters, digits and "_.+-"; all else is one character, or a string.
std::vector<Token> Tokenize(const std::string& text) {
  std::vector<Token> tokens;
  int line = 0, column = 0;
  const auto is_word = [](char c) {
    return std::isalnum(static_cast<unsigned char>(c)) || c == '_' || c == '.' || c == '+' || c == '-';
  };
  for (size_t i = 0; i < text.size();) {
    if (text[i] == '\n') {
      ++line, column = 0, ++i;
    } else if (text[i] == '\t') {
      column += 8 - column % 8, ++i;
    } else if (std::isspace(static_cast<unsigned char>(text[i]))) {
      ++column, ++i;
    } else if (text[i] == '#') {
      while (i < text.size() && text[i] != '\n') ++i;
    } else {
      size_t end = i + 1;
      if (text[i] == '"' || text[i] == '\'') {
        while (end < text.size() && text[end] != text[i] && text[end] != '\n') end += text[end] == '\\' ? 2 : 1;
        end = std::min(end + 1, text.size());
      } else if (is_word(text[i])) {
        while (end < text.size() && is_word(text[end])) ++end;
      }
      tokens.push_back({i, end, line, column});
      column += static_cast<int>(end - i);
      i = end;
    }
  }
  return tokens;
}

// Where in the config a complaint of the parser is.
struct Place {
  std::string message;  // path of the message around
  std::string field;    // path of the field whose value was being read
  Token token;          // the token complained about
};

// The parser names the token that it stood at: a wrong value itself, or what follows a wrong name or choice.
Place Locate(const std::string& text, const std::string& root, int line, int column) {
  struct Open {
    std::string path;
    std::string field;
  };
  std::vector<Open> open = {{root, root}};
  Token previous = {0, 0, 0, 0};
  Place place;
  for (const Token& token : Tokenize(text)) {
    const char before = previous.end > 0 ? text[previous.begin] : '\0';
    if (std::pair(token.line, token.column) >= std::pair(line, column)) {
      if (before == ':' || before == '[' || before == ',') previous = token;
      break;
    }
    const char c = text[token.begin];
    const bool brace = c == '{' || c == '<';
    // `name:` or `name {`; the brace of `name: {` opens the field that its colon began.
    if (c == ':' || (brace && before != ':')) {
      const std::string name = text.substr(previous.begin, previous.end - previous.begin);
      open.back().field = open.back().path.empty() ? name : absl::StrCat(open.back().path, ".", name);
    }
    if (brace) open.push_back({open.back().field, open.back().field});
    if ((c == '}' || c == '>') && open.size() > 1) open.pop_back();
    previous = token;
  }
  place.message = open.back().path;
  place.field = open.back().field;
  place.token = previous;
  return place;
}

class Collector : public google::protobuf::io::ErrorCollector {
 public:
  struct Complaint {
    int line;
    int column;
    std::string text;
  };
  void AddError(int line, int column, const std::string& text) override {
    complaints.push_back({line, column, text});
  }
  void AddWarning(int line, int column, const std::string& text) override {
    complaints.push_back({line, column, text});
  }
  std::vector<Complaint> complaints;
};

// The text between the pair of quotes that follows `marker`.
std::optional<std::string> Quoted(const std::string& text, const std::string& marker) {
  const size_t start = text.find(marker + "\"");
  if (start == std::string::npos) return std::nullopt;
  const size_t begin = start + marker.size() + 1;
  return text.substr(begin, text.find('"', begin) - begin);
}

// The field at a path below a message type; null if there is none.
const FieldDescriptor* FieldAt(const Descriptor* type, const std::string& path) {
  const FieldDescriptor* field = nullptr;
  for (const absl::string_view name : absl::StrSplit(path, '.')) {
    if (type == nullptr) return nullptr;
    field = type->FindFieldByName(std::string(name));
    if (field == nullptr) return nullptr;
    type = field->message_type();
  }
  return field;
}

bool IsAboutAValue(const std::string& complaint) {
  for (const char* start : {"Expected integer", "Expected double", "Expected string", "Unknown enumeration value",
                            "Invalid value for boolean", "Integer out of range"}) {
    if (absl::StartsWith(complaint, start)) return true;
  }
  return false;
}

// Some value of the field's type; empty for messages.
std::string Placeholder(const FieldDescriptor& field) {
  switch (field.cpp_type()) {
    case FieldDescriptor::CPPTYPE_MESSAGE:
      return "";
    case FieldDescriptor::CPPTYPE_STRING:
      return "''";
    case FieldDescriptor::CPPTYPE_BOOL:
      return "false";
    case FieldDescriptor::CPPTYPE_ENUM:
      return field.enum_type()->value(0)->name();
    default:
      return "0";
  }
}

std::string Below(const std::string& root, const std::string& path) {
  return root.empty() || path == root ? path : path.substr(root.size() + 1);
}

}  // namespace

std::string NoSuchField(const std::string& path, const Descriptor& type, const std::string& name) {
  std::vector<std::string> names;
  for (int i = 0; i < type.field_count(); ++i) names.push_back(type.field(i)->name());
  const std::string nearest = NearestName(name, names);
  const std::string where = path.empty() ? "the config" : path;
  const std::string advice = nearest.empty() ? absl::StrCat("its fields: ", absl::StrJoin(names, ", "))
                                             : absl::StrCat("did you mean '", nearest, "'?");
  return absl::StrCat(where, " has no field '", name, "'; ", advice);
}

std::string NotAValue(const FieldDescriptor& field, const std::string& value) {
  switch (field.cpp_type()) {
    case FieldDescriptor::CPPTYPE_ENUM: {
      std::vector<std::string> names;
      for (int i = 0; i < field.enum_type()->value_count(); ++i) {
        if (field.enum_type()->value(i)->number() != 0) names.push_back(field.enum_type()->value(i)->name());
      }
      return absl::StrCat("'", value, "' is not one of ", absl::StrJoin(names, ", "));
    }
    case FieldDescriptor::CPPTYPE_BOOL:
      return absl::StrCat("'", value, "' is neither true nor false");
    case FieldDescriptor::CPPTYPE_INT32:
      return absl::StrCat("'", value, "' is not a whole number from -2147483648 to 2147483647");
    case FieldDescriptor::CPPTYPE_UINT64:
      return absl::StrCat("'", value, "' is not a whole number from 0 to 18446744073709551615");
    case FieldDescriptor::CPPTYPE_STRING:
      return absl::StrCat("'", value, "' is not a text in quotes");
    default:
      return absl::StrCat("'", value, "' is not a number");
  }
}

void MergeText(const std::string& source, const std::string& text, const std::string& root, Message* message,
               std::vector<std::string>* problems) {
  std::string rest = text;
  std::set<std::string> seen;
  const auto report = [&](int line, const std::string& problem) {
    const std::string complete = absl::StrCat(source, ":", line + 1, ": ", problem);
    if (seen.insert(complete).second) problems->push_back(complete);
  };
  // The parser goes on past an unknown field, but not past a wrong value: a right one takes its place and the parse is
  // repeated. Lines keep their numbers.
  for (;;) {
    Collector collector;
    TextFormat::Parser parser;
    parser.RecordErrorsTo(&collector);
    parser.AllowUnknownField(true);
    std::unique_ptr<Message> parsed(message->New());
    parser.ParseFromString(rest, parsed.get());
    bool again = false;
    for (const Collector::Complaint& complaint : collector.complaints) {
      const Place place = Locate(rest, root, complaint.line, complaint.column);
      if (const auto name = Quoted(complaint.text, "no field named ")) {
        const FieldDescriptor* around = FieldAt(message->GetDescriptor(), Below(root, place.message));
        const Descriptor* type = place.message == root ? message->GetDescriptor()
                                 : around != nullptr   ? around->message_type()
                                                       : nullptr;
        // Inside an unknown block nothing is known.
        if (type != nullptr) report(place.token.line, NoSuchField(place.message, *type, *name));
        continue;
      }
      const FieldDescriptor* field = FieldAt(message->GetDescriptor(), Below(root, place.field));
      const std::string value = rest.substr(place.token.begin, place.token.end - place.token.begin);
      if (field == nullptr || !IsAboutAValue(complaint.text) || Placeholder(*field).empty() || value.empty() ||
          absl::StrContains("{}<>[]:;,", value)) {
        report(complaint.line, complaint.text);
        continue;
      }
      report(place.token.line, absl::StrCat(place.field, ": ", NotAValue(*field, value)));
      rest.replace(place.token.begin, value.size(), Placeholder(*field));
      again = true;
      break;  // the places of later complaints have moved
    }
    if (!again) {
      message->MergeFrom(*parsed);
      return;
    }
  }
}

}  // namespace trefoil
