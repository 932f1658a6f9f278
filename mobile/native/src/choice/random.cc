#include "choice/random.h"

#include <algorithm>
#include <array>
#include <cmath>

namespace xpert {

namespace {

constexpr size_t kPool = 4;

/** Scrambles words with a constant that changes with every word. */
class Hash {
 public:
  Hash(uint32_t start, uint32_t factor) : constant_(start), factor_(factor) {}

  uint32_t operator()(uint32_t value) {
    value ^= constant_;
    constant_ *= factor_;
    value *= constant_;
    return value ^ (value >> 16);
  }

 private:
  uint32_t constant_, factor_;
};

uint32_t mixed(uint32_t x, uint32_t y) {
  const uint32_t value = x * 0xCA01F9DDU - y * 0x4973F715U;
  return value ^ (value >> 16);
}

/** SeedSequence(seed).generate_state(4, uint64). */
std::array<uint64_t, 4> seed_words(uint64_t seed) {
  const std::array<uint32_t, kPool> entropy = {static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32), 0, 0};
  std::array<uint32_t, kPool> pool{};
  Hash in(0x43B0D7E5U, 0x931E8875U);
  std::transform(entropy.begin(), entropy.end(), pool.begin(), [&](uint32_t word) { return in(word); });
  for (size_t from = 0; from < kPool; ++from) {
    for (size_t to = 0; to < kPool; ++to) {
      if (from != to) pool[to] = mixed(pool[to], in(pool[from]));
    }
  }
  Hash out(0x8B51F9DDU, 0x58F38DEDU);
  std::array<uint64_t, 4> words{};
  for (size_t i = 0; i < 8; ++i) words[i / 2] |= uint64_t{out(pool[i % kPool])} << (i % 2 * 32);
  return words;
}

}  // namespace

Generator::Generator(uint64_t seed) {
  const std::array<uint64_t, 4> words = seed_words(seed);
  increment_ = ((Wide{words[2]} << 64 | words[3]) << 1) | 1;
  step();
  state_ += Wide{words[0]} << 64 | words[1];
  step();
}

void Generator::step() { state_ = state_ * (Wide{0x2360ED051FC65DA4U} << 64 | 0x4385DF649FCCF645U) + increment_; }

uint64_t Generator::next() {
  step();
  const auto folded = static_cast<uint64_t>(state_ >> 64) ^ static_cast<uint64_t>(state_);
  const auto turn = static_cast<unsigned>(state_ >> 122);
  return folded >> turn | folded << (-turn & 63U);
}

int64_t Generator::by_inversion(double probability, int64_t n) {
  const auto trials = static_cast<double>(n);
  const double rest = 1 - probability, expected = trials * probability;
  const double none = std::exp(trials * std::log1p(-probability));
  const auto bound = static_cast<int64_t>(std::min(trials, expected + 10 * std::sqrt(expected * rest + 1)));
  int64_t found = 0;
  double left = uniform();
  for (double mass = none; left > mass;) {
    ++found;
    if (found > bound) {
      found = 0;
      mass = none;
      left = uniform();
    } else {
      left -= mass;
      mass = (static_cast<double>(n - found + 1) * probability * mass) / (static_cast<double>(found) * rest);
    }
  }
  return found;
}

int64_t Generator::binomial(double probability, int64_t n) {
  if (n == 0 || probability == 0) return 0;
  return probability <= 0.5 ? by_inversion(probability, n) : n - by_inversion(1 - probability, n);
}

std::vector<int64_t> Generator::counts(size_t n) {
  std::vector<int64_t> found(n);
  const double each = 1 / static_cast<double>(n);
  double remaining = 1;
  auto left = static_cast<int64_t>(n);
  // One draw of each is expected of what is left, so that binomial's bound of 30 is out of reach.
  for (size_t i = 0; i + 1 < n && left > 0; ++i) {
    found[i] = binomial(each / remaining, left);
    left -= found[i];
    remaining -= each;
  }
  if (n && left > 0) found[n - 1] = left;
  return found;
}

}  // namespace xpert
