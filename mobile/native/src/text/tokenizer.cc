#include "text/tokenizer.h"

#include <limits>

#include "base/error.h"
#include "base/files.h"
#include "xpert_libraries.h"

namespace xpert {

namespace {

constexpr size_t kLargestFile = size_t{256} << 20;

}  // namespace

void Tokenizer::Free::operator()(xpert_lib_tokenizer *tokenizer) const { xpert_lib_tokenizer_free(tokenizer); }

Tokenizer::Tokenizer(const std::string &path, size_t max_length) : path_(path) {
  std::string json = read_file(path, kLargestFile);
  xpert_lib_tokenizer *made = nullptr;
  if (xpert_lib_tokenizer_new(json.data(), json.size(), max_length, &made) != 0) {
    bad_file("Cannot read the tokenizer '" + path + "': " + xpert_lib_error() + ". Fetch it again.");
  }
  tokenizer_.reset(made);
}

std::vector<int64_t> Tokenizer::ids(std::string_view text, bool add_special) const {
  uint32_t *found = nullptr;
  size_t n = 0;
  if (xpert_lib_tokenizer_encode(tokenizer_.get(), text.data(), text.size(), add_special ? 1 : 0, &found, &n) != 0) {
    bad_input(std::string("A text cannot be turned into tokens: ") + xpert_lib_error() + ". Give texts in UTF-8.");
  }
  std::vector<int64_t> ids(found, found + n);
  xpert_lib_free_ids(found, n);
  return ids;
}

std::string Tokenizer::text(const std::vector<int64_t> &ids) const {
  std::vector<uint32_t> row;
  row.reserve(ids.size());
  for (int64_t id : ids) {
    if (id < 0 || id > std::numeric_limits<uint32_t>::max()) bad_input("There is no token " + std::to_string(id) + ". Check the ids.");
    row.push_back(static_cast<uint32_t>(id));
  }
  char *found = nullptr;
  size_t size = 0;
  if (xpert_lib_tokenizer_decode(tokenizer_.get(), row.data(), row.size(), 1, &found, &size) != 0) {
    bad_file("The tokenizer '" + path_ + "' cannot turn ids into a text: " + xpert_lib_error() + ". Fetch it again.");
  }
  std::string text(found, size);
  xpert_lib_free_text(found);
  return text;
}

}  // namespace xpert
