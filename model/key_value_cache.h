// What a decoder keeps of the tokens that it has read: the keys and values of each attention layer, so that those that
// come behind attend to them without their being computed again.
//
//   KeyValueCache cache(device, /*texts=*/2, /*capacity=*/256);
//   // Five tokens begin text 0, one goes on from 17 of text 1: rows 0-4 and 5 of what goes through the model.
//   const Continuation continuation = {.cache = cache, .parts = {{0, 0, 5}, {1, 17, 1}}};
//   MicroBatch batch = {.samples = 1, .training = false, .input = {.tokens = 6, .length = 6}};
//   batch.continuation = &continuation;
//
// Each text has a place for `capacity` tokens in a tensor per layer, [texts * capacity, 2K/t * D]: a token's keys, then its
// values, as attention sees them (turned by their positions, say), in the working dtype. A layer's tensor is allocated when
// it is first asked for, as Purpose::kCache, and stays. Nothing is forgotten: who says that a text is shorter than it was
// writes over what was behind.
//
// Threads: the rank's main thread.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "runtime/device.h"

namespace trefoil {

class KeyValueCache {
 public:
  // The device outlives it.
  KeyValueCache(Device& device, int64_t texts, int64_t capacity)
      : device_(device), texts_(texts), capacity_(capacity) {}

  int64_t texts() const { return texts_; }
  int64_t capacity() const { return capacity_; }  // tokens of a text

  // The first `tokens` rows of a text in a layer ("blocks.3.attention"), all of whose rows have so many columns.
  Tensor Of(const std::string& layer, int64_t text, int64_t tokens, int64_t columns, DType dtype);
  // The first `tokens` of text `from` become those of text `to`, in all layers.
  void Copy(int64_t from, int64_t to, int64_t tokens);

 private:
  Device& device_;
  const int64_t texts_, capacity_;
  std::map<std::string, Tensor> layers_;
};

// Tokens that go through a decoder behind others of their texts (MicroBatch::continuation).
struct Continuation {
  struct Part {
    int64_t text = 0;    // of the cache
    int64_t first = 0;   // position of the first of its tokens: so many are there before them
    int64_t tokens = 0;  // rows of the micro-batch, behind those of the part before
  };
  KeyValueCache& cache;
  std::vector<Part> parts;  // of different texts
};

}  // namespace trefoil
