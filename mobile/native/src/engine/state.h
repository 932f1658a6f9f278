// What is trained, as the programs take it: LoRA factors at one rank, a learned prompt, or learned keys and values.
#pragma once

#include <string>
#include <vector>

#include "engine/geometry.h"
#include "engine/program.h"

namespace xpert {

enum class Method { kLora, kPrompt, kPrefix };

Method parse_method(const std::string &name);

/**
 * The values of an adapter.
 *
 * Programs take A and B of every projection at their own rank, the width; an adapter of a smaller rank stands in the first rows of A and
 * columns of B. The others are zero, and stay so: their gradients are zero, as long as both factors are.
 */
struct AdapterState {
  Method method = Method::kLora;
  int64_t rank = 0, width = 0;
  int64_t n_virtual = 0;  // tokens of a prompt, places of a prefix
  float scale = 1.0F;
  /**
   * LoRA: A (width, n_inputs) and B (n_outputs, width) of every projection, layer by layer. Prompt: one array (n_virtual, hidden). Prefix:
   * keys and values (n_kv_heads, n_virtual, head_dim) of every layer.
   */
  std::vector<std::vector<float>> values;
  /** The factors that change nothing, for methods that leave the layers alone. */
  std::vector<std::vector<float>> idle;

  /** Adapter inputs of a layer's methods, in the order of the projections. */
  std::vector<Buffer> lora(const Geometry &geometry, int64_t layer) const;
  /** A layer's learned keys and values, (n_kv_heads, n_virtual, head_dim) each; none where the method is another. */
  std::vector<Buffer> prefix(const Geometry &geometry, int64_t layer) const;
  /** Places that a learned prompt takes in front of the tokens. */
  size_t n_front() const { return method == Method::kPrompt ? static_cast<size_t>(n_virtual) : 0; }
  bool is_finite() const;
};

/** What a new adapter is made of; rank and alpha for LoRA, n_virtual for the others. */
struct StateOptions {
  Method method = Method::kLora;
  int64_t rank = 8, n_virtual = 16;
  double alpha = 16.0;
  uint64_t seed = 0;
};

/** LoRA as PEFT draws it, A uniform and B zero, so that it changes nothing yet; prompts and prefixes normal around zero. */
AdapterState fresh_state(const Geometry &geometry, const StateOptions &options, int64_t width);

/** A state that changes nothing: the base itself. */
AdapterState base_state(const Geometry &geometry, int64_t width);

/** What an adapter folder is: its method and its own rank or size. */
struct AdapterHead {
  Method method = Method::kLora;
  int64_t rank = 0, n_virtual = 0;
};

AdapterHead read_adapter_head(const std::string &folder);

/**
 * Reads an adapter of the base. LoRA of any rank up to width, scaling and choice of modules: modules that it leaves out, and ranks up to
 * options.rank, start as those of a new adapter do and change nothing yet.
 */
AdapterState read_state(const std::string &folder, const Geometry &geometry, const std::string &base_digest, const StateOptions &options,
                        int64_t width);

/** Writes the adapter in PEFT's format, whole or not at all; returns its digest. */
std::string write_state(const AdapterState &state, const Geometry &geometry, const std::string &folder, const std::string &base_digest,
                        const std::string &base_name);

}  // namespace xpert
