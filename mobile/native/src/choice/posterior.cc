#include "choice/posterior.h"

#include <algorithm>
#include <cmath>

namespace xpert {

namespace {

constexpr double kShrinkage = 0.2;
constexpr double kUnpairedNoise = 1.5;

std::array<double, kShares> log_prior() {
  std::array<double, kShares> found{};
  for (size_t i = 0; i < kShares; ++i) found[i] = std::log(shares()[i] == 1 ? 0.9 : 0.1 / (kShares - 1));
  return found;
}

}  // namespace

const std::array<double, kShares> &shares() {
  static const auto found = [] {
    std::array<double, kShares> values{};
    for (size_t i = 0; i < kShares; ++i) values[i] = static_cast<double>(i) * ((1.0 - 0.2) / (kShares - 1)) + 0.2;
    values.back() = 1;
    return values;
  }();
  return found;
}

Matrix shrunk(const Matrix &noise) {
  const size_t k = noise.n_rows();
  Matrix out(k, k);
  const double sphere = kShrinkage * trace(noise) / static_cast<double>(k) + 1e-9;
  for (size_t i = 0; i < k; ++i) {
    for (size_t j = 0; j < k; ++j) out.at(i, j) = (1 - kShrinkage) * noise.at(i, j) + (i == j ? sphere : 0);
  }
  return out;
}

Matrix mean_noise(const Shared &shared, double n_texts, bool paired) {
  const double scale = (1 / n_texts + 1 / shared.n_probes) * (paired ? 1.0 : kUnpairedNoise);
  Matrix scaled = shared.noise;
  for (size_t i = 0; i < scaled.n_rows(); ++i) {
    for (size_t j = 0; j < scaled.n_columns(); ++j) scaled.at(i, j) *= scale;
  }
  return shrunk(scaled);
}

Remainders::Remainders(const Vector &value, const Candidates &candidates, const Matrix &metric)
    : candidates_(candidates), metric_(metric), line_(value.size()) {
  Vector gap(value.size());
  for (size_t j = 0; j < gap.size(); ++j) gap[j] = value[j] - candidates.centre()[j];
  towards_ = multiply(metric, gap);
  gap_ = dot(gap.data(), towards_.data(), gap.size());
}

void Remainders::look(size_t i) {
  candidates_.row(i, line_.data());
  for (size_t j = 0; j < line_.size(); ++j) line_[j] -= candidates_.centre()[j];
  along_ = dot(line_.data(), towards_.data(), line_.size());
  length_ = dot(multiply(line_.data(), metric_).data(), line_.data(), line_.size());
}

double Remainders::left(double share) const { return std::max(gap_ - 2 * along_ * share + length_ * (share * share), 0.0); }

Posterior posterior(const Vector &value, const Candidates &candidates, const Matrix &noise) {
  const Matrix metric = inverse(noise, "noise");
  const std::array<double, kShares> prior = log_prior();
  Remainders remainders(value, candidates, metric);
  Posterior found;
  std::array<double, kShares> log{};
  for (size_t i = 0; i < candidates.size(); ++i) {
    remainders.look(i);
    for (size_t s = 0; s < kShares; ++s) log[s] = -0.5 * remainders.left(shares()[s]) + prior[s];
    const double largest = *std::max_element(log.begin(), log.end());
    double total = 0, weighted = 0;
    for (double part : log) total += std::exp(part - largest);
    const double score = largest + std::log(total);
    for (size_t s = 0; s < kShares; ++s) weighted += std::exp(log[s] - score) * shares()[s];
    found.score.push_back(score);
    found.share.push_back(weighted);
  }
  return found;
}

}  // namespace xpert
