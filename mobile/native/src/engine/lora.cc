#include "engine/lora.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <set>

#include "base/error.h"
#include "base/files.h"
#include "engine/folder.h"
#include "engine/peft.h"

namespace xpert {

namespace {

constexpr std::string_view kPrefix = "base_model.model.", kSuffix = ".weight";

/** Splits "base_model.model.{module}.lora_A[.default].weight"; false for any other name. */
bool split_name(std::string name, std::string &module, char &half) {
  if (name.size() <= kPrefix.size() + kSuffix.size() || name.compare(0, kPrefix.size(), kPrefix) != 0) return false;
  auto strip = [&](std::string_view tail) {
    if (name.size() < tail.size() || name.compare(name.size() - tail.size(), tail.size(), tail) != 0) return false;
    name.resize(name.size() - tail.size());
    return true;
  };
  if (!strip(kSuffix)) return false;
  strip(".default");
  half = strip(".lora_A") ? 'A' : strip(".lora_B") ? 'B' : '\0';
  if (!half || name.size() <= kPrefix.size()) return false;
  module = name.substr(kPrefix.size());
  return true;
}

void refuse_special(const Json &config, const std::string &folder) {
  if (config.at("peft_type") != "LORA") {
    bad_file("'" + folder + "' holds an adapter of type " + config.at("peft_type").get<std::string>() + ", expected LORA. Give one.");
  }
  for (const char *key : {"use_dora", "modules_to_save", "trainable_token_indices", "fan_in_fan_out"}) {
    const Json value = config.value(key, Json());
    if (value.is_null() || value == false || ((value.is_array() || value.is_object()) && value.empty())) continue;
    bad_file("'" + folder + "' uses " + key + ", which is more than LoRA on linear layers. Train it without.");
  }
  if (config.value("bias", Json("none")) != "none") {
    bad_file("'" + folder + "' uses bias, which is more than LoRA on linear layers. Train it without.");
  }
}

/** The module's two halves as they were found; a missing one has no shape. */
struct Halves {
  std::vector<int64_t> shape[2];
  std::vector<float> values[2];
};

std::map<std::string, Halves> read_halves(const Tensors &tensors, std::vector<std::string> &problems) {
  std::map<std::string, Halves> found;
  for (const auto &[name, view] : tensors.views) {
    std::string module;
    char half;
    if (!split_name(name, module, half)) {
      problems.push_back("unknown weight '" + name + "'");
      continue;
    }
    Halves &halves = found[module];
    halves.shape[half == 'B'] = view.shape;
    if (!read_floats(view, halves.values[half == 'B'])) problems.push_back(name + " holds NaN or infinity, or is of the type " + view.dtype);
  }
  return found;
}

LoraPair joined(const std::string &module, Halves &halves, const Json &config, std::vector<std::string> &problems) {
  LoraPair pair;
  const auto &a = halves.shape[0], &b = halves.shape[1];
  if (a.empty() || b.empty()) {
    problems.push_back(module + " has only lora_" + (a.empty() ? "B" : "A"));
  } else if (a.size() != 2 || b.size() != 2 || a[0] != b[1] || a[0] < 1) {
    problems.push_back(module + " has A " + written_shape(a) + " and B " + written_shape(b) + ", whose ranks differ");
  } else {
    pair = {a[0], a[1], b[0], std::move(halves.values[0]), std::move(halves.values[1]), peft_scaling(config, module, a[0])};
    if (!std::isfinite(pair.scaling)) problems.push_back(module + " has no usable scale: check lora_alpha");
  }
  return pair;
}

std::string digest_of(const LoraAdapter &adapter, const std::string &file_digest) {
  std::string text = file_digest + " [";
  for (const auto &[name, pair] : adapter.modules) {
    text += (text.back() == '[' ? "('" : ", ('") + name + "', " + python_float(pair.scaling) + ")";
  }
  return sha256_hex(text + "]");
}

/** Names of modules of another rank than the common one, as PEFT's patterns. */
Json uneven_ranks(const LoraAdapter &adapter, int64_t common) {
  Json uneven = Json::object();
  for (const auto &[name, pair] : adapter.modules) {
    if (pair.rank == common) continue;
    std::string escaped = "^";
    for (char c : name) escaped += (c == '.' ? "\\" : "") + std::string(1, c);
    uneven[escaped + "$"] = pair.rank;
  }
  return uneven;
}

/** One module's factors of all sources that adapt it, one behind the other; weights and scalings go into B. */
LoraPair side_by_side(const std::string &name, const std::vector<std::pair<LoraAdapter, double>> &sources) {
  std::vector<std::pair<const LoraPair *, float>> parts;
  LoraPair whole;
  for (const auto &[adapter, weight] : sources) {
    auto found = adapter.modules.find(name);
    if (found == adapter.modules.end()) continue;
    const LoraPair &pair = found->second;
    if (parts.empty()) whole.n_inputs = pair.n_inputs, whole.n_outputs = pair.n_outputs;
    if (pair.n_inputs != whole.n_inputs || pair.n_outputs != whole.n_outputs) {
      mismatch("Cannot merge: " + name + " has different shapes in the sources. Pick pLLMs that share one base.");
    }
    parts.emplace_back(&pair, static_cast<float>(weight * pair.scaling));
    whole.rank += pair.rank;
    whole.A.insert(whole.A.end(), pair.A.begin(), pair.A.end());
  }
  whole.B.reserve(static_cast<size_t>(whole.n_outputs * whole.rank));
  for (int64_t row = 0; row < whole.n_outputs; ++row) {
    for (const auto &[pair, factor] : parts) {
      for (int64_t k = 0; k < pair->rank; ++k) whole.B.push_back(pair->B[static_cast<size_t>(row * pair->rank + k)] * factor);
    }
  }
  return whole;
}

}  // namespace

int64_t LoraAdapter::rank() const {
  int64_t largest = 0;
  for (const auto &item : modules) largest = std::max(largest, item.second.rank);
  return largest;
}

LoraAdapter read_lora(const std::string &folder) {
  std::error_code none;
  if (!std::filesystem::is_directory(folder, none)) {
    throw Error(XPERT_NOT_FOUND, "There is no adapter folder '" + folder + "'. Check the path.");
  }
  LoraAdapter adapter;
  adapter.config = read_peft_config(folder);
  refuse_special(adapter.config, folder);
  const std::string path = folder + "/" + kAdapterWeights;
  MappedFile file(path);
  Tensors tensors = parse_safetensors(file.data(), file.size(), path);
  std::vector<std::string> problems;
  for (auto &[module, halves] : read_halves(tensors, problems)) {
    adapter.modules.emplace(module, joined(module, halves, adapter.config, problems));
  }
  if (adapter.modules.empty() && problems.empty()) problems.push_back("it has no LoRA weights");
  if (!problems.empty()) bad_file("Cannot use the adapter '" + folder + "': " + listed(problems, 6) + ". Train or fetch it again.");
  auto stated = tensors.metadata.find(kBaseKey);
  if (stated != tensors.metadata.end()) adapter.base_digest = stated->second;
  adapter.bytes = file.size();
  adapter.digest = digest_of(adapter, sha256_hex({reinterpret_cast<const char *>(file.data()), file.size()}));
  return adapter;
}

void check_base(const LoraAdapter &adapter, const std::string &base_digest, const Geometry &geometry, const std::string &name) {
  if (!adapter.base_digest.empty() && adapter.base_digest != base_digest) {
    mismatch("Cannot use '" + name + "' with this base: it was made for the base " + adapter.base_digest.substr(0, 12) + ", this one is " +
             base_digest.substr(0, 12) + ". Give the base it was trained on.");
  }
  std::map<std::string, std::array<int64_t, 2>> shapes;
  for (int64_t i = 0; i < geometry.n_layers; ++i) {
    for (size_t p = 0; p < kProjections.size(); ++p) shapes[module_name(i, p)] = geometry.shape_of(p);
  }
  std::vector<std::string> problems;
  for (const auto &[module, pair] : adapter.modules) {
    auto expected = shapes.find(module);
    if (expected == shapes.end()) {
      problems.push_back("the base has no " + module);
    } else if (expected->second != std::array<int64_t, 2>{pair.n_outputs, pair.n_inputs}) {
      problems.push_back(module + " is " + written_shape({pair.n_outputs, pair.n_inputs}) + ", the base's is " +
                         written_shape({expected->second[0], expected->second[1]}));
    }
  }
  if (!problems.empty()) mismatch("Cannot use '" + name + "' with this base: " + listed(problems, 4) + ". Give the base it was trained on.");
}

void write_lora(const std::string &folder, const LoraAdapter &adapter, const std::string &base_name) {
  const int64_t common = adapter.rank();
  Json config = adapter.config, names = Json::array();
  for (const auto &item : adapter.modules) names.push_back(item.first);
  config["peft_type"] = "LORA";
  config["task_type"] = "CAUSAL_LM";
  if (!base_name.empty() || !config.contains("base_model_name_or_path")) {
    config["base_model_name_or_path"] = base_name.empty() ? Json() : Json(base_name);
  }
  config["r"] = config["lora_alpha"] = common;
  config["use_rslora"] = false;
  config["rank_pattern"] = config["alpha_pattern"] = uneven_ranks(adapter, common);
  config["bias"] = "none";
  config["inference_mode"] = true;
  config["target_modules"] = names;
  std::vector<std::vector<float>> scaled;
  std::vector<std::pair<std::string, TensorView>> tensors;
  scaled.reserve(adapter.modules.size());  // the views point into it
  for (const auto &[name, pair] : adapter.modules) {
    scaled.push_back(pair.B);
    const auto factor = static_cast<float>(pair.scaling);
    for (float &value : scaled.back()) value *= factor;
    tensors.emplace_back(std::string(kPrefix) + name + ".lora_A.weight", view_of(pair.A, {pair.rank, pair.n_inputs}));
    tensors.emplace_back(std::string(kPrefix) + name + ".lora_B.weight", view_of(scaled.back(), {pair.n_outputs, pair.rank}));
  }
  std::map<std::string, std::string> metadata;
  if (!adapter.base_digest.empty()) metadata[kBaseKey] = adapter.base_digest;
  write_folder(folder, [&](const std::string &stage) {
    write_safetensors(stage + "/" + kAdapterWeights, tensors, metadata);
    write_atomic(stage + "/" + kAdapterConfig, config.dump(2) + "\n");
  });
}

LoraAdapter merge_lora(const std::vector<std::pair<LoraAdapter, double>> &sources) {
  auto finite = [](const auto &source) { return std::isfinite(source.second); };
  if (sources.empty() || !std::all_of(sources.begin(), sources.end(), finite)) {
    bad_input("A merge takes at least one adapter, and finite weights. Check the sources.");
  }
  LoraAdapter merged;
  merged.config = sources.front().first.config;
  std::set<std::string> bases, names;
  for (const auto &source : sources) {
    if (!source.first.base_digest.empty()) bases.insert(source.first.base_digest);
    for (const auto &item : source.first.modules) names.insert(item.first);
  }
  if (bases.size() > 1) {
    mismatch("Cannot merge adapters of different bases: " + bases.begin()->substr(0, 12) + ", " + std::next(bases.begin())->substr(0, 12) +
             ". Pick pLLMs that share one.");
  }
  if (!bases.empty()) merged.base_digest = *bases.begin();
  for (const std::string &name : names) merged.modules.emplace(name, side_by_side(name, sources));
  return merged;
}

}  // namespace xpert
