// An ExecuTorch program: methods run on memory that the caller owns, without copies.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "formats/safetensors.h"

namespace xpert {

/** Memory as a method takes or fills it. The runtime's tensors are mutable, the memory of inputs is not written. */
struct Buffer {
  std::string dtype;  // as safetensors names it
  std::vector<int32_t> shape;
  void *data = nullptr;
};

Buffer floats(const float *values, std::vector<int32_t> shape);
Buffer floats(std::vector<float> &values, std::vector<int32_t> shape);
Buffer integers(const int64_t *values, std::vector<int32_t> shape);
Buffer stored(const TensorView &view);
/** Values that a shape has room for. */
size_t count_of(const std::vector<int32_t> &shape);

/**
 * A loaded program.
 *
 * threads is the size of the process's pool; the first program that is loaded decides, for the pool must not change under a loaded one.
 * Not for use by two threads at a time.
 */
class Program {
 public:
  Program(const std::string &path, int threads);
  ~Program();
  Program(const Program &) = delete;
  Program &operator=(const Program &) = delete;

  bool has(const std::string &method) const;

  /** Shape of an input or output of a method. */
  const std::vector<int32_t> &input_shape(const std::string &method, size_t place) const;
  const std::vector<int32_t> &output_shape(const std::string &method, size_t place) const;
  size_t n_inputs(const std::string &method) const;
  size_t n_outputs(const std::string &method) const;

  /** Runs a method. Inputs and outputs must be of the types and shapes that it was exported with. */
  void run(const std::string &method, const std::vector<Buffer> &inputs, const std::vector<Buffer> &outputs);

 private:
  struct Parts;
  std::unique_ptr<Parts> parts_;
};

}  // namespace xpert
