// What makes one family of networks differ from another. A family is a recipe plus a ModelConfig; the layers read the
// recipe and know no family.
//
// Threads: plain values.
#pragma once

#include "model/model.pb.h"
#include "runtime/ops.h"

namespace trefoil {

struct Recipe {
  // What the modules are, and in which order (families/modules.cc).
  enum class Structure { kDecoder, kEncoder, kEncoderDecoder, kVision, kRecurrent } structure = Structure::kDecoder;
  enum class Norm { kLayerNorm, kRmsNorm } norm = Norm::kLayerNorm;
  // Of a residual branch f: x + f(norm(x)), or norm(x + f(x)) (Xiong et al. 2020). With the first the last block is
  // followed by a norm of its own.
  enum class NormPlace { kBefore, kAfter } norm_place = NormPlace::kBefore;
  Activation activation = Activation::kGelu;
  bool gated = false;     // the MLP multiplies by act(gate)
  bool bias = false;      // linear layers have one, but for those with a field of their own
  bool qkv_bias = false;  // those of queries, keys and values have one
  bool attention_output_bias = false;  // that behind attention has one
  bool mlp_bias = false;               // those of the MLP have one
  bool qk_norm = false;   // queries and keys are normed before positions are turned into them
  bool tied = false;      // the head's matrix is the embedding's

  enum class Positions {
    kNone,
    kLearned,     // added to the embedding
    kSinusoidal,  // added to the embedding
    kRotary,      // turned into queries and keys
    kRelative,    // added to the scores, by buckets of distance
  } positions = Positions::kLearned;
  bool segments = false;          // which text of a pair a token is of is added to the embedding
  bool embedding_norm = false;    // and all of it is normed
  bool scaled_embedding = false;  // tokens times sqrt(C) before positions are added
  bool scaled_scores = true;      // attention divides by sqrt(D)
  bool scaled_head = false;       // what goes into a tied head is divided by sqrt(C)

  bool transform = false;    // the head of tokens has a linear layer, activation and norm before its matrix
  bool output_bias = false;  // and a bias behind it
  bool pooler = false;       // heads of samples have a linear layer with tanh before theirs
  bool dropout = true;       // there may be some
  float norm_epsilon = 1e-5f;

  // Standard deviations of initial weights where the config gives one, and where it is 0.
  enum class Initial {
    kAlike,     // one for all
    kResidual,  // projections into the residual stream have less, the more layers there are
  } initial = Initial::kAlike;
  bool own_deviations = false;  // it gives 0 a meaning, and that is what it begins with
  bool glorot = false;          // sqrt(2 / (inputs + outputs)) (Glorot & Bengio 2010); else 1 / sqrt(inputs)
};

// GPT-2 (Radford et al. 2019) and GPT-3 (Brown et al. 2020).
Recipe GptRecipe();
// Llama 1 to 3 (Touvron et al. 2023; Dubey et al. 2024).
Recipe LlamaRecipe();
// Devlin et al. 2019.
Recipe BertRecipe();
// Warner et al. 2024.
Recipe ModernBertRecipe();
// Vaswani et al. 2017.
Recipe TransformerRecipe();
// T5 1.1: Raffel et al. 2020; Shazeer 2020.
Recipe T5Recipe();
// Dosovitskiy et al. 2021.
Recipe VitRecipe();
// Elman 1990; Hochreiter & Schmidhuber 1997.
Recipe RecurrentRecipe();

// Of a config whose family is set: the family's, with what the config says of it.
Recipe RecipeOf(const ModelConfig& config);

// The keys that a query of a decoder's layer sees, its own with them; 0: all before it.
int64_t WindowOf(const ModelConfig& config, int layer);

// As model.activation says it.
ModelConfig::Activation ActivationName(const Recipe& recipe);

// Of the initial values of a matrix [outputs, inputs]. `residual`: it projects into the residual stream.
float InitialDeviation(const ModelConfig& config, int64_t inputs, int64_t outputs, bool residual = false);
// Of the embeddings' tables.
float EmbeddingDeviation(const ModelConfig& config);

}  // namespace trefoil
