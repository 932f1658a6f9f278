// Random numbers that are the same on every platform (SplitMix64, Steele, Lea and Flood 2014).
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace xpert {

class Random {
 public:
  /** Streams of one seed are independent of each other. */
  explicit Random(uint64_t seed, uint64_t stream = 0) : state_(mix(seed + kGamma) ^ mix(mix(stream + kGamma))) {}

  uint64_t next() { return mix(state_ += kGamma); }

  /** A number from 0 to below 1. */
  double uniform() { return static_cast<double>(next() >> 11) * 0x1.0p-53; }

  /** A whole number from 0 to below n, every one as likely. */
  uint64_t below(uint64_t n) {
    const uint64_t rest = (0 - n) % n;  // what is left when the range is divided among n
    uint64_t drawn = next();
    while (drawn < rest) drawn = next();
    return drawn % n;
  }

  /** The numbers 0 to n - 1 in random order (Fisher and Yates). */
  std::vector<size_t> permutation(size_t n) {
    std::vector<size_t> order(n);
    for (size_t i = 0; i < n; ++i) order[i] = i;
    for (size_t i = n; i > 1; --i) {
      const size_t other = static_cast<size_t>(below(i));
      const size_t kept = order[i - 1];
      order[i - 1] = order[other];
      order[other] = kept;
    }
    return order;
  }

 private:
  static constexpr uint64_t kGamma = 0x9E3779B97F4A7C15U;

  static uint64_t mix(uint64_t z) {
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9U;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBU;
    return z ^ (z >> 31);
  }

  uint64_t state_;
};

}  // namespace xpert
