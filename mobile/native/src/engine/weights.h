// A base model's weights, mapped: the system loads pages as they are read, and drops them when it is told.
#pragma once

#include <string>
#include <vector>

#include "base/files.h"
#include "engine/geometry.h"
#include "engine/program.h"
#include "formats/safetensors.h"

namespace xpert {

class Weights {
 public:
  /** layer_weights: what a layer takes, in the programs' order, as the manifest lists it. */
  Weights(const std::string &path, const Geometry &geometry, const std::vector<std::string> &layer_weights);

  const std::vector<Buffer> &layer(int64_t index) const { return layers_.at(static_cast<size_t>(index)); }
  const Buffer &norm() const { return norm_; }
  /** The output layer (vocabulary, hidden); the embedding itself where the two are tied. */
  const TensorView &output() const { return output_; }

  /** Copies the embeddings of ids to rows, one behind the other, or their rows of the output layer. */
  void embed(const int64_t *ids, size_t n, float *rows) const { copy_rows(embedding_, ids, n, rows); }
  void output_rows(const int64_t *ids, size_t n, float *rows) const { copy_rows(output_, ids, n, rows); }

  /** Bytes of the file: what all of them take in memory. */
  size_t bytes() const { return file_.size(); }

  /** Lets the system drop the pages of all weights, of a layer, or of rows of the output layer, from this process. */
  void release() const { file_.release(file_.data(), file_.size()); }
  void release(int64_t layer) const;
  void release_output(int64_t first_row, int64_t n_rows) const;

 private:
  void copy_rows(const TensorView &table, const int64_t *ids, size_t n, float *rows) const;

  MappedFile file_;
  Tensors tensors_;
  std::vector<std::vector<Buffer>> layers_;
  std::vector<std::vector<TensorView>> views_;
  Buffer norm_;
  TensorView embedding_, output_;
  int64_t vocabulary_, hidden_;
};

}  // namespace xpert
