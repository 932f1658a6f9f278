#include "engine/optimizer.h"

#include <cmath>

namespace xpert {

namespace {

constexpr double kBeta1 = 0.9, kBeta2 = 0.999;
constexpr float kEpsilon = 1e-8F;

}  // namespace

Moments::Moments(const std::vector<std::vector<float>> &values) {
  for (const auto &array : values) {
    first.emplace_back(array.size());
    second.emplace_back(array.size());
  }
}

double norm_of(const std::vector<std::vector<float>> &gradients) {
  double total = 0;
  for (const auto &array : gradients) {
    for (float value : array) total += static_cast<double>(value) * static_cast<double>(value);
  }
  return std::sqrt(total);
}

void adamw(std::vector<std::vector<float>> &values, const std::vector<std::vector<float>> &gradients, Moments &moments, float factor,
           double rate, int64_t step) {
  const auto n = static_cast<double>(step);
  const auto b1 = static_cast<float>(kBeta1), b2 = static_cast<float>(kBeta2);
  const auto a1 = static_cast<float>(1 - kBeta1), a2 = static_cast<float>(1 - kBeta2);
  const auto correction = static_cast<float>(std::sqrt(1 - std::pow(kBeta2, n)));
  const auto size = static_cast<float>(rate / (1 - std::pow(kBeta1, n)));
  for (size_t k = 0; k < values.size(); ++k) {
    float *value = values[k].data(), *first = moments.first[k].data(), *second = moments.second[k].data();
    const float *gradient = gradients[k].data();
    for (size_t i = 0; i < values[k].size(); ++i) {
      const float g = gradient[i] * factor;
      first[i] = first[i] * b1 + a1 * g;
      second[i] = second[i] * b2 + a2 * g * g;
      value[i] -= size * first[i] / (std::sqrt(second[i]) / correction + kEpsilon);
    }
  }
}

}  // namespace xpert
