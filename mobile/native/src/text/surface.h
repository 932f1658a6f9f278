// Surface style statistics, the same 112 numbers a text as xpert.core.surface.
#pragma once

#include <array>
#include <cstddef>
#include <string>
#include <vector>

#include "text/unicode.h"

namespace xpert {

constexpr int kSurfaceVersion = 1;
constexpr size_t kShapes = 25;
constexpr size_t kFunctionWords = 87;
constexpr size_t kSurface = kShapes + kFunctionWords;

/** Names of the statistics, as SURFACE_NAMES. */
const std::vector<std::string> &surface_names();

/** Statistics of a text; an empty one gives zeros. Time is linear in its length. */
std::array<float, kSurface> surface_statistics(std::u32string_view text);

/** Sum of values in numpy's order, so that the last bits agree. */
double pairwise_sum(const double *values, size_t n);

}  // namespace xpert
