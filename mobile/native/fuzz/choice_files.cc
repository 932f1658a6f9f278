// Style spaces, compact catalogues, indices and cells from bytes that anybody may have written, their digests not asked for.
#include <algorithm>
#include <cstdint>
#include <memory>
#include <string>

#include "choice/catalogue.h"
#include "choice/selection.h"
#include "choice/space.h"

namespace {

xpert::Tensors tensors_of(const std::string &data) {
  return xpert::parse_safetensors(reinterpret_cast<const std::byte *>(data.data()), data.size(), "input");
}

/** Runs what may refuse its input with a clear error, and nothing else. */
template <typename Read>
void read(Read once) {
  try {
    once();
  } catch (const xpert::Error &) {
  }
}

void choose_from(const xpert::Candidates &candidates) {
  xpert::Evidence evidence;
  evidence.texts = xpert::Matrix(1, candidates.n_words());
  xpert::describe_selection(evidence, candidates, xpert::SelectOptions(), [] {});
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
  const auto data = std::make_shared<const std::string>(reinterpret_cast<const char *>(bytes), size);
  read([&] {
    const xpert::StyleSpace space = xpert::StyleSpace::parse(tensors_of(*data), "input", false);
    space.unexplained(std::vector<float>(space.dim()).data());
  });
  read([&] { choose_from(xpert::parse_compact(data, "input", false)); });
  // An index and one of its cells, the index's length in two bytes before them.
  if (size < 2) return 0;
  const size_t length = std::min(size_t{bytes[0]} | size_t{bytes[1]} << 8, size - 2);
  read([&] {
    const xpert::CellIndex index = xpert::CellIndex::parse(data->substr(2, length), "input", false);
    index.nearest(xpert::Vector(index.shared().words.size()));
    choose_from(xpert::parse_cell(std::make_shared<const std::string>(data->substr(2 + length)), index, "input", false));
  });
  return 0;
}
