#include "engine/geometry.h"

#include <algorithm>
#include <cmath>

namespace xpert {

namespace {

constexpr int64_t kLargest = (int64_t{1} << 31) - 1, kMostLayers = 1000;  // sizes above these are no model's

[[noreturn]] void unusable(const std::string &what) { bad_file("The bundle's geometry is not usable: " + what + ". Export the bundle again."); }

int64_t size(const Json &stated, const char *key) {
  if (!stated.contains(key) || !stated.at(key).is_number_integer()) unusable(std::string(key) + " is missing");
  int64_t value = stated.at(key).get<int64_t>();
  if (value < 1 || value > kLargest) unusable(std::string(key) + " is " + std::to_string(value));
  return value;
}

double positive(const Json &stated, const char *key) {
  if (!stated.contains(key) || !stated.at(key).is_number()) unusable(std::string(key) + " is missing");
  double value = stated.at(key).get<double>();
  if (!(value > 0) || !std::isfinite(value)) unusable(std::string(key) + " is " + std::to_string(value));
  return value;
}

bool flag(const Json &stated, const char *key) {
  if (!stated.contains(key) || !stated.at(key).is_boolean()) unusable(std::string(key) + " is missing");
  return stated.at(key).get<bool>();
}

bool ends_with(const std::string &text, const std::string &end) {
  return text.size() >= end.size() && text.compare(text.size() - end.size(), end.size(), end) == 0;
}

/** Slows the low frequencies down by the factor, keeps the high ones, and blends between (Llama 3.1's report). */
double llama3(double frequency, const Geometry &g) {
  double turns = g.original_context * frequency / (2 * M_PI);
  double blend = std::clamp((turns - g.low_freq_factor) / (g.high_freq_factor - g.low_freq_factor), 0.0, 1.0);
  return frequency * (blend + (1 - blend) / g.factor);
}

}  // namespace

std::array<int64_t, 2> Geometry::shape_of(size_t projection) const {
  const int64_t q = n_heads * head_dim, kv = n_kv_heads * head_dim;
  const std::array<int64_t, 2> shapes[] = {
      {q, hidden}, {kv, hidden}, {kv, hidden}, {hidden, q}, {intermediate, hidden}, {intermediate, hidden}, {hidden, intermediate}};
  return shapes[projection];
}

std::vector<int64_t> Geometry::shape_of(const std::string &layer_weight) const {
  for (size_t p = 0; p < kProjections.size(); ++p) {
    if (layer_weight.find(kProjections[p]) == std::string::npos) continue;
    auto [outputs, inputs] = shape_of(p);
    if (ends_with(layer_weight, ".weight")) return {outputs, inputs};
    if (ends_with(layer_weight, "_transposed")) return {inputs, outputs};
    return ends_with(layer_weight, "_scale") ? std::vector<int64_t>{outputs, 1} : std::vector<int64_t>{outputs};
  }
  return {hidden};
}

Geometry parse_geometry(const Json &stated) {
  if (!stated.is_object()) unusable("it is no object");
  Geometry g;
  g.n_layers = size(stated, "n_layers");
  g.n_heads = size(stated, "n_heads");
  g.n_kv_heads = size(stated, "n_kv_heads");
  g.head_dim = size(stated, "head_dim");
  g.hidden = size(stated, "hidden");
  g.intermediate = size(stated, "intermediate");
  g.vocabulary = size(stated, "vocabulary");
  g.context = size(stated, "context");
  g.tied = flag(stated, "tied");
  g.qkv_bias = flag(stated, "qkv_bias");
  if (g.n_layers > kMostLayers) unusable("it has " + std::to_string(g.n_layers) + " layers, at most " + std::to_string(kMostLayers));
  if (g.n_heads % g.n_kv_heads) unusable(std::to_string(g.n_heads) + " heads cannot share " + std::to_string(g.n_kv_heads) + " key-value heads");
  if (g.head_dim % 2) unusable("a head of " + std::to_string(g.head_dim) + " values cannot be rotated");
  if (!stated.contains("rope") || !stated.at("rope").is_object()) unusable("rope is missing");
  const Json &rope = stated.at("rope");
  g.rope_theta = positive(rope, "rope_theta");
  if (rope.contains("factor")) {
    g.factor = positive(rope, "factor");
    g.low_freq_factor = positive(rope, "low_freq_factor");
    g.high_freq_factor = positive(rope, "high_freq_factor");
    g.original_context = positive(rope, "original_max_position_embeddings");
    if (g.low_freq_factor >= g.high_freq_factor) unusable("low_freq_factor is not below high_freq_factor");
  }
  return g;
}

std::string module_name(int64_t layer, size_t projection) {
  return "model.layers." + std::to_string(layer) + (projection < 4 ? ".self_attn." : ".mlp.") + kProjections[projection];
}

RotaryTables rotary_tables(const Geometry &g, int32_t length) {
  const auto n = static_cast<size_t>(length), dim = static_cast<size_t>(g.head_dim);
  RotaryTables tables;
  tables.cos.resize(n * dim);
  tables.sin.resize(n * dim);
  for (size_t k = 0; k < dim / 2; ++k) {
    double frequency = std::pow(g.rope_theta, -static_cast<double>(2 * k) / static_cast<double>(dim));
    if (g.factor > 0) frequency = llama3(frequency, g);
    for (size_t i = 0; i < n; ++i) {
      double angle = static_cast<double>(i) * frequency;
      tables.cos[i * dim + k] = tables.cos[i * dim + dim / 2 + k] = static_cast<float>(std::cos(angle));
      tables.sin[i * dim + k] = tables.sin[i * dim + dim / 2 + k] = static_cast<float>(std::sin(angle));
    }
  }
  return tables;
}

std::vector<float> causal_mask(size_t n, size_t before, size_t filled) {
  std::vector<float> mask(n * (before + n), kMasked);
  for (size_t i = 0; i < n; ++i) {
    const auto row = mask.begin() + static_cast<std::ptrdiff_t>(i * (before + n));
    std::fill_n(row, filled, 0.0F);
    std::fill_n(row + static_cast<std::ptrdiff_t>(before), i + 1, 0.0F);
  }
  return mask;
}

}  // namespace xpert
