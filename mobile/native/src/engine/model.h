// Losses and gradients of a base with an adapter, computed one layer at a time.
#pragma once

#include <vector>

#include "engine/head.h"
#include "engine/state.h"
#include "engine/weights.h"

namespace xpert {

/** One text as ids; the first n_prompt of them are the prompt, which the loss leaves out. */
struct Sample {
  std::vector<int64_t> ids;
  size_t n_prompt = 0;

  /** Tokens that count in the loss. */
  size_t n_answer() const { return ids.size() - n_prompt; }
};

/** How a training program is used: vocabulary_block and prefix (places that it trains, 0 for adapters or a prompt) as the manifest states them. */
struct ModelOptions {
  int64_t vocabulary_block = 0, prefix = 0;
  /** Most bytes of what layers computed that are kept for the backward pass; a layer that finds no room is computed once more there. */
  double most_kept = 0;
};

class LayerwiseModel {
 public:
  /** program: as the bundle's training programs are, of these sizes. */
  LayerwiseModel(const Weights &weights, const Geometry &geometry, Program &program, const ModelOptions &options);

  size_t batch() const { return static_cast<size_t>(shape_[0]); }
  size_t length() const { return static_cast<size_t>(shape_[1]); }
  const Geometry &geometry() const { return geometry_; }

  /** Sum of the losses of the answers' tokens over total, in nats, of at most batch() samples. */
  double loss(const Sample *samples, size_t n, const AdapterState &state, size_t total);

  /** Adds the gradients of that to gradients, which has the shapes of state.values. */
  double loss_and_gradients(const Sample *samples, size_t n, const AdapterState &state, size_t total,
                            std::vector<std::vector<float>> &gradients);

 private:
  using Values = std::vector<std::vector<float>>;  // what the program's inner method gives

  void check(const AdapterState &state) const;
  void fill(const Sample *samples, size_t n, const AdapterState &state, size_t total);
  void inner(const AdapterState &state, int64_t layer, const std::vector<float> &x);
  void forward(const AdapterState &state, int64_t layer, const std::vector<float> &x, std::vector<float> &y);
  void backward(const AdapterState &state, int64_t layer, std::vector<std::vector<float>> &gradients);
  double head(const std::vector<float> &h, float *dh);
  /** Appends what the inner method gave for a layer, from its value `first` on. */
  void append_kept(int64_t layer, size_t first, std::vector<Buffer> &buffers);
  void append_layer(const AdapterState &state, int64_t layer, std::vector<Buffer> &inputs) const;
  size_t slot_of(int64_t layer) const;

  const Weights &weights_;
  const Geometry &geometry_;
  Program &program_;
  const int64_t prefix_;
  const std::vector<int32_t> shape_;  // (batch, length, hidden)
  const std::vector<float> mask_;
  const RotaryTables tables_;
  Head head_;
  std::vector<std::vector<float>> inputs_;  // of every layer, and the last one's output
  // Slot 0 is the last layer's, and so on backwards; layers for which there is no slot share the last one.
  std::vector<Values> slots_;
  std::vector<float> grad_, next_;
  std::vector<std::vector<float>> parts_;  // gradients of what is trained in one layer
  std::vector<int64_t> ids_, target_;
  std::vector<float> weight_;
};

}  // namespace xpert
