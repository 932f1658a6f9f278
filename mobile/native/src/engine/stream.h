// Text that comes token by token, given on in whole pieces of UTF-8 and without what may still become a stop word.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace xpert {

/** Takes a finished piece; true to stop. */
using OnPiece = std::function<bool(std::string_view piece)>;

/** Text of all ids so far, special tokens left out. */
using Decode = std::function<std::string(const std::vector<int64_t> &ids)>;

class TextStream {
 public:
  TextStream(std::vector<std::string> stop_words, OnPiece on_piece) : stop_words_(std::move(stop_words)), on_piece_(std::move(on_piece)) {}

  /** Takes the decoded text so far; true where a stop word ended it. */
  bool grow(const std::string &decoded);

  /** Gives what was held back; after the last token. */
  void finish();

  /** All that was given on, which is the answer when finish has returned. */
  const std::string &text() const { return text_; }

 private:
  void give(size_t end);

  const std::vector<std::string> stop_words_;
  const OnPiece on_piece_;
  std::string pending_;  // the decoded text without the blanks around it
  std::string text_;
};

}  // namespace xpert
