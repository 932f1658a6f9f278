// Which pLLMs, with which weights, bring a mix nearest to a user (xpert.core.merging).
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "choice/catalogue.h"

namespace xpert {

struct MergeSource {
  size_t row = 0;
  double weight = 0;
};

struct MergeProposal {
  std::vector<MergeSource> sources;
  Vector coefficients;  // what the mix is expected to have
  double distance = 0;  // from the user, in standard deviations of the noise
  size_t single = 0;    // the best pLLM alone
  double single_distance = 0;
  bool wins = false;  // whether the mix is nearer by more than noise
};

/** Whether all sets of up to max_sources pLLMs can be tried in a reasonable time. */
bool has_few_sets(size_t n_pllms, size_t max_sources);

/**
 * Tries every set of up to max_sources pLLMs; refuses catalogues with too many of them to try.
 *
 * value is the user's mean as differences to the base, pause is called now and then and may throw.
 */
MergeProposal propose_merge(const Vector &value, const Candidates &candidates, double n_texts, bool paired, size_t max_sources,
                            const std::function<void()> &pause);

}  // namespace xpert
