// Any bytes as tokenizer.json, chat template and text: ids or an error. The libraries behind are Rust; what is tried is the way there.
#include <string>

#include "xpert_libraries.h"

namespace {

void tokenize(xpert_lib_tokenizer *tokenizer, const char *text, size_t size) {
  uint32_t *ids = nullptr;
  size_t n = 0;
  if (xpert_lib_tokenizer_encode(tokenizer, text, size, 1, &ids, &n) != 0) return;
  char *decoded = nullptr;
  size_t length = 0;
  if (xpert_lib_tokenizer_decode(tokenizer, ids, n, 1, &decoded, &length) == 0) xpert_lib_free_text(decoded);
  xpert_lib_free_ids(ids, n);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  const char *bytes = reinterpret_cast<const char *>(data);
  xpert_lib_tokenizer *tokenizer = nullptr;
  if (xpert_lib_tokenizer_new(bytes, size, 0, &tokenizer) == 0) {
    tokenize(tokenizer, bytes, size < 200 ? size : 200);
    xpert_lib_tokenizer_free(tokenizer);
  }
  const std::string source(bytes, size);
  char *text = nullptr;
  size_t length = 0;
  if (xpert_lib_chat(source.c_str(), "Hello", 5, R"({"bos_token": "<s>"})", &text, &length) == 0) xpert_lib_free_text(text);
  if (xpert_lib_verify(source.c_str(), source.c_str(), data, size) == 0) __builtin_trap();
  return 0;
}
