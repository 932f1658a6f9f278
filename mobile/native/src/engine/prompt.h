// Prompt and prefix tuning in PEFT's format: learned embeddings in front of the text, or learned keys and values of every layer.
#pragma once

#include <string>
#include <vector>

#include "engine/state.h"

namespace xpert {

struct LearnedPrompt {
  Method method = Method::kPrompt;
  int64_t n_virtual = 0;
  std::vector<std::vector<float>> values;  // as AdapterState::values
  std::string base_digest, digest;
};

/** Whether a folder holds one of these: the kind that its configuration states. */
bool is_prompt_folder(const std::string &folder);

LearnedPrompt read_prompt(const std::string &folder);

/** Refuses what belongs to another base, by its digest and its sizes, and splits a prefix into its layers. */
void check_prompt(LearnedPrompt &prompt, const std::string &base_digest, const Geometry &geometry, const std::string &name);

/** Writes a folder, whole or not at all; returns the digest of its weights' file. */
std::string write_prompt(const std::string &folder, const LearnedPrompt &prompt, const Geometry &geometry, const std::string &base_name);

}  // namespace xpert
