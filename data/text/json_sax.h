// Reads JSON for its mistakes: what is wrong, in words that name the column.
//
//   JsonSax sax;
//   if (!nlohmann::json::sax_parse(line, &sax)) return sax.problem;   // "broken JSON near column 3: syntax error ..."
//
// It takes any value; who wants some of them derives from it and returns false, with a problem, from what it does not
// take.
#pragma once

#include <absl/strings/str_cat.h>

#include <nlohmann/json.hpp>
#include <string>

namespace trefoil {

class JsonSax : public nlohmann::json_sax<nlohmann::json> {
 public:
  bool null() override { return true; }
  bool boolean(bool) override { return true; }
  bool number_integer(number_integer_t) override { return true; }
  bool number_unsigned(number_unsigned_t) override { return true; }
  bool number_float(number_float_t, const string_t&) override { return true; }
  bool binary(binary_t&) override { return true; }
  bool string(string_t&) override { return true; }
  bool start_object(size_t) override { return true; }
  bool start_array(size_t) override { return true; }
  bool end_object() override { return true; }
  bool end_array() override { return true; }
  bool key(string_t&) override { return true; }
  bool parse_error(size_t position, const std::string&, const nlohmann::detail::exception& error) override {
    const std::string what = error.what();  // "[json.exception.parse_error.101] parse error at ...: syntax error ..."
    const size_t syntax = what.find("syntax error");
    problem = absl::StrCat("broken JSON near column ", position, ": ",
                           syntax == std::string::npos ? what : what.substr(syntax));
    return false;
  }

  std::string problem;
};

}  // namespace trefoil
