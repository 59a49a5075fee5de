#include "exchange/json.h"

#include <absl/strings/str_cat.h>

#include <nlohmann/json.hpp>
#include <set>
#include <utility>
#include <vector>

#include "data/text/json_sax.h"

namespace trefoil {
namespace {

constexpr size_t kMostDepth = 64;

// Reads for mistakes only, before anything is built.
class Checker : public JsonSax {
 public:
  bool start_object(size_t) override { return Deeper(); }
  bool start_array(size_t) override { return Deeper(); }
  bool end_object() override { return Back(); }
  bool end_array() override { return Back(); }
  bool key(string_t& name) override {
    if (keys_.back().insert(name).second) return true;
    problem = absl::StrCat("an object has the key \"", name, "\" twice");
    return false;
  }

 private:
  bool Deeper() {
    keys_.emplace_back();
    if (keys_.size() <= kMostDepth) return true;
    problem = absl::StrCat("objects and lists lie deeper in each other than ", kMostDepth);
    return false;
  }
  bool Back() {
    keys_.pop_back();
    return true;
  }

  std::vector<std::set<std::string>> keys_;  // of the objects that are open
};

}  // namespace

absl::StatusOr<nlohmann::json> ParseJson(const std::string& text, const std::string& what) {
  Checker checker;
  if (!nlohmann::json::sax_parse(text, &checker)) return absl::DataLossError(what + ": " + checker.problem);
  return nlohmann::json::parse(text, nullptr, /*allow_exceptions=*/false);
}

}  // namespace trefoil
