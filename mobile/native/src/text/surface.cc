#include "text/surface.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <unordered_map>
#include <unordered_set>

namespace xpert {

namespace {

constexpr const char *kShapeNames[] = {
    "log_words", "words_a_sentence", "sentence_length_spread", "letters_a_word", "long_words", "distinct_words", "exclamations",
    "questions", "commas", "semicolons", "colons", "dashes", "parentheses", "apostrophes", "quotes", "ellipses", "emoji", "hashtags",
    "bold", "line_breaks", "list_items", "digits", "capitalized_words", "all_caps_words", "lowercase_start",
};

constexpr const char *kWords[] = {
    "the", "a", "an", "of", "to", "and", "in", "is", "that", "it", "for", "you", "your", "i", "we", "our", "my", "this", "be", "are",
    "with", "as", "on", "not", "have", "has", "can", "will", "would", "should", "may", "might", "must", "could", "do", "does", "did",
    "but", "or", "if", "so", "just", "like", "really", "very", "well", "oh", "hey", "sure", "thing", "imagine", "let's", "think",
    "therefore", "thus", "however", "moreover", "which", "whom", "upon", "such", "one", "their", "they", "he", "she", "his", "her", "its",
    "thou", "thee", "thy", "doth", "hath", "'tis", "o", "gonna", "yeah", "lol", "please", "because", "when", "then", "there", "all", "no",
    "never",
};
static_assert(std::size(kShapeNames) == kShapes && std::size(kWords) == kFunctionWords);

constexpr char32_t kApostrophe = U'\u2019';

using View = std::u32string_view;

bool is_apostrophe(char32_t c) { return c == U'\'' || c == kApostrophe; }

size_t end_of_letters(View text, size_t place) {
  while (place < text.size() && is(text[place], kLetter)) ++place;
  return place;
}

/** Words: runs of letters, joined by single apostrophes; one apostrophe may stand before ('tis). */
std::vector<View> words_of(View text) {
  std::vector<View> words;
  size_t place = 0;
  while (place < text.size()) {
    const bool quoted = is_apostrophe(text[place]);
    size_t end = end_of_letters(text, quoted ? place + 1 : place);
    if (end == place + (quoted ? 1 : 0)) {
      ++place;
      continue;
    }
    // Only what starts with a letter goes on over further apostrophes.
    while (!quoted && end < text.size() && is_apostrophe(text[end])) {
      size_t next = end_of_letters(text, end + 1);
      if (next == end + 1) break;
      end = next;
    }
    words.push_back(text.substr(place, end - place));
    place = end;
  }
  return words;
}

/** Occurrences of part that do not overlap. */
double count(View text, View part) {
  size_t n = 0;
  for (size_t place = text.find(part); place != View::npos; place = text.find(part, place + part.size())) ++n;
  return static_cast<double>(n);
}

double count(View text, char32_t c) { return static_cast<double>(std::count(text.begin(), text.end(), c)); }

template <typename Test>
double count_if(View text, Test test) {
  return static_cast<double>(std::count_if(text.begin(), text.end(), test));
}

bool is_emoji(char32_t c) { return (c >= 0x1F000 && c <= 0x1FAFF) || (c >= 0x2600 && c <= 0x27BF); }
bool is_blank(char32_t c) { return c == U' ' || c == U'\t'; }
bool ends_sentence(char32_t c) { return c == U'.' || c == U'!' || c == U'?'; }

/** Whether a line starts with a bullet or a number of up to three digits, and a blank behind it. */
bool is_list_item(View line) {
  size_t place = 0;
  while (place < line.size() && place < 8 && is_blank(line[place])) ++place;
  size_t digits = 0;
  while (place + digits < line.size() && digits < 3 && is(line[place + digits], kDecimal)) ++digits;
  const View marks = digits ? View(U".)") : View(U"-*\u2022");
  place += digits;
  return place + 1 < line.size() && marks.find(line[place]) != View::npos && is_blank(line[place + 1]);
}

double count_list_items(View text) {
  double n = 0;
  for (size_t start = 0; start <= text.size();) {
    const size_t end = std::min(text.find(U'\n', start), text.size());
    n += is_list_item(text.substr(start, end - start));
    start = end + 1;
  }
  return n;
}

/** Where sentences end, and how many blanks stand in each piece between; pieces without any are left out. */
struct Sentences {
  size_t n = 0;
  std::vector<double> lengths;
};

Sentences sentences_of(View text) {
  Sentences found;
  size_t begin = 0;
  auto close = [&](size_t end) {
    const double blanks = count(text.substr(begin, end - begin), U' ');
    if (blanks > 0) found.lengths.push_back(blanks);
    begin = end;
  };
  for (size_t place = 0; place < text.size(); ++place) {
    if (!ends_sentence(text[place])) continue;
    while (place + 1 < text.size() && ends_sentence(text[place + 1])) ++place;
    close(place + 1);
    ++found.n;
  }
  close(text.size());
  return found;
}

double spread(const std::vector<double> &values) {
  if (values.empty()) return 0;
  const auto n = static_cast<double>(values.size());
  const double mean = pairwise_sum(values.data(), values.size()) / n;
  std::vector<double> squares;
  for (double value : values) squares.push_back((value - mean) * (value - mean));
  return std::sqrt(pairwise_sum(squares.data(), squares.size()) / n);
}

double starts_in_lower_case(View text) {
  for (char32_t c : text) {
    if (!is(c, kSpace)) return is(c, kLowerCase) ? 1 : 0;
  }
  return 0;
}

/** What words have in common, counted. */
struct WordCounts {
  double letters = 0, longer = 0, capitalized = 0, all_caps = 0;
};

WordCounts counts_of(const std::vector<View> &words) {
  WordCounts found;
  for (View word : words) {
    found.letters += static_cast<double>(word.size());
    found.longer += word.size() > 8;
    found.capitalized += is(word.front(), kUpper);
    found.all_caps += word.size() > 1 && is_upper(word);
  }
  return found;
}

std::vector<double> shape(View text, const std::vector<View> &words, size_t n_distinct) {
  const Sentences sentences = sentences_of(text);
  const auto n_words = static_cast<double>(std::max(words.size(), size_t{1}));
  const auto n_sentences = static_cast<double>(std::max(sentences.n, size_t{1}));
  const WordCounts counts = counts_of(words);
  auto rate = [&](double n) { return 10 * n / n_words; };
  return {std::log(n_words),
          n_words / n_sentences,
          spread(sentences.lengths),
          counts.letters / n_words,
          counts.longer / n_words,
          static_cast<double>(n_distinct) / n_words,
          count(text, U'!') / n_sentences,
          count(text, U'?') / n_sentences,
          rate(count(text, U',')),
          rate(count(text, U';')),
          rate(count(text, U':')),
          rate(count(text, U'\u2014') + count(text, U'\u2013') + count(text, View(U" - "))),
          rate(count(text, U'(')),
          rate(count_if(text, is_apostrophe)),
          rate(count(text, U'"') + count(text, U'\u201C')),
          rate(count(text, View(U"...")) + count(text, U'\u2026')),
          rate(count_if(text, is_emoji)),
          rate(count(text, U'#')),
          rate(count(text, View(U"**"))),
          rate(count(text, U'\n')),
          rate(count_list_items(text)),
          rate(count_if(text, [](char32_t c) { return is(c, kDigit); })),
          counts.capitalized / n_words,
          counts.all_caps / n_words,
          starts_in_lower_case(text)};
}

Characters plain(View word) {
  Characters low = lower_case(word);
  std::replace(low.begin(), low.end(), kApostrophe, U'\'');
  return low;
}

const std::unordered_map<Characters, size_t> &places_of_words() {
  static const auto places = [] {
    std::unordered_map<Characters, size_t> found;
    for (size_t i = 0; i < kFunctionWords; ++i) {
      const std::string word = kWords[i];
      found.emplace(Characters(word.begin(), word.end()), i);
    }
    return found;
  }();
  return places;
}

double sum_of_block(const double *values, size_t n) {
  double parts[8];
  std::copy(values, values + 8, parts);
  size_t i = 8;
  for (; i + 8 <= n; i += 8) {
    for (size_t j = 0; j < 8; ++j) parts[j] += values[i + j];
  }
  double sum = ((parts[0] + parts[1]) + (parts[2] + parts[3])) + ((parts[4] + parts[5]) + (parts[6] + parts[7]));
  for (; i < n; ++i) sum += values[i];
  return sum;
}

}  // namespace

double pairwise_sum(const double *values, size_t n) {
  if (n > 128) {
    const size_t half = n / 2 / 8 * 8;
    return pairwise_sum(values, half) + pairwise_sum(values + half, n - half);
  }
  if (n >= 8) return sum_of_block(values, n);
  double sum = 0;
  for (size_t i = 0; i < n; ++i) sum += values[i];
  return sum;
}

const std::vector<std::string> &surface_names() {
  static const auto names = [] {
    std::vector<std::string> found(std::begin(kShapeNames), std::end(kShapeNames));
    for (const char *word : kWords) found.push_back(std::string("word:") + word);
    return found;
  }();
  return names;
}

std::array<float, kSurface> surface_statistics(View text) {
  std::array<float, kSurface> out{};
  const std::vector<View> words = words_of(text);
  if (words.empty() && std::all_of(text.begin(), text.end(), [](char32_t c) { return is(c, kSpace); })) return out;
  std::unordered_set<Characters> distinct;
  std::array<size_t, kFunctionWords> counts{};
  for (View word : words) {
    Characters low = plain(word);
    auto place = places_of_words().find(low);
    if (place != places_of_words().end()) ++counts[place->second];
    distinct.insert(std::move(low));
  }
  const std::vector<double> first = shape(text, words, distinct.size());
  std::transform(first.begin(), first.end(), out.begin(), [](double value) { return static_cast<float>(value); });
  const auto n_words = static_cast<double>(std::max(words.size(), size_t{1}));
  for (size_t i = 0; i < kFunctionWords; ++i) {
    out[kShapes + i] = static_cast<float>(3 * std::pow(static_cast<double>(counts[i]) / n_words, 0.5));
  }
  return out;
}

}  // namespace xpert
