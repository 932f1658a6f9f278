// Texts as token ids, by Hugging Face's own library.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

struct xpert_lib_tokenizer;

namespace xpert {

/** May be used by several threads at a time. */
class Tokenizer {
 public:
  /** path: a tokenizer.json. max_length: ids that a text has at most, special tokens included; 0 for no limit. */
  explicit Tokenizer(const std::string &path, size_t max_length = 0);

  std::vector<int64_t> ids(std::string_view text, bool add_special) const;

  /** Text of ids, special tokens left out. */
  std::string text(const std::vector<int64_t> &ids) const;

  const std::string &path() const { return path_; }

 private:
  struct Free {
    void operator()(xpert_lib_tokenizer *tokenizer) const;
  };
  std::string path_;
  std::unique_ptr<xpert_lib_tokenizer, Free> tokenizer_;
};

}  // namespace xpert
