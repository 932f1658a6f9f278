// The style space (xpert.core.space): raw vectors to features, to coefficients, and to what no word explains.
#pragma once

#include <string>
#include <vector>

#include "choice/linear.h"
#include "formats/sealed.h"

namespace xpert {

class StyleSpace {
 public:
  /** Reads a space and checks it against its digest. */
  static StyleSpace load(const std::string &path);

  /** The same of a file that is in memory; without the digest for tests that break files. */
  static StyleSpace parse(const Tensors &tensors, const std::string &name, bool check_digest = true);

  const std::string &name() const { return name_; }
  const std::string &encoder() const { return encoder_; }
  const std::string &digest() const { return digest_; }
  const std::vector<std::string> &words() const { return words_; }
  size_t n_sentence() const { return n_sentence_; }
  size_t n_statistics() const { return offset_.size(); }
  size_t dim() const { return n_sentence_ + offset_.size(); }
  size_t n_axes() const { return words_.size(); }

  /** Refuses an encoder that this space was not made for. */
  void check_encoder(const std::string &encoder) const;

  /** Coefficients of a raw vector of dim() numbers. */
  Vector coefficients(const float *raw) const;

  /** What no axis explains of a raw vector, in the statistics alone. */
  Vector unexplained(const float *raw) const;

  /** Coefficients times axes: the whitened difference that they describe. */
  Vector along_axes(const Vector &coefficients) const { return multiply(coefficients.data(), axes_); }

 private:
  Vector features(const float *raw) const;
  void read_description(const Tensors &tensors, const std::string &file, const Json &header);
  void read_arrays(const Tensors &tensors, const std::string &file);
  void solve();
  std::string content_digest(const Tensors &tensors) const;

  std::string name_, encoder_, digest_;
  int64_t version_ = 0;
  std::vector<std::string> words_;
  size_t n_sentence_ = 0;
  double sentence_weight_ = 0, ridge_ = 0;
  std::vector<double> offset_, scale_;
  Matrix whitening_, axes_, solver_, projection_;
};

}  // namespace xpert
