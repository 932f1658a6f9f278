// The draws of the bootstrap: numpy's default generator, so that intervals are the ones that Python gives for the same seed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace xpert {

/** PCG64 (O'Neill: 128-bit congruential steps, output by xor-shift and rotation), seeded as numpy's SeedSequence does. */
class Generator {
 public:
  explicit Generator(uint64_t seed);

  uint64_t next();

  /** A number from 0 to below 1. */
  double uniform() { return static_cast<double>(next() >> 11) * (1.0 / 9007199254740992.0); }

  /** How many of n trials, each a success with this probability, succeed. n times the smaller of p and 1 - p must be at most 30. */
  int64_t binomial(double probability, int64_t n);

  /** How often each of n equally likely things is drawn in n draws. */
  std::vector<int64_t> counts(size_t n);

 private:
  __extension__ using Wide = unsigned __int128;
  void step();
  int64_t by_inversion(double probability, int64_t n);

  Wide state_ = 0, increment_ = 0;
};

}  // namespace xpert
