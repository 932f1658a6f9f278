#include "choice/merging.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <limits>

#include "choice/posterior.h"

namespace xpert {

namespace {

constexpr double kMinGain = 0.1, kMaxWeight = 1.25, kLeastWeight = 0.05;
constexpr size_t kMostSources = 4;
constexpr double kMostSets = 3e6;  // some seconds on a phone

using Columns = std::vector<Vector>;

Vector mixed(const Columns &columns, const Vector &weights) {
  Vector out(columns.front().size());
  for (size_t i = 0; i < columns.size(); ++i) {
    for (size_t j = 0; j < out.size(); ++j) out[j] += weights[i] * columns[i][j];
  }
  return out;
}

double square_gap(const Vector &a, const Vector &b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += (a[i] - b[i]) * (a[i] - b[i]);
  return sum;
}

/** Weights of one choice of which are 0 (state 0), the largest (1) or free (2). */
Vector weights_at(const Columns &columns, const Vector &target, const std::vector<int> &state) {
  Vector x(state.size());
  Columns free;
  for (size_t i = 0; i < state.size(); ++i) {
    if (state[i] == 1) x[i] = kMaxWeight;
    if (state[i] == 2) free.push_back(columns[i]);
  }
  if (free.empty()) return x;
  Vector rest = target;
  const Vector fixed = mixed(columns, x);
  for (size_t i = 0; i < rest.size(); ++i) rest[i] -= fixed[i];
  const Vector found = least_squares(std::move(free), rest);
  for (size_t i = 0, next = 0; i < state.size(); ++i) {
    if (state[i] == 2) x[i] = found[next++];
  }
  return x;
}

/** Weights from 0 to the largest that come nearest, by trying every set of free ones: exact for a few. */
Vector bounded_least_squares(const Columns &columns, const Vector &target) {
  const size_t n = columns.size();
  Vector best(n);
  double least = dot(target.data(), target.data(), target.size());
  std::vector<int> state(n);
  for (;;) {
    Vector x = weights_at(columns, target, state);
    const bool inside = std::all_of(x.begin(), x.end(), [](double w) { return w >= 0 && w <= kMaxWeight; });
    const double error = square_gap(mixed(columns, x), target);
    if (inside && error < least) {
      best = std::move(x);
      least = error;
    }
    size_t place = n;
    while (place > 0 && state[place - 1] == 2) state[--place] = 0;
    if (place == 0) return best;
    ++state[place - 1];
  }
}

/** Goes to the next set of rows in order; false after the last. */
bool advance(std::vector<size_t> &rows, size_t n) {
  const size_t size = rows.size();
  size_t place = size;
  while (place > 0 && rows[place - 1] == n - size + place - 1) --place;
  if (place == 0) return false;
  ++rows[place - 1];
  for (size_t i = place; i < size; ++i) rows[i] = rows[i - 1] + 1;
  return true;
}

double number_of_sets(size_t n, size_t max_sources) {
  double total = 0, sets = 1;
  for (size_t size = 1; size <= std::min(max_sources, n); ++size) {
    sets *= static_cast<double>(n - size + 1) / static_cast<double>(size);
    total += sets;
  }
  return total;
}

/** As a recipe is written: four digits behind the point. */
double rounded(double weight) {
  char text[64];
  std::snprintf(text, sizeof text, "%.4f", weight);
  return std::strtod(text, nullptr);
}

struct Best {
  double distance = std::numeric_limits<double>::infinity();
  std::vector<size_t> rows;
  Vector weights;
};

Best best_set(const Columns &sources, const Vector &target, size_t max_sources, const std::function<void()> &pause) {
  Best best;
  size_t tried = 0;
  for (size_t size = 1; size <= std::min(max_sources, sources.size()); ++size) {
    std::vector<size_t> rows(size);
    for (size_t i = 0; i < size; ++i) rows[i] = i;
    do {
      if (++tried % 4096 == 0) pause();
      Columns columns;
      for (size_t row : rows) columns.push_back(sources[row]);
      Vector weights = bounded_least_squares(columns, target);
      const double distance = std::sqrt(square_gap(mixed(columns, weights), target));
      // A further source must earn its place; otherwise every mix would take as many as it may.
      const double ask = size > best.rows.size() && !best.rows.empty() ? 0.95 : 1.0;
      const bool used = std::all_of(weights.begin(), weights.end(), [](double w) { return w > kLeastWeight; });
      if (used && distance < best.distance * ask) best = {distance, rows, std::move(weights)};
    } while (advance(rows, sources.size()));
  }
  return best;
}

}  // namespace

bool has_few_sets(size_t n_pllms, size_t max_sources) { return number_of_sets(n_pllms, max_sources) <= kMostSets; }

MergeProposal propose_merge(const Vector &value, const Candidates &candidates, double n_texts, bool paired, size_t max_sources,
                            const std::function<void()> &pause) {
  if (max_sources < 1 || max_sources > kMostSources) {
    bad_input("A merge takes 1 to " + std::to_string(kMostSources) + " sources, found " + std::to_string(max_sources) + ".");
  }
  if (!has_few_sets(candidates.size(), max_sources)) {
    bad_input("A merge of up to " + std::to_string(max_sources) + " of " + std::to_string(candidates.size()) +
              " pLLMs has too many sets to try. Choose from a cell of the catalogue, or allow fewer sources.");
  }
  Matrix lower;
  const Matrix metric = inverse(mean_noise(candidates.shared(), n_texts, paired), "noise");
  if (!factor(metric, lower)) bad_file("The noise of the catalogue is no covariance. Fetch the catalogue again.");
  const Vector target = multiply(value.data(), lower);
  Columns sources;
  MergeProposal proposal;
  proposal.single_distance = std::numeric_limits<double>::infinity();
  Vector one(value.size());
  for (size_t i = 0; i < candidates.size(); ++i) {
    candidates.row(i, one.data());
    sources.push_back(multiply(one.data(), lower));
    const double distance = std::sqrt(square_gap(sources.back(), target));
    if (distance >= proposal.single_distance) continue;
    proposal.single = i;
    proposal.single_distance = distance;
  }
  Best best = best_set(sources, target, max_sources, pause);
  if (best.rows.empty()) best = {proposal.single_distance, {proposal.single}, {1.0}};
  proposal.distance = best.distance;
  proposal.coefficients.resize(value.size());
  for (size_t i = 0; i < best.rows.size(); ++i) {
    candidates.row(best.rows[i], one.data());
    for (size_t j = 0; j < one.size(); ++j) proposal.coefficients[j] += best.weights[i] * one[j];
    proposal.sources.push_back({best.rows[i], rounded(best.weights[i])});
  }
  proposal.wins = best.rows.size() > 1 && best.distance < (1 - kMinGain) * proposal.single_distance;
  return proposal;
}

}  // namespace xpert
