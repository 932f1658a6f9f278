// The next token from logits: the likeliest, or drawn.
#pragma once

#include <cstdint>
#include <vector>

#include "base/random.h"

namespace xpert {

/** temperature 0 takes the likeliest token; top_k 0 and top_p 1 leave all in. */
struct SamplingOptions {
  double temperature = 0, top_p = 1;
  int64_t top_k = 0;
};

int64_t next_token(const std::vector<float> &logits, const SamplingOptions &options, Random &random);

}  // namespace xpert
