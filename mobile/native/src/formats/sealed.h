// Files whose header has the digest of header and arrays (xpert.core.sealed): compact catalogues, indices and cells.
#pragma once

#include <string>
#include <vector>

#include "base/json.h"
#include "formats/safetensors.h"

namespace xpert {

/** Writes JSON as Python's json.dumps(value, sort_keys=True) does, for digests are over those bytes. */
std::string python_json(const Json &value);

/**
 * Reads our JSON header from a file's metadata.
 *
 * Refuses none, another format, and a newer version. name is what messages call the file.
 */
Json read_header(const Tensors &tensors, const std::string &kind, int max_version, const std::string &name);

/** Digest of a header, but for the digest there, and of its arrays. */
std::string content_digest(const Json &header, const Tensors &tensors);

/** Reads a sealed file's header and checks its digest. */
Json read_sealed(const Tensors &tensors, const std::string &kind, int max_version, const std::string &name);

/** A named array of finite floats as doubles; refuses other types, NaN, infinity, and one that is not there. */
std::vector<double> finite(const Tensors &tensors, const std::string &array, const std::string &name);

/** A named array; refuses one that is not there, of another type, or of another shape. */
const TensorView &array_of(const Tensors &tensors, const std::string &array, const std::string &dtype, const std::vector<int64_t> &shape,
                           const std::string &name);

/** Says of whatever does not fit that the file cannot be used. */
[[noreturn]] void unusable(const std::string &name, const std::string &what);

/** A text of a header; refuses anything else. */
std::string text_of(const Json &header, const std::string &key, const std::string &name);

/** A whole number of a header from smallest to 2^31 - 1; refuses anything else. */
int64_t whole_of(const Json &header, const std::string &key, int64_t smallest, const std::string &name);

/** The different words of a header, 1 to 1024 texts; refuses anything else. */
std::vector<std::string> words_of(const Json &header, const std::string &name);

}  // namespace xpert
