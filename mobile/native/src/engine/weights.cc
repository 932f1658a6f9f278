#include "engine/weights.h"

#include <algorithm>
#include <cstring>

#include "base/error.h"
#include "engine/peft.h"

namespace xpert {

namespace {

/** Finds weights and compares them with the geometry; the message of a misfit names the weight. */
class Finder {
 public:
  Finder(const Tensors &tensors, const std::string &path) : tensors_(tensors), path_(path) {}

  const TensorView &operator()(const std::string &name, const std::vector<int64_t> &shape) const {
    auto found = tensors_.views.find(name);
    if (found == tensors_.views.end()) bad_file("The weights '" + path_ + "' lack " + name + ". Export the bundle again.");
    if (found->second.shape != shape) {
      bad_file("In the weights '" + path_ + "' " + name + " is " + written_shape(found->second.shape) + ", the geometry says " + written_shape(shape) +
               ". Export the bundle again.");
    }
    if (reinterpret_cast<uintptr_t>(found->second.data) % size_of_type(found->second.dtype)) {
      bad_file("In the weights '" + path_ + "' " + name + " is not aligned. Export the bundle again.");
    }
    return found->second;
  }

 private:
  const Tensors &tensors_;
  const std::string &path_;
};

}  // namespace

Weights::Weights(const std::string &path, const Geometry &geometry, const std::vector<std::string> &layer_weights)
    : file_(path), tensors_(parse_safetensors(file_.data(), file_.size(), path)), vocabulary_(geometry.vocabulary), hidden_(geometry.hidden) {
  Finder find(tensors_, path);
  for (int64_t i = 0; i < geometry.n_layers; ++i) {
    std::vector<Buffer> buffers;
    std::vector<TensorView> views;
    for (const std::string &name : layer_weights) {
      views.push_back(find("model.layers." + std::to_string(i) + "." + name, geometry.shape_of(name)));
      buffers.push_back(stored(views.back()));
    }
    layers_.push_back(std::move(buffers));
    views_.push_back(std::move(views));
  }
  const TensorView &norm = find("model.norm.weight", {hidden_});
  norm_ = floats(norm.floats("model.norm.weight"), {static_cast<int32_t>(hidden_)});
  embedding_ = find("model.embed_tokens.weight", {vocabulary_, hidden_});
  embedding_.floats("model.embed_tokens.weight");
  output_ = geometry.tied ? embedding_ : find("lm_head.weight", {vocabulary_, hidden_});
  output_.floats("lm_head.weight");
}

void Weights::copy_rows(const TensorView &table, const int64_t *ids, size_t n, float *rows) const {
  const size_t width = static_cast<size_t>(hidden_);
  const auto *values = reinterpret_cast<const float *>(table.data);
  for (size_t i = 0; i < n; ++i) {
    if (ids[i] < 0 || ids[i] >= vocabulary_) {
      mismatch("The tokenizer gives the token " + std::to_string(ids[i]) + ", its model has " + std::to_string(vocabulary_) +
               " of them. Export the bundle again.");
    }
    std::memcpy(rows + i * width, values + static_cast<size_t>(ids[i]) * width, width * sizeof(float));
  }
}

void Weights::release(int64_t layer) const {
  for (const TensorView &view : views_.at(static_cast<size_t>(layer))) file_.release(view.data, view.bytes);
}

void Weights::release_output(int64_t first_row, int64_t n_rows) const {
  const size_t row = static_cast<size_t>(hidden_) * sizeof(float), begin = static_cast<size_t>(first_row) * row;
  if (begin < output_.bytes) file_.release(output_.data + begin, std::min(static_cast<size_t>(n_rows) * row, output_.bytes - begin));
}

}  // namespace xpert
