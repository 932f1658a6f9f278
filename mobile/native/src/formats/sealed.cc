#include "formats/sealed.h"

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <set>

#include "base/files.h"

namespace xpert {

namespace {

constexpr size_t kMostWords = 1024;
constexpr int64_t kLargest = 2147483647;

/** The shortest digits that read back as the same number, laid out as Python's repr does. */
std::string python_float(double value) {
  char text[40];
  int precision = 0;
  do {
    std::snprintf(text, sizeof text, "%.*e", precision, value);
  } while (std::strtod(text, nullptr) != value && ++precision < 17);
  std::string digits;
  const char *mark = std::strchr(text, 'e');
  for (const char *c = text; c < mark; ++c) {
    if (*c >= '0' && *c <= '9') digits += *c;
  }
  const int exponent = std::atoi(mark + 1);
  const std::string sign = std::signbit(value) ? "-" : "";
  if (exponent < -4 || exponent >= 16) {
    std::snprintf(text, sizeof text, "e%c%02d", exponent < 0 ? '-' : '+', std::abs(exponent));
    return sign + digits.substr(0, 1) + (digits.size() > 1 ? "." + digits.substr(1) : "") + text;
  }
  if (exponent < 0) return sign + "0." + std::string(static_cast<size_t>(-exponent - 1), '0') + digits;
  const auto whole = static_cast<size_t>(exponent) + 1;
  if (digits.size() <= whole) return sign + digits + std::string(whole - digits.size(), '0') + ".0";
  return sign + digits.substr(0, whole) + "." + digits.substr(whole);
}

std::string shown(const std::vector<int64_t> &shape) {
  std::string text = "(";
  for (int64_t n : shape) text += (text.size() > 1 ? ", " : "") + (n < 0 ? std::string("any") : std::to_string(n));
  return text + ")";
}

}  // namespace

std::string python_json(const Json &value) {
  if (value.is_number_float()) return python_float(value.get<double>());
  if (!value.is_structured()) return value.dump(-1, ' ', true);
  std::string out;
  for (const auto &item : value.items()) {  // objects are sorted by key already
    if (!out.empty()) out += ", ";
    if (value.is_object()) out += Json(item.key()).dump(-1, ' ', true) + ": ";
    out += python_json(item.value());
  }
  return value.is_object() ? "{" + out + "}" : "[" + out + "]";
}

Json read_header(const Tensors &tensors, const std::string &kind, int max_version, const std::string &name) {
  auto found = tensors.metadata.find("xpert");
  const std::string text = found == tensors.metadata.end() ? "null" : found->second;
  Json header = parse_json(text, "the header of '" + name + "'", XPERT_BAD_FILE);
  const Json format = header.is_object() ? header.value("format", Json()) : Json();
  if (format != Json(kind)) {
    bad_file("'" + name + "' is not a file of format '" + kind + "': found " + python_json(format) + ". Give the right file.");
  }
  const Json version = header.value("version", Json());
  if (!version.is_number_integer() || version < 1) {
    bad_file("'" + name + "' has the version " + python_json(version) + "; expected a whole number from 1. Make it again.");
  }
  if (version > max_version) {
    bad_file("'" + name + "' has version " + python_json(version) + " of '" + kind + "', this program reads up to " +
             std::to_string(max_version) + ". Upgrade xpert.");
  }
  return header;
}

std::string content_digest(const Json &header, const Tensors &tensors) {
  Json rest = header;
  rest.erase("digest");
  std::string parts = sha256_hex(python_json(rest));
  for (const auto &[name, view] : tensors.views) {
    std::string part = name;
    part.append(reinterpret_cast<const char *>(view.data), view.bytes);
    parts += sha256_hex(part);
  }
  return sha256_hex(parts);
}

Json read_sealed(const Tensors &tensors, const std::string &kind, int max_version, const std::string &name) {
  Json header = read_header(tensors, kind, max_version, name);
  if (header.value("digest", Json()) != Json(content_digest(header, tensors))) {
    bad_file("'" + name + "' was changed after it was written: its digest does not fit. Fetch or export it again.");
  }
  return header;
}

void unusable(const std::string &name, const std::string &what) {
  bad_file("'" + name + "' cannot be used: " + what + ". Fetch or export it again.");
}

const TensorView &array_of(const Tensors &tensors, const std::string &array, const std::string &dtype, const std::vector<int64_t> &shape,
                           const std::string &name) {
  auto found = tensors.views.find(array);
  if (found == tensors.views.end()) unusable(name, "it has no array '" + array + "'");
  const TensorView &view = found->second;
  bool fits = view.dtype == dtype && view.shape.size() == shape.size();
  for (size_t i = 0; fits && i < shape.size(); ++i) fits = shape[i] < 0 || shape[i] == view.shape[i];
  if (!fits) unusable(name, "its '" + array + "' is " + view.dtype + " of " + shown(view.shape) + ", expected " + dtype + " of " + shown(shape));
  return view;
}

std::vector<double> finite(const Tensors &tensors, const std::string &array, const std::string &name) {
  auto found = tensors.views.find(array);
  if (found == tensors.views.end()) unusable(name, "it has no array '" + array + "'");
  if (found->second.dtype != "F32") unusable(name, "its '" + array + "' is " + found->second.dtype + ", expected F32");
  std::vector<float> values(found->second.count());
  if (!values.empty()) std::memcpy(values.data(), found->second.data, found->second.bytes);
  for (float value : values) {
    if (!std::isfinite(value)) unusable(name, "its '" + array + "' holds NaN or infinity");
  }
  return {values.begin(), values.end()};
}

std::string text_of(const Json &header, const std::string &key, const std::string &name) {
  const Json value = header.value(key, Json());
  if (!value.is_string()) unusable(name, "its '" + key + "' is no text");
  return value.get<std::string>();
}

int64_t whole_of(const Json &header, const std::string &key, int64_t smallest, const std::string &name) {
  const Json value = header.value(key, Json());
  if (!value.is_number_integer() || value < smallest || value > kLargest) {
    unusable(name, "its '" + key + "' is " + python_json(value) + ", expected a whole number from " + std::to_string(smallest));
  }
  return value.get<int64_t>();
}

std::vector<std::string> words_of(const Json &header, const std::string &name) {
  const Json value = header.value("words", Json());
  std::set<std::string> seen;
  std::vector<std::string> words;
  if (!value.is_array() || value.empty() || value.size() > kMostWords) {
    unusable(name, "its words are no list of 1 to " + std::to_string(kMostWords) + " texts");
  }
  for (const Json &word : value) {
    if (!word.is_string() || word.get<std::string>().empty() || !seen.insert(word.get<std::string>()).second) {
      unusable(name, "its words are not all different texts");
    }
    words.push_back(word.get<std::string>());
  }
  return words;
}

}  // namespace xpert
