#include "engine/stream.h"

#include <algorithm>

#include "base/error.h"

namespace xpert {

namespace {

constexpr std::string_view kBlanks = " \t\n\r\f\v";
constexpr std::string_view kReplacement = "\xEF\xBF\xBD";  // what tokenizers write for bytes that are no character yet

std::string stripped(const std::string &text) {
  const size_t begin = text.find_first_not_of(kBlanks);
  if (begin == std::string::npos) return "";
  return text.substr(begin, text.find_last_not_of(kBlanks) + 1 - begin);
}

/** Length of text without the characters at its end that later tokens may change. */
size_t settled(std::string_view text) {
  while (text.size() >= kReplacement.size() && text.substr(text.size() - kReplacement.size()) == kReplacement) {
    text.remove_suffix(kReplacement.size());
  }
  return text.size();
}

/** Length of the longest end of text that word begins with. */
size_t overlap(std::string_view text, std::string_view word) {
  for (size_t n = std::min(text.size(), word.size()); n > 0; --n) {
    if (text.substr(text.size() - n) == word.substr(0, n)) return n;
  }
  return 0;
}

}  // namespace

bool TextStream::grow(const std::string &decoded) {
  size_t stop = std::string::npos;
  for (const std::string &word : stop_words_) stop = std::min(stop, decoded.find(word));
  pending_ = stripped(decoded.substr(0, stop));
  if (stop != std::string::npos) return true;
  size_t held = 0;
  for (const std::string &word : stop_words_) held = std::max(held, overlap(decoded, word));
  const size_t begin = std::min(decoded.find_first_not_of(kBlanks), decoded.size());
  const size_t open = decoded.size() - held;
  std::string_view safe = std::string_view(decoded).substr(0, open).substr(std::min(begin, open));
  safe = safe.substr(0, settled(safe));
  const size_t last = safe.find_last_not_of(kBlanks);
  give(last == std::string_view::npos ? 0 : last + 1);
  return false;
}

void TextStream::finish() { give(pending_.size()); }

void TextStream::give(size_t end) {
  end = std::min(end, pending_.size());
  if (end <= text_.size()) return;
  const std::string piece = pending_.substr(text_.size(), end - text_.size());
  text_ += piece;
  if (on_piece_ && on_piece_(piece)) throw Error(XPERT_CANCELLED, "The answer was stopped. Ask again for a whole one.");
}

}  // namespace xpert
