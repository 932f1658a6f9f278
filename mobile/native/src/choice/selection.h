// Choosing the nearest pLLM for a user's texts by coefficients alone, or abstaining (xpert.core.selection).
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "base/json.h"
#include "choice/catalogue.h"
#include "choice/space.h"

namespace xpert {

/** Texts as their coefficients, row by row, and what else is known of them. */
struct Evidence {
  Matrix texts;
  std::optional<Matrix> base;     // coefficients of the base's answers to the same prompts
  std::optional<double> novelty;  // what the words miss in these texts; without, that check is left out
};

struct SelectOptions {
  double min_confidence = 0.5;
  uint64_t seed = 0;
  size_t top = 100;        // most matches that are listed, 0 for all
  bool merge = false;      // whether a merge is proposed too
  bool if_few = false;     // whether none is, and nothing refused, where there are too many pLLMs for one
  size_t max_sources = 2;  // of it
};

struct Match {
  size_t row = 0;
  double probability = 0, similarity = 0;
};

struct Selection {
  std::vector<Match> matches;  // all, the likeliest first
  double confidence = 0, margin = 0, similarity = 0, expected_saving = 0, misfit = 0;
  bool abstain = false;
  std::string reason;
};

/** Evidence of n raw vectors, and of the base's answers where there are some. */
Evidence evidence_of(const StyleSpace &space, const Candidates &candidates, const std::vector<float> &raw,
                     const std::optional<std::vector<float>> &base_raw);

/** Coefficients text by text as differences to the base. */
Matrix differences(const Evidence &evidence, const Shared &shared);

Selection select(const Evidence &evidence, const Candidates &candidates, const SelectOptions &options);

/** The whole answer as the C API gives it; pause is called now and then and may throw. */
Json describe_selection(const Evidence &evidence, const Candidates &candidates, const SelectOptions &options,
                        const std::function<void()> &pause);

/** 95 % bootstrap intervals of the mean of rows: lower, then upper bounds. */
std::pair<Vector, Vector> bootstrap_interval(const Matrix &rows, uint64_t seed);

}  // namespace xpert
