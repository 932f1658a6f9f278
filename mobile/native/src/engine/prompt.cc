#include "engine/prompt.h"

#include <filesystem>

#include "base/error.h"
#include "base/files.h"
#include "engine/folder.h"
#include "engine/peft.h"

namespace xpert {

namespace {

constexpr const char *kTensor = "prompt_embeddings";
constexpr int64_t kMostVirtual = 4096;

int64_t width_of(Method method, const Geometry &g) { return method == Method::kPrompt ? g.hidden : 2 * g.n_layers * g.n_kv_heads * g.head_dim; }

/** Moves values between PEFT's rows, (n_virtual, 2 layers, heads, head_dim), and ours, a (heads, n_virtual, head_dim) a layer and half. */
template <typename Move>
void each_piece(const Geometry &g, int64_t n_virtual, const Move &move) {
  const auto dim = static_cast<size_t>(g.head_dim), heads = static_cast<size_t>(g.n_kv_heads), n = static_cast<size_t>(n_virtual);
  const size_t arrays = 2 * static_cast<size_t>(g.n_layers);
  for (size_t place = 0; place < n; ++place) {
    for (size_t array = 0; array < arrays; ++array) {
      for (size_t head = 0; head < heads; ++head) {
        move(((place * arrays + array) * heads + head) * dim, array, (head * n + place) * dim, dim);
      }
    }
  }
}

}  // namespace

bool is_prompt_folder(const std::string &folder) {
  std::error_code none;
  if (!std::filesystem::is_directory(folder, none)) {
    throw Error(XPERT_NOT_FOUND, "There is no adapter folder '" + folder + "'. Check the path.");
  }
  const Json config = read_peft_config(folder);
  return config.at("peft_type") == "PROMPT_TUNING" || config.at("peft_type") == "PREFIX_TUNING";
}

LearnedPrompt read_prompt(const std::string &folder) {
  const Json config = read_peft_config(folder);
  LearnedPrompt prompt;
  prompt.method = config.at("peft_type") == "PROMPT_TUNING" ? Method::kPrompt : Method::kPrefix;
  if (config.value("prefix_projection", Json(false)) == true) {
    bad_file("'" + folder + "' keeps its prefix behind a projection, which cannot be run on the device. Train it without.");
  }
  const std::string path = folder + "/" + kAdapterWeights;
  MappedFile file(path);
  Tensors tensors = parse_safetensors(file.data(), file.size(), path);
  auto found = tensors.views.find(kTensor);
  if (found == tensors.views.end() || tensors.views.size() != 1 || found->second.shape.size() != 2) {
    bad_file("Cannot use the adapter '" + folder + "': expected one matrix '" + kTensor + "'. Train or fetch it again.");
  }
  prompt.n_virtual = found->second.shape[0];
  if (prompt.n_virtual < 1 || prompt.n_virtual > kMostVirtual) {
    bad_file("Cannot use the adapter '" + folder + "': it has " + std::to_string(prompt.n_virtual) + " virtual tokens, expected 1 to " +
             std::to_string(kMostVirtual) + ". Train or fetch it again.");
  }
  prompt.values.emplace_back();
  if (!read_floats(found->second, prompt.values.front())) {
    bad_file("Cannot use the adapter '" + folder + "': it holds NaN or infinity, or is of the type " + found->second.dtype +
             ". Train or fetch it again.");
  }
  auto stated = tensors.metadata.find(kBaseKey);
  if (stated != tensors.metadata.end()) prompt.base_digest = stated->second;
  prompt.digest = sha256_hex({reinterpret_cast<const char *>(file.data()), file.size()});
  return prompt;
}

void check_prompt(LearnedPrompt &prompt, const std::string &base_digest, const Geometry &g, const std::string &name) {
  if (!prompt.base_digest.empty() && prompt.base_digest != base_digest) {
    mismatch("Cannot use '" + name + "' with this base: it was made for the base " + prompt.base_digest.substr(0, 12) + ", this one is " +
             base_digest.substr(0, 12) + ". Give the base it was trained on.");
  }
  const size_t expected = static_cast<size_t>(prompt.n_virtual * width_of(prompt.method, g));
  if (prompt.values.front().size() != expected) {
    mismatch("Cannot use '" + name + "' with this base: its virtual tokens have " +
             std::to_string(prompt.values.front().size() / static_cast<size_t>(prompt.n_virtual)) + " values, the base's " +
             std::to_string(width_of(prompt.method, g)) + ". Give the base it was trained on.");
  }
  if (prompt.method == Method::kPrompt) return;
  const std::vector<float> rows = std::move(prompt.values.front());
  prompt.values.assign(2 * static_cast<size_t>(g.n_layers), std::vector<float>(expected / (2 * static_cast<size_t>(g.n_layers))));
  each_piece(g, prompt.n_virtual, [&](size_t from, size_t array, size_t to, size_t n) {
    std::copy_n(rows.begin() + static_cast<std::ptrdiff_t>(from), n, prompt.values[array].begin() + static_cast<std::ptrdiff_t>(to));
  });
}

std::string write_prompt(const std::string &folder, const LearnedPrompt &prompt, const Geometry &g, const std::string &base_name) {
  const int64_t width = width_of(prompt.method, g);
  std::vector<float> rows = prompt.values.front();
  if (prompt.method == Method::kPrefix) {
    rows.assign(static_cast<size_t>(prompt.n_virtual * width), 0.0F);
    each_piece(g, prompt.n_virtual, [&](size_t to, size_t array, size_t from, size_t n) {
      std::copy_n(prompt.values[array].begin() + static_cast<std::ptrdiff_t>(from), n, rows.begin() + static_cast<std::ptrdiff_t>(to));
    });
  }
  Json config = {{"task_type", "CAUSAL_LM"},        {"base_model_name_or_path", base_name.empty() ? Json() : Json(base_name)},
                 {"inference_mode", true},          {"num_virtual_tokens", prompt.n_virtual},
                 {"num_transformer_submodules", 1}, {"num_layers", g.n_layers}};
  if (prompt.method == Method::kPrompt) {
    config.update(
        {{"peft_type", "PROMPT_TUNING"}, {"prompt_tuning_init", "RANDOM"}, {"token_dim", g.hidden}, {"num_attention_heads", g.n_heads}});
  } else {
    // PEFT cuts a virtual token's row into heads of token_dim / num_attention_heads values: those of keys and values.
    config.update({{"peft_type", "PREFIX_TUNING"},
                   {"prefix_projection", false},
                   {"token_dim", g.n_kv_heads * g.head_dim},
                   {"num_attention_heads", g.n_kv_heads}});
  }
  std::map<std::string, std::string> metadata;
  if (!prompt.base_digest.empty()) metadata[kBaseKey] = prompt.base_digest;
  write_folder(folder, [&](const std::string &stage) {
    write_safetensors(stage + "/" + kAdapterWeights, {{kTensor, view_of(rows, {prompt.n_virtual, width})}}, metadata);
    write_atomic(stage + "/" + kAdapterConfig, config.dump(2) + "\n");
  });
  return sha256_hex_of_file(folder + "/" + kAdapterWeights);
}

}  // namespace xpert
