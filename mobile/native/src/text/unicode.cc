#include "text/unicode.h"

#include <algorithm>
#include <array>
#include <iterator>

#include "base/error.h"

namespace xpert {

namespace {

struct ClassRange {
  uint32_t first, last;
  uint16_t classes;
};

struct LowerRange {
  uint32_t first, last, step;
  int32_t difference;
};

struct LongerLower {
  uint32_t from, first, second;
};

#include "text/unicode_tables.inc"

constexpr size_t kQuick = 0x180;  // most texts stay below: no search for them

template <typename Range, size_t n>
const Range *find(const Range (&table)[n], char32_t c) {
  const Range *next = std::upper_bound(std::begin(table), std::end(table), c, [](char32_t value, const Range &r) { return value < r.first; });
  return next != std::begin(table) && c <= (next - 1)->last ? next - 1 : nullptr;
}

uint16_t searched(char32_t c) {
  const ClassRange *range = find(kClasses, c);
  return range ? range->classes : uint16_t{0};
}

std::array<uint16_t, kQuick> quick_table() {
  std::array<uint16_t, kQuick> table{};
  for (size_t c = 0; c < kQuick; ++c) table[c] = searched(static_cast<char32_t>(c));
  return table;
}

/** Whether the sigma at place ends a word: a cased character before it, none behind, ignorable ones left out. */
bool is_final_sigma(std::u32string_view text, size_t place) {
  size_t before = place;
  while (before > 0 && is(text[before - 1], kIgnorable)) --before;
  if (before == 0 || !is(text[before - 1], kCased)) return false;
  size_t behind = place + 1;
  while (behind < text.size() && is(text[behind], kIgnorable)) ++behind;
  return behind == text.size() || !is(text[behind], kCased);
}

void append_lower(std::u32string_view text, size_t place, Characters &out) {
  const char32_t c = text[place];
  if (c == U'\u03A3') {
    out += is_final_sigma(text, place) ? U'\u03C2' : U'\u03C3';
    return;
  }
  for (const LongerLower &one : kLonger) {
    if (one.from != c) continue;
    out += {static_cast<char32_t>(one.first), static_cast<char32_t>(one.second)};
    return;
  }
  const LowerRange *range = find(kLower, c);
  bool maps = range && (c - range->first) % range->step == 0;
  out += maps ? static_cast<char32_t>(static_cast<int64_t>(c) + range->difference) : c;
}

/** Bytes of the character that starts with lead, 0 for none. */
size_t length_of(unsigned char lead) {
  if (lead < 0x80) return 1;
  if (lead >= 0xC2 && lead < 0xE0) return 2;
  if (lead >= 0xE0 && lead < 0xF0) return 3;
  return lead >= 0xF0 && lead < 0xF5 ? 4 : 0;
}

/** The character at place, or an invalid one; n is set to its bytes. */
char32_t character_at(std::string_view text, size_t place, size_t &n) {
  constexpr char32_t kNone = 0xFFFFFFFF;
  constexpr char32_t kSmallest[] = {0, 0, 0x80, 0x800, 0x10000};
  const auto lead = static_cast<unsigned char>(text[place]);
  n = length_of(lead);
  if (n == 0 || place + n > text.size()) return kNone;
  if (n == 1) return lead;
  auto c = static_cast<char32_t>(lead & (0xFFU >> (n + 1)));
  for (size_t i = 1; i < n; ++i) {
    const auto next = static_cast<unsigned char>(text[place + i]);
    if ((next & 0xC0) != 0x80) return kNone;
    c = (c << 6) | (next & 0x3FU);
  }
  return c < kSmallest[n] || c > 0x10FFFF || (c >= 0xD800 && c <= 0xDFFF) ? kNone : c;
}

}  // namespace

uint16_t classes_of(char32_t c) {
  static const std::array<uint16_t, kQuick> quick = quick_table();
  return c < kQuick ? quick[c] : searched(c);
}

const char *unicode_version() { return kUnicodeVersion; }

Characters decode_utf8(std::string_view text, const std::string &where) {
  Characters out;
  out.reserve(text.size());
  for (size_t place = 0, n = 0; place < text.size(); place += n) {
    char32_t c = character_at(text, place, n);
    if (c > 0x10FFFF) bad_input("Found bytes that are no UTF-8 in " + where + ", from byte " + std::to_string(place) + ". Give UTF-8.");
    out += c;
  }
  return out;
}

Characters lower_case(std::u32string_view text) {
  Characters out;
  out.reserve(text.size());
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] < 0x80) {
      out += text[i] >= U'A' && text[i] <= U'Z' ? text[i] + 32 : text[i];
    } else {
      append_lower(text, i, out);
    }
  }
  return out;
}

bool is_upper(std::u32string_view text) {
  bool found = false;
  for (char32_t c : text) {
    const uint16_t classes = classes_of(c);
    if (classes & (kLowerCase | kTitle)) return false;
    found = found || (classes & kUpper);
  }
  return found;
}

}  // namespace xpert
