// The shape of a decoder of the Llama family, as a bundle's manifest states it.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "base/json.h"

namespace xpert {

/** Linear modules of a layer, in the order in which programs take their adapters. */
inline constexpr std::array<const char *, 7> kProjections = {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"};

struct Geometry {
  int64_t n_layers = 0, n_heads = 0, n_kv_heads = 0, head_dim = 0, hidden = 0, intermediate = 0, vocabulary = 0, context = 0;
  bool tied = false, qkv_bias = false;
  double rope_theta = 0;
  /** Llama 3's rotary scaling; factor is 0 where it is not used. */
  double factor = 0, low_freq_factor = 0, high_freq_factor = 0, original_context = 0;

  /** (n_outputs, n_inputs) of a projection. */
  std::array<int64_t, 2> shape_of(size_t projection) const;
  /** Shape of a layer's weight by its name within the layer; scales of int8 weights have one value a row, transposed copies the rows as columns. */
  std::vector<int64_t> shape_of(const std::string &layer_weight) const;
};

/** Reads and checks what the manifest of a bundle says. */
Geometry parse_geometry(const Json &stated);

/** Where a projection stands: "model.layers.3.mlp.up_proj". */
std::string module_name(int64_t layer, size_t projection);

/** Added to the scores of what a token must not attend to. */
inline constexpr float kMasked = -1e9F;

/** Cosines and sines of positions 0 to length - 1, (length, head_dim). */
struct RotaryTables {
  std::vector<float> cos, sin;
};

RotaryTables rotary_tables(const Geometry &geometry, int32_t length);

/** What n tokens behind `before` places may attend to, (n, before + n): the first `filled` of those, and the tokens up to their own. */
std::vector<float> causal_mask(size_t n, size_t before, size_t filled);

}  // namespace xpert
