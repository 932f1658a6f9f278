// Text to raw vector: a sentence embedding by an ExecuTorch program, beside the surface statistics (xpert.core.encoder).
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace xpert {

/** What a bundle's manifest says of its encoder; program and tokenizer are paths. */
struct EncoderFiles {
  std::string name, program, tokenizer;
  size_t dim = 0, max_length = 0;
};

/** Not for use by two threads at a time. */
class Encoder {
 public:
  /** Loads program and tokenizer; refuses what does not belong together. */
  Encoder(const EncoderFiles &files, int threads);
  ~Encoder();
  Encoder(const Encoder &) = delete;
  Encoder &operator=(const Encoder &) = delete;

  /** What style spaces record: the sentence encoder's name and the version of the statistics. */
  const std::string &name() const { return name_; }

  /** Columns of a raw vector, and how many of them are the sentence embedding. */
  size_t dim() const;
  size_t n_sentence() const { return files_.dim; }

  /** Raw vectors of texts, row by row. pause is called before each text and may throw. */
  std::vector<float> encode(const std::vector<std::string_view> &texts, const std::function<void()> &pause) const;

 private:
  struct Parts;
  std::vector<int64_t> ids_of(std::string_view text) const;
  void embed(const std::vector<int64_t> &ids, float *out) const;

  EncoderFiles files_;
  std::string name_;
  std::unique_ptr<Parts> parts_;
};

}  // namespace xpert
