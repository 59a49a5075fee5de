#include "data/tokens/json/byte_alphabet.h"

#include <array>

#include "data/tokens/json/unicode.h"

namespace trefoil {
namespace {

constexpr char32_t kCharacters = 256 + 68;

struct Alphabet {
  Alphabet() {
    bytes.fill(-1);
    char32_t next = 256;
    for (int byte = 0; byte < 256; ++byte) {
      const bool itself = (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
      const char32_t character = itself ? static_cast<char32_t>(byte) : next++;
      AppendCharacter(character, &characters[byte]);
      bytes[character] = byte;
    }
  }
  std::array<std::string, 256> characters;
  std::array<int, kCharacters> bytes;  // -1: none
};

const Alphabet& TheAlphabet() {
  static const Alphabet* alphabet = new Alphabet();
  return *alphabet;
}

}  // namespace

std::string_view ByteCharacter(unsigned char byte) { return TheAlphabet().characters[byte]; }

void AppendByteCharacters(std::string_view bytes, std::string* out) {
  const Alphabet& alphabet = TheAlphabet();
  for (const char byte : bytes) out->append(alphabet.characters[static_cast<unsigned char>(byte)]);
}

bool AppendBytesOfCharacters(std::string_view text, std::string* out) {
  const Alphabet& alphabet = TheAlphabet();
  const size_t before = out->size();
  for (size_t at = 0, bytes = 0; at < text.size(); at += bytes) {
    const char32_t character = FrontCharacter(text.substr(at), &bytes);
    if (character >= kCharacters || alphabet.bytes[character] < 0) {
      out->resize(before);
      return false;
    }
    out->push_back(static_cast<char>(alphabet.bytes[character]));
  }
  return true;
}

}  // namespace trefoil
