// AdamW without weight decay, as torch computes it.
#pragma once

#include <cstdint>
#include <vector>

namespace xpert {

/** Running means of the gradients and of their squares, for every array. */
struct Moments {
  std::vector<std::vector<float>> first, second;

  explicit Moments(const std::vector<std::vector<float>> &values);
};

/** Length of all gradients together. */
double norm_of(const std::vector<std::vector<float>> &gradients);

/** Updates values in place; factor multiplies the gradients, step counts from 1. */
void adamw(std::vector<std::vector<float>> &values, const std::vector<std::vector<float>> &gradients, Moments &moments, float factor,
           double rate, int64_t step);

}  // namespace xpert
