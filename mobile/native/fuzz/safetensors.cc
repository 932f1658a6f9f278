// Any bytes are a safetensors file or an error; what is read lies within them.
#include "base/error.h"
#include "formats/safetensors.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  try {
    const xpert::Tensors found = xpert::parse_safetensors(reinterpret_cast<const std::byte *>(data), size, "the input");
    unsigned sum = 0;
    for (const auto &item : found.views) {
      if (item.second.bytes != item.second.count() * xpert::size_of_type(item.second.dtype)) __builtin_trap();
      for (size_t i = 0; i < item.second.bytes; ++i) sum += std::to_integer<unsigned>(item.second.data[i]);
    }
    volatile unsigned read = sum;  // so that no read is left out
    static_cast<void>(read);
  } catch (const xpert::Error &error) {
    if (error.status() != XPERT_BAD_FILE) __builtin_trap();
  }
  return 0;
}
