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
  bool keeps_weights = false;  // until the answer is there; else a layer at a time is in memory
};

struct Generated {
  std::vector<int64_t> ids;
  std::string text, ended;  // "end", "stop" or "length"
  size_t n_prompt = 0;
};

void check_options(const GenerationOptions &options);

class TextGenerator {
 public:
  /** program: as the bundle's generation programs are; vocabulary_block as the manifest states it. */
  TextGenerator(const Weights &weights, const Geometry &geometry, Program &program, int64_t vocabulary_block);

  /** Most tokens of prompt and answer together. */
  size_t length() const { return length_; }

  /** Answers a prompt. decode: the tokenizer's; on_piece may be empty; is_cancelled is asked before every token. */
  Generated answer(const std::vector<int64_t> &prompt, const AdapterState &state, const GenerationOptions &options, const Decode &decode,
                   const OnPiece &on_piece, const std::function<bool()> &is_cancelled);

 private:
  /** Reads a prompt behind what is learned in front of it. */
  void read_prompt(const std::vector<int64_t> &prompt, const AdapterState &state);
  /** Reads n rows of x_, which take the places from begin on, and leaves their hidden states there. */
  void read(size_t n, size_t begin, const AdapterState &state);
  /** Copies the first n of rows (n_kv_heads, step, head_dim) to their places in a cache. */
  void put(const float *rows, size_t step, size_t n, size_t place, std::vector<float> &cache) const;
  /** The logits after the last token that was read. */
  void compute_logits();

  const Weights &weights_;
  const Geometry &geometry_;
  Program &program_;
  const OutputBlocks blocks_;
  size_t length_ = 0, chunk_ = 0, last_ = 0;  // places of the cache, tokens that are read at a time, the last row of x_ that was read
  bool keeps_weights_ = false;
  RotaryTables tables_;
  std::vector<std::vector<float>> keys_, values_;  // of every layer, (n_kv_heads, length, head_dim)
  std::vector<float> x_, in_, out_, key_, value_, logits_;
};

}  // namespace xpert
