// What tests/golden/make_tokenizers.py has written: tests/golden/tokenizers.json, and the texts that it speaks of.
#pragma once

#include <cstdint>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>

namespace trefoil {

inline const nlohmann::json& Golden() {
  static const auto* const golden = [] {
    std::ifstream in("tests/golden/tokenizers.json");
    return new nlohmann::json(nlohmann::json::parse(in));
  }();
  return *golden;
}

// As make_tokenizers.py says.
inline std::string GeneratedText(uint64_t number) {
  uint64_t x = number + 1;
  const auto next = [&] {
    x = x * 6364136223846793005u + 1442695040888963407u;
    return x >> 33;
  };
  const nlohmann::json& fragments = Golden().at("fragments");
  std::string text;
  for (uint64_t left = 1 + next() % 24; left > 0; --left)
    text += fragments.at(next() % fragments.size()).get<std::string>();
  return text;
}

}  // namespace trefoil
