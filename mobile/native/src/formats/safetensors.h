// Tensors in safetensors files (github.com/huggingface/safetensors), parsed with limits: the header comes from outside.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace xpert {

/** Where a tensor lies and what it holds; data points into memory that somebody else owns. */
struct TensorView {
  std::string dtype;  // as the format names it: F32, I8, U8, …
  std::vector<int64_t> shape;
  const std::byte *data = nullptr;
  size_t bytes = 0;

  size_t count() const;
  /** The values as float; refuses other types, and data that are not aligned. name is for the message. */
  const float *floats(const std::string &name) const;
};

/** What a safetensors file says: tensors by name, and its metadata. */
struct Tensors {
  std::map<std::string, TensorView> views;
  std::map<std::string, std::string> metadata;
};

/**
 * Parses a file's bytes; the views point into them.
 *
 * Refuses headers over 100 MB, offsets that overlap, leave gaps or go past the end, shapes that do not fit the bytes, unknown types, and
 * pickled checkpoints. name is what messages call the file.
 */
Tensors parse_safetensors(const std::byte *data, size_t size, const std::string &name);

/** Bytes of a value of a type, 0 for one that the format does not have. */
size_t size_of_type(std::string_view dtype);

/** Writes tensors and metadata, whole or not at all, in the order of their names; the data begin at a multiple of eight. */
void write_safetensors(const std::string &path, const std::vector<std::pair<std::string, TensorView>> &tensors,
                       const std::map<std::string, std::string> &metadata);

/** A view of floats in memory. */
TensorView view_of(const std::vector<float> &values, std::vector<int64_t> shape);

}  // namespace xpert
