// The mixture model of selection (xpert.core.posterior): how likely each pLLM is, and at which share of the user's texts.
#pragma once

#include <array>
#include <vector>

#include "choice/catalogue.h"
#include "choice/linear.h"

namespace xpert {

constexpr size_t kShares = 17;

/** Shares of the user's texts in a pLLM's style that are summed over: 0.2 to 1. */
const std::array<double, kShares> &shares();

/** A covariance that can be inverted: partly a sphere. */
Matrix shrunk(const Matrix &noise);

/** Covariance of (user's mean - pLLM's mean) when they share one style. */
Matrix mean_noise(const Shared &shared, double n_texts, bool paired);

/**
 * What pLLMs leave of a user's mean coefficients in a metric, a pLLM at a time: |gap - a line|^2 for shares a, the squares multiplied
 * out. line is a pLLM seen from the centre, gap the user.
 */
class Remainders {
 public:
  Remainders(const Vector &value, const Candidates &candidates, const Matrix &metric);

  /** Looks at pLLM i. */
  void look(size_t i);

  /** Squared length of what is left at a share. */
  double left(double share) const;

  /** Squared length of the pLLM. */
  double length() const { return length_; }

 private:
  const Candidates &candidates_;
  const Matrix &metric_;
  Vector towards_, line_;
  double gap_ = 0, along_ = 0, length_ = 0;
};

/** For every pLLM its log posterior up to a constant, and the posterior mean of the share. */
struct Posterior {
  Vector score, share;
};
Posterior posterior(const Vector &value, const Candidates &candidates, const Matrix &noise);

}  // namespace xpert
