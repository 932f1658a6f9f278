#include "choice/catalogue.h"

#include <cmath>
#include <cstring>
#include <limits>

#include "base/files.h"
#include "choice/posterior.h"

namespace xpert {

namespace {

constexpr const char *kCompact = "xpert-catalogue-compact", *kIndex = "xpert-catalogue-cells", *kCell = "xpert-catalogue-cell";
constexpr int kVersion = 1;
constexpr double kStep = 1.0 / 4096;
constexpr double kTolerance = 0.1;  // rounding may leave a covariance a little below zero in some direction
constexpr size_t kLargestFile = size_t{1} << 30;

Tensors tensors_of(const std::string &data, const std::string &name) {
  return parse_safetensors(reinterpret_cast<const std::byte *>(data.data()), data.size(), name);
}

Json header_of(const Tensors &tensors, const char *kind, const std::string &name, bool check_digest) {
  return check_digest ? read_sealed(tensors, kind, kVersion, name) : read_header(tensors, kind, kVersion, name);
}

template <typename Value>
Value value_at(const TensorView &view, size_t i) {
  Value value;
  std::memcpy(&value, view.data + i * sizeof(Value), sizeof(Value));
  return value;
}

double half_at(const TensorView &view, size_t i) {
  const auto bits = value_at<uint16_t>(view, i);
  const int exponent = (bits >> 10) & 0x1F, fraction = bits & 0x3FF;
  double value = exponent ? std::ldexp(fraction + 1024, exponent - 25) : std::ldexp(fraction, -24);
  if (exponent == 31) value = std::numeric_limits<double>::infinity();
  return bits & 0x8000 ? -value : value;
}

/** A matrix from its upper half, row by row; refuses what is no covariance. */
Matrix covariance(const Vector &upper, size_t k, const std::string &name) {
  if (upper.size() != k * (k + 1) / 2) unusable(name, "its noise has " + std::to_string(upper.size()) + " values for " + std::to_string(k) + " words");
  Matrix out(k, k), raised, lower;
  size_t next = 0;
  for (size_t i = 0; i < k; ++i) {
    for (size_t j = i; j < k; ++j) out.at(i, j) = out.at(j, i) = upper[next++];
  }
  raised = out;
  const double mean = trace(out) / static_cast<double>(k);
  for (size_t i = 0; i < k; ++i) raised.at(i, i) += kTolerance * mean + 1e-12 * std::abs(mean) + 1e-300;
  if (!factor(raised, lower)) unusable(name, "its noise is no covariance");
  return out;
}

/** Steps and middles of a matrix in one byte a number. */
struct Steps {
  TensorView steps;
  Vector step, middle;
};

Steps steps_of(const Tensors &tensors, const std::string &array, size_t k, const std::string &name) {
  Steps found;
  const auto n = static_cast<int64_t>(k);
  found.steps = array_of(tensors, array, "I8", {-1, n}, name);
  if (found.steps.shape[0] == 0) unusable(name, "its '" + array + "' is empty");
  array_of(tensors, "step", "F32", {n}, name);
  array_of(tensors, "middle", "F32", {n}, name);
  found.step = finite(tensors, "step", name);
  found.middle = finite(tensors, "middle", name);
  return found;
}

}  // namespace

void Shared::check_space(const std::string &found, const std::string &space_name) const {
  if (found == space_digest) return;
  mismatch("The catalogue was made in the style space " + space_digest.substr(0, 12) + ", found '" + space_name + "' with digest " +
           found.substr(0, 12) + ". Use the catalogue's space, or explain its pLLMs again in this one.");
}

Shared read_shared(const Json &header, const Tensors &tensors, const std::string &name) {
  Shared found;
  found.words = words_of(header, name);
  const size_t k = found.words.size();
  found.n_probes = static_cast<double>(whole_of(header, "n_probes", 1, name));
  found.base_digest = text_of(header, "base_digest", name);
  found.space_digest = text_of(header, "space_digest", name);
  found.digest = text_of(header, "digest", name);
  array_of(tensors, "noise", "F32", {-1}, name);
  array_of(tensors, "base", "F32", {static_cast<int64_t>(k)}, name);
  array_of(tensors, "base_unexplained", "F32", {-1}, name);
  found.noise = covariance(finite(tensors, "noise", name), k, name);
  found.base = finite(tensors, "base", name);
  found.base_unexplained = finite(tensors, "base_unexplained", name);
  return found;
}

void Candidates::row(size_t i, double *out) const {
  const size_t k = n_words(), first = i * k;
  for (size_t j = 0; j < k; ++j) {
    const double steps = steps_.dtype == "I16" ? value_at<int16_t>(steps_, first + j) : value_at<int8_t>(steps_, first + j);
    out[j] = row_scale_.empty() ? steps * step_[j] + middle_[j] : steps * row_scale_[i];
  }
}

std::string Candidates::name(size_t i) const {
  constexpr char kDigits[] = "0123456789abcdef";
  std::string out;
  for (size_t j = 0; j < 8; ++j) {
    const auto byte = value_at<uint8_t>(ids_, 8 * i + j);
    out += kDigits[byte >> 4];
    out += kDigits[byte & 15];
  }
  return out;
}

int64_t Candidates::adapter_bytes(size_t i) const { return int64_t{value_at<uint32_t>(kib_, i)} * 1024; }

void Candidates::read_rows(const Tensors &tensors, const std::string &name) {
  n_ = static_cast<size_t>(steps_.shape[0]);
  const auto n = static_cast<int64_t>(n_);
  if (n == 0) unusable(name, "it holds no pLLM");
  ids_ = array_of(tensors, "ids", "U8", {n, 8}, name);
  kib_ = array_of(tensors, "kib", "U32", {n}, name);
}

Vector Candidates::mean_with_base() const {
  Vector sum(n_words()), one(n_words());
  for (size_t i = 0; i < n_; ++i) {
    row(i, one.data());
    for (size_t j = 0; j < one.size(); ++j) sum[j] += one[j];
  }
  for (double &value : sum) value /= static_cast<double>(n_ + 1);
  return sum;
}

Candidates parse_compact(std::shared_ptr<const std::string> data, const std::string &name, bool check_digest) {
  const Tensors tensors = tensors_of(*data, name);
  const Json header = header_of(tensors, kCompact, name, check_digest);
  Candidates found;
  found.data_ = std::move(data);
  found.shared_ = read_shared(header, tensors, name);
  const size_t k = found.n_words();
  const bool scaled = tensors.views.count("scale") > 0;
  found.steps_ = array_of(tensors, "coefficients", scaled ? "I8" : "I16", {-1, static_cast<int64_t>(k)}, name);
  found.read_rows(tensors, name);
  if (scaled) {
    const TensorView &scale = array_of(tensors, "scale", "F16", {static_cast<int64_t>(found.n_)}, name);
    for (size_t i = 0; i < found.n_; ++i) {
      found.row_scale_.push_back(half_at(scale, i) / 127);
      if (!std::isfinite(found.row_scale_.back())) unusable(name, "its 'scale' holds NaN or infinity");
    }
  } else {
    found.step_.assign(k, kStep);
    found.middle_.assign(k, 0.0);
  }
  found.centre_ = found.mean_with_base();
  return found;
}

Candidates parse_cell(std::shared_ptr<const std::string> data, const CellIndex &index, const std::string &name, bool check_digest) {
  const Tensors tensors = tensors_of(*data, name);
  const Json header = header_of(tensors, kCell, name, check_digest);
  const std::string owner = text_of(header, "index", name);
  const int64_t number = whole_of(header, "number", 0, name);
  if (owner != index.shared().digest || static_cast<size_t>(number) >= index.n_cells()) {
    mismatch("'" + name + "' is cell " + std::to_string(number) + " of the index " + owner.substr(0, 12) + ", expected one of the " +
             std::to_string(index.n_cells()) + " cells of " + index.shared().digest.substr(0, 12) +
             ". Fetch the index again, then the cell.");
  }
  Candidates found;
  found.data_ = std::move(data);
  found.cell_number_ = static_cast<size_t>(number);
  found.shared_ = index.shared();
  Steps steps = steps_of(tensors, "coefficients", found.n_words(), name);
  found.steps_ = steps.steps;
  found.step_ = std::move(steps.step);
  found.middle_ = std::move(steps.middle);
  found.read_rows(tensors, name);
  found.centre_ = index.crowd();
  return found;
}

CellIndex CellIndex::load(const std::string &path) { return parse(read_file(path, kLargestFile), path); }

CellIndex CellIndex::parse(const std::string &data, const std::string &name, bool check_digest) {
  const Tensors tensors = tensors_of(data, name);
  const Json header = header_of(tensors, kIndex, name, check_digest);
  CellIndex found;
  found.shared_ = read_shared(header, tensors, name);
  const size_t k = found.shared_.words.size();
  found.n_pllms_ = whole_of(header, "n_pllms", 1, name);
  const Steps steps = steps_of(tensors, "centres", k, name);
  found.centres_ = Matrix(static_cast<size_t>(steps.steps.shape[0]), k);
  for (size_t i = 0; i < found.n_cells(); ++i) {
    for (size_t j = 0; j < k; ++j) found.centres_.at(i, j) = value_at<int8_t>(steps.steps, i * k + j) * steps.step[j] + steps.middle[j];
  }
  array_of(tensors, "crowd", "F32", {static_cast<int64_t>(k)}, name);
  found.crowd_ = finite(tensors, "crowd", name);
  found.metric_ = inverse(shrunk(found.shared_.noise), "noise");
  return found;
}

Vector CellIndex::centre(size_t number) const {
  Vector found(shared_.words.size());
  for (size_t j = 0; j < found.size(); ++j) found[j] = centres_.at(number, j);
  return found;
}

size_t CellIndex::nearest(const Vector &value) const {
  const size_t k = value.size();
  size_t best = 0;
  double least = std::numeric_limits<double>::infinity();
  Vector gap(k);
  for (size_t i = 0; i < n_cells(); ++i) {
    for (size_t j = 0; j < k; ++j) gap[j] = value[j] - centres_.at(i, j);
    const double distance = dot(gap.data(), multiply(metric_, gap).data(), k);
    if (distance >= least) continue;
    least = distance;
    best = i;
  }
  return best;
}

std::string CellIndex::cell_name(size_t number) const { return shared_.digest.substr(0, 16) + "-" + std::to_string(number); }

Candidates load_candidates(const std::string &path, const std::string &index) {
  auto data = std::make_shared<const std::string>(read_file(path, kLargestFile));
  return index.empty() ? parse_compact(std::move(data), path) : parse_cell(std::move(data), CellIndex::load(index), path);
}

}  // namespace xpert
