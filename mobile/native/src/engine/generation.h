// Answers, token by token, with the cache of keys and values owned here.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "engine/head.h"
#include "engine/sampling.h"
#include "engine/state.h"
#include "engine/stream.h"
#include "engine/weights.h"

namespace xpert {

struct GenerationOptions {
  int64_t max_new_tokens = 100;
  SamplingOptions sampling;
  uint64_t seed = 0;
  std::vector<std::string> stop_words;
  std::vector<int64_t> ends;  // tokens that end an answer
};

struct Generated {
  std::vector<int64_t> ids;
  std::string text, ended;  // "end", "stop" or "length"
  size_t n_prompt = 0;
};

void check_options(const GenerationOptions &options);

class TextGenerator {
 public:
  /** program: as the bundle's generation programs are; vocabulary_block as the manifest states it, 0 for none. */
  TextGenerator(const Weights &weights, const Geometry &geometry, Program &program, int64_t vocabulary_block);

  /** Most tokens of prompt and answer together. */
  size_t length() const { return static_cast<size_t>(tables_.length); }

  /** Answers a prompt. decode: the tokenizer's; on_piece may be empty; is_cancelled is asked before every token. */
  Generated answer(const std::vector<int64_t> &prompt, const AdapterState &state, const GenerationOptions &options, const Decode &decode,
                   const OnPiece &on_piece, const std::function<bool()> &is_cancelled);

 private:
  void prefill(const std::vector<int64_t> &prompt, const AdapterState &state);
  /** Reads a prompt behind learned keys and values, which take the first places of the cache; returns as prefill does. */
  void read_behind_prefix(const std::vector<int64_t> &prompt, const AdapterState &state);
  void decode_token(int64_t token, size_t place, const AdapterState &state);
  void compute_logits();

  const Weights &weights_;
  const Geometry &geometry_;
  Program &program_;
  const OutputBlocks blocks_;
  ContextTables tables_;
  std::vector<std::vector<float>> keys_, values_;  // of every layer, (n_kv_heads, length, head_dim)
  std::vector<float> x_, y_, h_, next_, place_, key_, value_, logits_;
};

}  // namespace xpert
