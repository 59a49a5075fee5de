// Tokens to text as they come, for a reader who watches.
//
//   TextStream stream(tokenizer, prompt_ids);
//   std::cout << prompt;
//   for (int32_t id : ...) std::cout << stream.Add(id) << std::flush;
//   std::cout << stream.End();
//
// The texts put together are what the tokenizer makes of all tokens at once, less that of the first ones: whether a token
// begins with a space, or is a part of a character, may depend on its neighbours. A character whose bytes have not all
// come is held back; End gives what is left of it. Each call decodes all tokens so far.
//
// Threads: one at a time. The tokenizer outlives the stream.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "data/tokens/tokenizer.h"

namespace trefoil {

class TextStream {
 public:
  // `before`: tokens whose text is there already.
  TextStream(const Tokenizer& tokenizer, std::vector<int32_t> before);
  std::string Add(int32_t id);
  std::string End();

 private:
  std::string More(bool all);

  const Tokenizer& tokenizer_;
  std::vector<int32_t> ids_;
  size_t given_ = 0;  // bytes of the text
};

}  // namespace trefoil
