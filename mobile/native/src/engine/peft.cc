#include "engine/peft.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <limits>

#include "base/error.h"
#include "base/files.h"

namespace xpert {

namespace {

constexpr size_t kLargestConfig = size_t{1} << 24;

/**
 * Whether a key of alpha_pattern means a module, as PEFT matches it: the whole name, or its tail after a dot. PEFT takes any regular
 * expression; here a name with dots, escapes and anchors is understood, for an expression from outside could take forever.
 */
bool means(std::string pattern, const std::string &module) {
  const bool anchored = !pattern.empty() && pattern.front() == '^';
  if (anchored) pattern.erase(0, 1);
  if (!pattern.empty() && pattern.back() == '$' && (pattern.size() < 2 || pattern[pattern.size() - 2] != '\\')) pattern.pop_back();
  std::string plain;
  std::vector<bool> any;
  for (size_t i = 0; i < pattern.size(); ++i) {
    char c = pattern[i];
    const bool escaped = c == '\\' && i + 1 < pattern.size();
    if (escaped) c = pattern[++i];
    if (escaped ? std::isalnum(static_cast<unsigned char>(c)) != 0 : std::strchr("*+?[](){}|\\^$", c) != nullptr) {
      bad_file("The adapter's alpha_pattern has the expression '" + pattern + "', names alone are understood. Write it with module names.");
    }
    plain += c;
    any.push_back(!escaped && c == '.');
  }
  if (plain.size() > module.size()) return false;
  const size_t begin = module.size() - plain.size();
  if (begin && (anchored || module[begin - 1] != '.')) return false;
  for (size_t i = 0; i < plain.size(); ++i) {
    if (!any[i] && plain[i] != module[begin + i]) return false;
  }
  return true;
}

float from_half(uint16_t bits) {
  const int exponent = (bits >> 10) & 31, fraction = bits & 1023;
  const float sign = bits & 0x8000 ? -1.0F : 1.0F;
  if (exponent == 31) return fraction ? std::numeric_limits<float>::quiet_NaN() : sign * std::numeric_limits<float>::infinity();
  if (!exponent) return sign * std::ldexp(static_cast<float>(fraction), -24);
  return sign * std::ldexp(static_cast<float>(fraction + 1024), exponent - 25);
}

float from_brain(uint16_t bits) {
  const uint32_t whole = static_cast<uint32_t>(bits) << 16;
  float value;
  std::memcpy(&value, &whole, sizeof value);
  return value;
}

}  // namespace

Json read_peft_config(const std::string &folder) {
  const std::string path = folder + "/" + kAdapterConfig;
  Json config = parse_json(read_file(path, kLargestConfig), "'" + path + "'", XPERT_BAD_FILE);
  if (!config.is_object() || !config.contains("peft_type") || !config.at("peft_type").is_string()) {
    bad_file("'" + path + "' describes no adapter: it has no peft_type. Fetch the adapter again.");
  }
  std::string kind = config.at("peft_type").get<std::string>();
  std::transform(kind.begin(), kind.end(), kind.begin(), [](unsigned char c) { return static_cast<char>(std::toupper(c)); });
  config["peft_type"] = kind;
  return config;
}

double peft_scaling(const Json &config, const std::string &module, int64_t rank) {
  const double none = std::numeric_limits<double>::quiet_NaN();
  auto number = [&](const Json &value) { return value.is_number() ? value.get<double>() : none; };
  double alpha = config.contains("lora_alpha") ? number(config.at("lora_alpha")) : static_cast<double>(rank);
  if (config.contains("alpha_pattern") && !config.at("alpha_pattern").is_null()) {
    if (!config.at("alpha_pattern").is_object()) return none;
    for (const auto &item : config.at("alpha_pattern").items()) {
      if (!means(item.key(), module)) continue;
      alpha = number(item.value());
      break;
    }
  }
  const bool stabilized = config.contains("use_rslora") && config.at("use_rslora") == true;
  return alpha / (stabilized ? std::sqrt(static_cast<double>(rank)) : static_cast<double>(rank));
}

bool read_floats(const TensorView &view, std::vector<float> &values) {
  const size_t n = view.count();
  values.resize(n);
  if (view.dtype == "F32") {
    std::memcpy(values.data(), view.data, n * sizeof(float));
  } else if (view.dtype == "F16" || view.dtype == "BF16") {
    for (size_t i = 0; i < n; ++i) {
      uint16_t bits;
      std::memcpy(&bits, view.data + i * sizeof bits, sizeof bits);
      values[i] = view.dtype == "F16" ? from_half(bits) : from_brain(bits);
    }
  } else {
    return false;
  }
  return std::all_of(values.begin(), values.end(), [](float value) { return std::isfinite(value); });
}

std::string written_shape(const std::vector<int64_t> &shape) {
  std::string text = "(";
  for (size_t i = 0; i < shape.size(); ++i) text += (i ? ", " : "") + std::to_string(shape[i]);
  return text + ")";
}

std::string listed(const std::vector<std::string> &problems, size_t most) {
  std::string text;
  for (size_t i = 0; i < std::min(problems.size(), most); ++i) text += (i ? "; " : "") + problems[i];
  return problems.size() > most ? text + "; and " + std::to_string(problems.size() - most) + " more" : text;
}

std::string python_float(double value) {
  if (value == 0 || !std::isfinite(value)) return std::signbit(value) ? "-0.0" : "0.0";
  char buffer[64];
  auto end = std::to_chars(buffer, buffer + sizeof buffer, value, std::chars_format::scientific).ptr;
  const std::string text(buffer, end);
  const size_t e = text.find('e');
  const int exponent = std::atoi(text.c_str() + e + 1);
  if (exponent < -4 || exponent >= 16) return text;  // both write at least two digits of the exponent
  char fixed[64];
  end = std::to_chars(fixed, fixed + sizeof fixed, value, std::chars_format::fixed).ptr;
  std::string plain(fixed, end);
  return plain.find('.') == std::string::npos ? plain + ".0" : plain;
}

}  // namespace xpert
