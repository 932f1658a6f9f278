#include "engine/sampling.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace xpert {

int64_t next_token(const std::vector<float> &logits, const SamplingOptions &options, Random &random) {
  const auto likeliest = std::max_element(logits.begin(), logits.end());
  if (options.temperature <= 0) return likeliest - logits.begin();
  std::vector<size_t> order(logits.size());
  std::iota(order.begin(), order.end(), size_t{0});
  // Equal logits in the order of their ids, so that every platform draws the same.
  std::sort(order.begin(), order.end(), [&](size_t a, size_t b) { return logits[a] > logits[b] || (logits[a] == logits[b] && a < b); });
  if (options.top_k > 0) order.resize(std::min(order.size(), static_cast<size_t>(options.top_k)));
  std::vector<double> share;
  for (size_t id : order) share.push_back(std::exp((static_cast<double>(logits[id]) - static_cast<double>(*likeliest)) / options.temperature));
  const double total = std::accumulate(share.begin(), share.end(), 0.0);
  double kept = 0;
  size_t n = 0;
  while (n < share.size() && (n == 0 || kept < options.top_p * total)) kept += share[n++];
  double drawn = random.uniform() * kept;
  for (size_t i = 0; i + 1 < n; ++i) {
    if (drawn < share[i]) return static_cast<int64_t>(order[i]);
    drawn -= share[i];
  }
  return static_cast<int64_t>(order[n - 1]);
}

}  // namespace xpert
