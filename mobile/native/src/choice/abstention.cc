#include "choice/abstention.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "choice/posterior.h"

namespace xpert {

namespace {

constexpr double kCeiling = 1e3, kOutlier = 5;

/** Shares up to half as strong again as the pLLM. */
std::vector<double> misfit_shares() {
  std::vector<double> found(shares().begin(), shares().end());
  for (int i = 0; i < 9; ++i) found.push_back(i * ((1.5 - 1.05) / 9) + 1.05);
  found.push_back(1.5);
  return found;
}

/** Trace of a product of symmetric matrices. */
double trace_of_product(const Matrix &a, const Matrix &b) {
  double sum = 0;
  for (size_t i = 0; i < a.n_rows(); ++i) sum += dot(a.row(i), b.row(i), a.n_columns());
  return sum;
}

}  // namespace

double misfit(const Vector &value, const Candidates &candidates, const Matrix &noise) {
  const Matrix &one = candidates.shared().noise;
  const size_t k = one.n_rows();
  Matrix single(k, k);
  const double sphere = 0.5 * trace(one) / static_cast<double>(k) + 1e-9;
  for (size_t i = 0; i < k; ++i) {
    for (size_t j = 0; j < k; ++j) single.at(i, j) = 0.5 * one.at(i, j) + (i == j ? sphere : 0);
  }
  const Matrix metric = inverse(single, "noise");
  const std::vector<double> tried = misfit_shares();
  Remainders remainders(value, candidates, metric);
  double least = std::numeric_limits<double>::infinity(), explained = 0;
  for (size_t i = 0; i < candidates.size(); ++i) {
    remainders.look(i);
    for (double share : tried) {
      if (!(remainders.left(share) < least)) continue;
      least = remainders.left(share);
      explained = remainders.length() * (share * share);
    }
  }
  const double beyond = std::max(least - trace_of_product(metric, noise), 0.0);
  return explained > 0 ? std::min(std::sqrt(beyond / explained), kCeiling) : kCeiling;
}

double novelty(const StyleSpace &space, const float *raw, size_t n, const Shared &shared) {
  if (shared.base_unexplained.size() != space.n_statistics()) {
    mismatch("The catalogue has " + std::to_string(shared.base_unexplained.size()) + " unexplained statistics, the style space '" +
             space.name() + "' has " + std::to_string(space.n_statistics()) + ". Use the catalogue's space.");
  }
  if (n < 2) return 0;
  Vector total(space.n_statistics()), mean(space.n_axes());
  double squares = 0;
  for (size_t i = 0; i < n; ++i) {
    const float *row = raw + i * space.dim();
    const Vector left = space.unexplained(row), coefficients = space.coefficients(row);
    for (size_t j = 0; j < left.size(); ++j) {
      const double cut = std::clamp(left[j] - shared.base_unexplained[j], -kOutlier, kOutlier);
      total[j] += cut;
      squares += cut * cut;
    }
    for (size_t j = 0; j < mean.size(); ++j) mean[j] += coefficients[j];
  }
  for (size_t j = 0; j < mean.size(); ++j) mean[j] = mean[j] / static_cast<double>(n) - shared.base[j];
  const double pairs = static_cast<double>(n) * static_cast<double>(n - 1);
  const double common = (dot(total.data(), total.data(), total.size()) - squares) / pairs;
  const Vector explained = space.along_axes(mean);
  return std::max(common, 0.0) / std::max(dot(explained.data(), explained.data(), explained.size()), 1e-12);
}

std::vector<bool> twins(const Candidates &candidates, size_t first) {
  const size_t k = candidates.n_words();
  const Matrix metric = inverse(mean_noise(candidates.shared(), candidates.shared().n_probes, true), "noise");
  // The normal approximation of the 95 % point of chi-squared with k degrees of freedom.
  const double limit = static_cast<double>(k) + 1.645 * std::sqrt(2 * static_cast<double>(k));
  Vector origin(k), gap(k);
  candidates.row(first, origin.data());
  std::vector<bool> near;
  for (size_t i = 0; i < candidates.size(); ++i) {
    candidates.row(i, gap.data());
    for (size_t j = 0; j < k; ++j) gap[j] -= origin[j];
    near.push_back(dot(gap.data(), multiply(metric, gap).data(), k) <= limit);
  }
  return near;
}

}  // namespace xpert
