// LoRA adapters in PEFT's format, read, checked and written.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "base/json.h"
#include "engine/geometry.h"

namespace xpert {

/** One module's low-rank update: weight + scaling * B A, with A (rank, n_inputs) and B (n_outputs, rank). */
struct LoraPair {
  int64_t rank = 0, n_inputs = 0, n_outputs = 0;
  std::vector<float> A, B;
  double scaling = 1.0;
};

struct LoraAdapter {
  std::map<std::string, LoraPair> modules;  // by name as the base has it: model.layers.0.self_attn.q_proj
  Json config = Json::object();
  std::string base_digest;  // of the base it was made for; empty where its maker left none
  std::string digest;       // over the weights' file and the scalings, as xpert.models.adapters computes it
  uint64_t bytes = 0;       // of the weights' file

  int64_t rank() const;
};

/** Reads a folder and checks that it is whole, finite, and plain LoRA on linear layers. */
LoraAdapter read_lora(const std::string &folder);

/** Refuses an adapter of another base: by its digest, and by the shapes of its modules. name is what the message calls it. */
void check_base(const LoraAdapter &adapter, const std::string &base_digest, const Geometry &geometry, const std::string &name);

/** Writes a folder, whole or not at all; each module's scaling is folded into B, so that PEFT's own factor becomes 1. */
void write_lora(const std::string &folder, const LoraAdapter &adapter, const std::string &base_name);

/**
 * Merges adapters of one base exactly, base + sum of weight x (pLLM - base): the factors side by side, so that ranks add up.
 */
LoraAdapter merge_lora(const std::vector<std::pair<LoraAdapter, double>> &sources);

}  // namespace xpert
