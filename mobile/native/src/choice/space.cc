#include "choice/space.h"

#include <algorithm>
#include <cmath>

#include "base/files.h"

namespace xpert {

namespace {

constexpr const char *kFormat = "xpert-space";
constexpr int kVersion = 1;
constexpr size_t kMostColumns = 8192;
constexpr size_t kLargestFile = size_t{1} << 29;

double number_of(const Json &header, const char *key, const std::string &file) {
  const Json value = header.value(key, Json());
  if (!value.is_number()) unusable(file, std::string("its '") + key + "' is no number");
  return value.get<double>();
}

Matrix matrix_of(const Vector &values, size_t n_rows, size_t n_columns) {
  Matrix out(n_rows, n_columns);
  if (!values.empty()) std::copy(values.begin(), values.end(), out.row(0));
  return out;
}

}  // namespace

StyleSpace StyleSpace::load(const std::string &path) {
  const std::string data = read_file(path, kLargestFile);
  return parse(parse_safetensors(reinterpret_cast<const std::byte *>(data.data()), data.size(), path), path);
}

StyleSpace StyleSpace::parse(const Tensors &tensors, const std::string &name, bool check_digest) {
  const Json header = read_header(tensors, kFormat, kVersion, name);
  StyleSpace space;
  space.read_description(tensors, name, header);
  space.read_arrays(tensors, name);
  space.digest_ = space.content_digest(tensors);
  if (check_digest && header.value("digest", Json()) != Json(space.digest_)) {
    bad_file("'" + name + "' was changed after it was written: its digest is " + space.digest_.substr(0, 12) + ", it says " +
             python_json(header.value("digest", Json())).substr(0, 13) + ". Fetch or build it again.");
  }
  space.solve();
  return space;
}

void StyleSpace::read_description(const Tensors &tensors, const std::string &file, const Json &header) {
  words_ = words_of(header, file);
  name_ = text_of(header, "name", file);
  encoder_ = text_of(header, "encoder", file);
  version_ = whole_of(header, "space_version", -2147483647, file);
  n_sentence_ = static_cast<size_t>(whole_of(header, "n_sentence", 0, file));
  sentence_weight_ = number_of(header, "sentence_weight", file);
  ridge_ = number_of(header, "ridge", file);
  if (!(sentence_weight_ >= 0 && ridge_ > 0)) unusable(file, "its sentence_weight is below 0, or its ridge not above 0");
  const auto n_statistics = static_cast<size_t>(array_of(tensors, "offset", "F32", {-1}, file).shape[0]);
  if (dim() + n_statistics > kMostColumns) {
    unusable(file, "it takes " + std::to_string(dim() + n_statistics) + " columns, at most " + std::to_string(kMostColumns) + " are read");
  }
}

void StyleSpace::read_arrays(const Tensors &tensors, const std::string &file) {
  offset_ = finite(tensors, "offset", file);
  const auto n = static_cast<int64_t>(offset_.size()), wide = static_cast<int64_t>(dim()), k = static_cast<int64_t>(n_axes());
  array_of(tensors, "scale", "F32", {n}, file);
  array_of(tensors, "whitening", "F32", {wide, wide}, file);
  array_of(tensors, "axes", "F32", {k, wide}, file);
  scale_ = finite(tensors, "scale", file);
  if (std::any_of(scale_.begin(), scale_.end(), [](double value) { return value <= 0; })) unusable(file, "its scale holds values of 0 or below");
  whitening_ = matrix_of(finite(tensors, "whitening", file), dim(), dim());
  axes_ = matrix_of(finite(tensors, "axes", file), n_axes(), dim());
}

std::string StyleSpace::content_digest(const Tensors &tensors) const {
  const Json description = {{"name", name_},
                            {"space_version", version_},
                            {"encoder", encoder_},
                            {"words", words_},
                            {"n_sentence", n_sentence_},
                            {"sentence_weight", sentence_weight_},
                            {"ridge", ridge_}};
  std::string parts = sha256_hex(python_json(description));
  for (const char *key : {"offset", "scale", "whitening", "axes"}) {
    const TensorView &view = tensors.views.at(key);
    parts += sha256_hex({reinterpret_cast<const char *>(view.data), view.bytes});
  }
  return sha256_hex(parts);
}

void StyleSpace::solve() {
  const size_t k = n_axes();
  Matrix gram(k, k), lower;
  for (size_t i = 0; i < k; ++i) {
    for (size_t j = 0; j < k; ++j) gram.at(i, j) = dot(axes_.row(i), axes_.row(j), dim());
  }
  const double ridge = ridge_ * trace(gram) / static_cast<double>(k);
  for (size_t i = 0; i < k; ++i) gram.at(i, i) += ridge;
  if (!factor(gram, lower)) bad_file("The axes of the style space '" + name_ + "' have no length. Build it again.");
  solver_ = Matrix(dim(), k);
  for (size_t i = 0; i < dim(); ++i) {
    for (size_t j = 0; j < k; ++j) solver_.at(i, j) = axes_.at(j, i);
  }
  solve_rows(lower, solver_);
  projection_ = Matrix(dim(), k);
  for (size_t i = 0; i < dim(); ++i) {
    const Vector row = multiply(whitening_.row(i), solver_);
    std::copy(row.begin(), row.end(), projection_.row(i));
  }
}

void StyleSpace::check_encoder(const std::string &encoder) const {
  if (encoder == encoder_) return;
  mismatch("The style space '" + name_ + "' was made with the encoder '" + encoder_ + "', found '" + encoder +
           "'. Use that encoder, or build a space for yours.");
}

Vector StyleSpace::features(const float *raw) const {
  Vector out(dim());
  for (size_t i = 0; i < dim(); ++i) {
    const double value = raw[i];
    if (!std::isfinite(value)) bad_input("The texts' vectors hold NaN or infinity: the encoder is broken. Check its model files.");
    const size_t j = i - n_sentence_;
    out[i] = i < n_sentence_ ? sentence_weight_ * value : std::tanh((value - offset_[j]) / (2 * scale_[j]));
  }
  return out;
}

Vector StyleSpace::coefficients(const float *raw) const { return multiply(features(raw).data(), projection_); }

Vector StyleSpace::unexplained(const float *raw) const {
  const Vector whitened = multiply(features(raw).data(), whitening_);
  const Vector explained = along_axes(multiply(whitened.data(), solver_));
  Vector out(n_statistics());
  for (size_t i = 0; i < out.size(); ++i) out[i] = whitened[n_sentence_ + i] - explained[n_sentence_ + i];
  return out;
}

}  // namespace xpert
