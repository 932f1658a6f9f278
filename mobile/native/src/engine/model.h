// Losses and gradients of a base with an adapter, computed one layer at a time: only the layers' inputs are kept.
#pragma once

#include <memory>
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

class LayerwiseModel {
 public:
  /**
   * program: as the bundle's training programs are, of these sizes; vocabulary_block as the manifest states it, 0 for none; prefix: places
   * of the prefix that the program trains, 0 for one that trains adapters or a prompt.
   */
  LayerwiseModel(const Weights &weights, const Geometry &geometry, Program &program, int64_t vocabulary_block, int64_t prefix = 0);

  size_t batch() const { return static_cast<size_t>(shape_[0]); }
  size_t length() const { return static_cast<size_t>(shape_[1]); }
  const Geometry &geometry() const { return geometry_; }

  /** Sum of the losses of the answers' tokens over total, in nats, of at most batch() samples. */
  double loss(const Sample *samples, size_t n, const AdapterState &state, size_t total);

  /** Adds the gradients of that to gradients, which has the shapes of state.values. */
  double loss_and_gradients(const Sample *samples, size_t n, const AdapterState &state, size_t total,
                            std::vector<std::vector<float>> &gradients);

 private:
  void check(const AdapterState &state) const;
  void fill(const Sample *samples, size_t n, const AdapterState &state, size_t total);
  void forward(const AdapterState &state, int64_t layer, const std::vector<float> &x, std::vector<float> &y);
  void backward(const AdapterState &state, int64_t layer, std::vector<std::vector<float>> &gradients);
  double head(const std::vector<float> &h, size_t n);
  std::vector<Buffer> layer_inputs(const AdapterState &state, int64_t layer) const;

  const Weights &weights_;
  const Geometry &geometry_;
  Program &program_;
  const int64_t prefix_;
  const std::vector<int32_t> shape_;  // (batch, length, hidden)
  const std::vector<float> mask_;
  const RotaryTables tables_;
  std::unique_ptr<Head> head_;
  std::vector<std::vector<float>> inputs_;  // of every layer, and the last one's output
  std::vector<float> grad_, next_;
  std::vector<std::vector<float>> parts_;  // gradients of what is trained in one layer
  std::vector<int64_t> ids_, target_;
  std::vector<float> weight_;
};

}  // namespace xpert
