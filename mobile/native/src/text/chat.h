// Prompts and answers as the base was trained to see them (xpert_mobile.tokens.ChatTokenizer).
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "text/tokenizer.h"

namespace xpert {

/** May be used by several threads at a time. */
class Chat {
 public:
  /** folder: the bundle's. base: that part of its manifest. */
  Chat(const std::string &folder, const Json &base);

  const Tokenizer &tokenizer() const { return tokenizer_; }

  /** Ids that the model answers, at least one; an empty prompt is the open one. */
  std::vector<int64_t> prompt_ids(std::string_view prompt) const;

  /** Ids of an answer, closed with the end-of-text token. */
  std::vector<int64_t> answer_ids(std::string_view answer) const;

 private:
  std::vector<int64_t> encode(std::string_view text, bool add_special) const;
  std::string write_out(std::string_view prompt) const;

  Tokenizer tokenizer_;
  std::optional<std::string> template_;
  std::string specials_, open_prompt_;
  int64_t end_ = 0, vocabulary_ = 0;
};

}  // namespace xpert
