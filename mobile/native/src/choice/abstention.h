// How strange a user is to a catalogue, and how alike its pLLMs (xpert.core.abstention).
#pragma once

#include <vector>

#include "choice/catalogue.h"
#include "choice/space.h"

namespace xpert {

constexpr double kMinMargin = 0.1, kMisfitLimit = 1.05, kNoveltyLimit = 0.65;

/** How badly the best pLLM explains a user's mean coefficients, whatever the share and strength. */
double misfit(const Vector &value, const Candidates &candidates, const Matrix &noise);

/** The manner that all texts share and no word describes; raw has n rows of the space's dim. */
double novelty(const StyleSpace &space, const float *raw, size_t n, const Shared &shared);

/** The pLLMs that the probes cannot tell from the first, itself included. */
std::vector<bool> twins(const Candidates &candidates, size_t first);

}  // namespace xpert
