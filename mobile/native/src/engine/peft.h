// What the adapter formats of PEFT share: files, configuration, values of half precision, the digest.
#pragma once

#include <string>
#include <vector>

#include "base/json.h"
#include "formats/safetensors.h"

namespace xpert {

inline constexpr const char *kAdapterWeights = "adapter_model.safetensors", *kAdapterConfig = "adapter_config.json";
/** Key in the safetensors metadata that names the base's digest: PEFT reads such a file without noticing. */
inline constexpr const char *kBaseKey = "xpert_base_digest";

/** The configuration of an adapter folder, an object with a peft_type in capitals. */
Json read_peft_config(const std::string &folder);

/** The factor of a module's update by lora_alpha, alpha_pattern and use_rslora; NaN where the configuration gives none. */
double peft_scaling(const Json &config, const std::string &module, int64_t rank);

/** Values of a tensor in single, half or brain precision as floats; false where it is of another type, or holds NaN or infinity. */
bool read_floats(const TensorView &view, std::vector<float> &values);

/** "(3, 4)" */
std::string written_shape(const std::vector<int64_t> &shape);

/** Lists problems in one sentence: the first few, and how many more there are. */
std::string listed(const std::vector<std::string> &problems, size_t most);

/** A number as Python writes it: 1.0, 1e-05. The digest of an adapter is taken over such texts. */
std::string python_float(double value);

}  // namespace xpert
