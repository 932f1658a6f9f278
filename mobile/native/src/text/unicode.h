// Characters as Python's str and re see them; the tables are written by tools/unicode_tables.py.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace xpert {

/** A text as code points. */
using Characters = std::u32string;

/** Classes of a character, added up; the numbers are those of tools/unicode_tables.py. */
enum CharacterClass : uint16_t {
  kLetter = 1,       // isalnum and not isdecimal: what [^\W\d_] matches
  kDecimal = 2,      // isdecimal: what \d matches
  kDigit = 4,        // isdigit
  kUpper = 8,        // isupper
  kLowerCase = 16,   // islower
  kTitle = 32,       // istitle, but not isupper
  kCased = 64,       // makes a sigma behind it a final one
  kIgnorable = 128,  // is looked through on the way to such a character
  kSpace = 256,      // isspace
};

uint16_t classes_of(char32_t c);
inline bool is(char32_t c, CharacterClass which) { return (classes_of(c) & which) != 0; }

/** Unicode version of the tables. */
const char *unicode_version();

/** Decodes UTF-8; refuses what is none, naming the text by where. */
Characters decode_utf8(std::string_view text, const std::string &where);

/** str.lower(), with the final sigma and characters that become two. */
Characters lower_case(std::u32string_view text);

/** str.isupper(): some cased character, and none of another case. */
bool is_upper(std::u32string_view text);

}  // namespace xpert
