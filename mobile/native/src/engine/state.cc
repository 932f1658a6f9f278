#include "engine/state.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "base/random.h"
#include "engine/lora.h"
#include "engine/prompt.h"

namespace xpert {

namespace {

constexpr size_t kParts = 2 * kProjections.size();  // A and B of every projection
constexpr double kSpread = 0.02;                    // standard deviation of a new prompt, that of the usual embedding

size_t product(int64_t a, int64_t b) { return static_cast<size_t>(a) * static_cast<size_t>(b); }

std::vector<std::vector<float>> zero_layer(const Geometry &g, int64_t width) {
  std::vector<std::vector<float>> layer;
  for (size_t p = 0; p < kProjections.size(); ++p) {
    auto [outputs, inputs] = g.shape_of(p);
    layer.emplace_back(product(width, inputs));
    layer.emplace_back(product(outputs, width));
  }
  return layer;
}

float normal(Random &random) {
  const double u = 1.0 - random.uniform(), v = random.uniform();  // u is never 0
  return static_cast<float>(kSpread * std::sqrt(-2 * std::log(u)) * std::cos(2 * M_PI * v));
}

AdapterState fresh_lora(const Geometry &g, const StateOptions &options, int64_t width) {
  AdapterState state;
  state.rank = options.rank;
  state.width = width;
  state.scale = static_cast<float>(options.alpha / static_cast<double>(options.rank));
  Random random(options.seed);
  for (int64_t i = 0; i < g.n_layers; ++i) {
    auto layer = zero_layer(g, width);
    for (size_t p = 0; p < kProjections.size(); ++p) {
      const int64_t inputs = g.shape_of(p)[1];
      const double bound = 1.0 / std::sqrt(static_cast<double>(inputs));
      std::generate_n(layer[2 * p].begin(), product(options.rank, inputs),
                      [&] { return static_cast<float>((2 * random.uniform() - 1) * bound); });
    }
    for (auto &part : layer) state.values.push_back(std::move(part));
  }
  return state;
}

void check_width(int64_t rank, int64_t width) {
  if (rank <= width) return;
  mismatch("The adapter has the rank " + std::to_string(rank) + ", the bundle's programs take at most " + std::to_string(width) +
           ". Export the bundle with this rank, or train a smaller adapter.");
}

AdapterState lora_state(const LoraAdapter &adapter, const Geometry &g, StateOptions options, int64_t width) {
  options.rank = std::max(options.rank, adapter.rank());
  check_width(options.rank, width);
  AdapterState state = fresh_lora(g, options, width);
  for (int64_t i = 0; i < g.n_layers; ++i) {
    for (size_t p = 0; p < kProjections.size(); ++p) {
      auto found = adapter.modules.find(module_name(i, p));
      if (found == adapter.modules.end()) continue;
      const LoraPair &pair = found->second;
      auto &A = state.values[static_cast<size_t>(i) * kParts + 2 * p], &B = state.values[static_cast<size_t>(i) * kParts + 2 * p + 1];
      std::copy(pair.A.begin(), pair.A.end(), A.begin());
      const auto factor = static_cast<float>(pair.scaling / static_cast<double>(state.scale));
      for (int64_t row = 0; row < pair.n_outputs; ++row) {
        for (int64_t k = 0; k < pair.rank; ++k)
          B[product(row, width) + static_cast<size_t>(k)] = pair.B[product(row, pair.rank) + static_cast<size_t>(k)] * factor;
      }
    }
  }
  return state;
}

LoraAdapter lora_of(const AdapterState &state, const Geometry &g) {
  LoraAdapter adapter;
  for (int64_t i = 0; i < g.n_layers; ++i) {
    for (size_t p = 0; p < kProjections.size(); ++p) {
      const auto &A = state.values[static_cast<size_t>(i) * kParts + 2 * p], &B = state.values[static_cast<size_t>(i) * kParts + 2 * p + 1];
      auto [outputs, inputs] = g.shape_of(p);
      LoraPair pair{state.rank, inputs, outputs, {}, {}, static_cast<double>(state.scale)};
      pair.A.assign(A.begin(), A.begin() + static_cast<std::ptrdiff_t>(product(state.rank, inputs)));
      for (int64_t row = 0; row < outputs; ++row) {
        auto begin = B.begin() + static_cast<std::ptrdiff_t>(product(row, state.width));
        pair.B.insert(pair.B.end(), begin, begin + static_cast<std::ptrdiff_t>(state.rank));
      }
      adapter.modules.emplace(module_name(i, p), std::move(pair));
    }
  }
  return adapter;
}

}  // namespace

Method parse_method(const std::string &name) {
  if (name == "lora") return Method::kLora;
  if (name == "prompt") return Method::kPrompt;
  if (name == "prefix") return Method::kPrefix;
  bad_input("There is no method '" + name + "'. There are: lora, prompt, prefix.");
}

std::vector<Buffer> AdapterState::lora(const Geometry &g, int64_t layer) const {
  const auto *parts = method == Method::kLora ? &values[static_cast<size_t>(layer) * kParts] : idle.data();
  std::vector<Buffer> buffers;
  const auto r = static_cast<int32_t>(width);
  for (size_t p = 0; p < kProjections.size(); ++p) {
    auto [outputs, inputs] = g.shape_of(p);
    buffers.push_back(floats(parts[2 * p].data(), {r, static_cast<int32_t>(inputs)}));
    buffers.push_back(floats(parts[2 * p + 1].data(), {static_cast<int32_t>(outputs), r}));
  }
  return buffers;
}

std::vector<Buffer> AdapterState::prefix(const Geometry &g, int64_t layer) const {
  if (method != Method::kPrefix) return {};
  const std::vector<int32_t> shape = {static_cast<int32_t>(g.n_kv_heads), static_cast<int32_t>(n_virtual), static_cast<int32_t>(g.head_dim)};
  const auto *pair = &values[2 * static_cast<size_t>(layer)];
  return {floats(pair[0].data(), shape), floats(pair[1].data(), shape)};
}

bool AdapterState::is_finite() const {
  auto finite = [](const std::vector<float> &array) {
    return std::all_of(array.begin(), array.end(), [](float value) { return std::isfinite(value); });
  };
  return std::all_of(values.begin(), values.end(), finite);
}

AdapterState fresh_state(const Geometry &g, const StateOptions &options, int64_t width) {
  if (options.method == Method::kLora) {
    check_width(options.rank, width);
    return fresh_lora(g, options, width);
  }
  AdapterState state = base_state(g, width);
  state.method = options.method;
  state.n_virtual = options.n_virtual;
  Random random(options.seed);
  const bool is_prompt = options.method == Method::kPrompt;
  const size_t n_arrays = is_prompt ? 1 : 2 * static_cast<size_t>(g.n_layers);
  const size_t n_values = product(options.n_virtual, is_prompt ? g.hidden : g.n_kv_heads * g.head_dim);
  for (size_t i = 0; i < n_arrays; ++i) {
    state.values.emplace_back(n_values);
    std::generate(state.values.back().begin(), state.values.back().end(), [&] { return normal(random); });
  }
  return state;
}

AdapterState base_state(const Geometry &g, int64_t width) {
  AdapterState state;
  state.method = Method::kPrompt;
  state.width = width;
  state.idle = zero_layer(g, width);
  return state;
}

AdapterHead read_adapter_head(const std::string &folder) {
  if (is_prompt_folder(folder)) {
    LearnedPrompt prompt = read_prompt(folder);
    return {prompt.method, 0, prompt.n_virtual};
  }
  return {Method::kLora, read_lora(folder).rank(), 0};
}

AdapterState read_state(const std::string &folder, const Geometry &g, const std::string &base_digest, const StateOptions &options,
                        int64_t width) {
  if (!is_prompt_folder(folder)) {
    LoraAdapter adapter = read_lora(folder);
    check_base(adapter, base_digest, g, folder);
    return lora_state(adapter, g, options, width);
  }
  LearnedPrompt prompt = read_prompt(folder);
  check_prompt(prompt, base_digest, g, folder);
  AdapterState state = base_state(g, width);
  state.method = prompt.method;
  state.n_virtual = prompt.n_virtual;
  state.values = std::move(prompt.values);
  return state;
}

std::string write_state(const AdapterState &state, const Geometry &g, const std::string &folder, const std::string &base_digest,
                        const std::string &base_name) {
  if (!state.is_finite()) {
    throw Error(XPERT_TRAINING, "The adapter holds NaN or infinity and is not written. Lower the learning rate.");
  }
  if (state.method != Method::kLora) {
    return write_prompt(folder, {state.method, state.n_virtual, state.values, base_digest, ""}, g, base_name);
  }
  LoraAdapter adapter = lora_of(state, g);
  adapter.base_digest = base_digest;
  write_lora(folder, adapter, base_name);
  return read_lora(folder).digest;
}

}  // namespace xpert
