#include "engine/model.h"

#include <algorithm>

#include "base/error.h"

namespace xpert {

namespace {

void add(const std::vector<float> &from, std::vector<float> &to) {
  for (size_t i = 0; i < to.size(); ++i) to[i] += from[i];
}

std::vector<int32_t> shape_of(const Program &program, const Geometry &geometry) {
  const auto &shape = program.input_shape("forward", 0);
  if (shape.size() != 3 || shape[2] != geometry.hidden) bad_file("The training program is of another geometry. Export the bundle again.");
  return shape;
}

}  // namespace

LayerwiseModel::LayerwiseModel(const Weights &weights, const Geometry &geometry, Program &program, int64_t vocabulary_block, int64_t prefix)
    : weights_(weights), geometry_(geometry), program_(program), prefix_(prefix), shape_(shape_of(program, geometry)),
      mask_(causal_mask(length(), static_cast<size_t>(prefix), static_cast<size_t>(prefix))),
      tables_(rotary_tables(geometry, static_cast<int32_t>(prefix) + shape_[1])) {
  head_ = make_head(program, weights, shape_[1], shape_[2], vocabulary_block);
  const size_t n = batch() * length() * static_cast<size_t>(shape_[2]);
  grad_.resize(n);
  next_.resize(n);
  ids_.resize(length());
  target_.resize(batch() * length());
  weight_.resize(batch() * length());
}

double LayerwiseModel::loss(const Sample *samples, size_t n, const AdapterState &state, size_t total) {
  check(state);
  inputs_.resize(std::max<size_t>(inputs_.size(), 2), std::vector<float>(grad_.size()));
  fill(samples, n, state, total);
  for (int64_t i = 0; i < geometry_.n_layers; ++i) {
    forward(state, i, inputs_[0], inputs_[1]);
    std::swap(inputs_[0], inputs_[1]);
  }
  return head(inputs_[0], n);
}

double LayerwiseModel::loss_and_gradients(const Sample *samples, size_t n, const AdapterState &state, size_t total,
                                          std::vector<std::vector<float>> &gradients) {
  check(state);
  inputs_.resize(static_cast<size_t>(geometry_.n_layers) + 1, std::vector<float>(grad_.size()));
  fill(samples, n, state, total);
  for (int64_t i = 0; i < geometry_.n_layers; ++i) forward(state, i, inputs_[static_cast<size_t>(i)], inputs_[static_cast<size_t>(i) + 1]);
  const double value = head(inputs_.back(), n);
  for (int64_t i = geometry_.n_layers; i-- > 0;) backward(state, i, gradients);
  if (state.method == Method::kPrompt) {
    const size_t row = length() * static_cast<size_t>(shape_[2]);
    for (size_t k = 0; k < n; ++k) {
      for (size_t i = 0; i < gradients[0].size(); ++i) gradients[0][i] += grad_[k * row + i];
    }
  }
  return value;
}

void LayerwiseModel::check(const AdapterState &state) const {
  const int64_t places = state.method == Method::kPrefix ? state.n_virtual : 0;
  if (places == prefix_) return;
  bad_input("The program trains a prefix of " + std::to_string(prefix_) + " places, the adapter has one of " + std::to_string(places) +
            ". Take the program that was exported for it.");
}

void LayerwiseModel::fill(const Sample *samples, size_t n, const AdapterState &state, size_t total) {
  const size_t front = state.n_front(), width = static_cast<size_t>(shape_[2]), row = length() * width;
  std::fill(target_.begin(), target_.end(), 0);
  std::fill(weight_.begin(), weight_.end(), 0.0F);
  const float share = 1.0F / static_cast<float>(std::max<size_t>(total, 1));
  for (size_t k = 0; k < batch(); ++k) {
    std::fill(ids_.begin(), ids_.end(), 0);
    if (k < n) {
      const Sample &sample = samples[k];
      std::copy(sample.ids.begin(), sample.ids.end(), ids_.begin());
      const size_t first = k * length() + front;
      std::copy(sample.ids.begin() + 1, sample.ids.end(), target_.begin() + static_cast<std::ptrdiff_t>(first));
      for (size_t i = sample.n_prompt; i < sample.ids.size(); ++i) weight_[first + i - 1] = share;
    }
    float *x = inputs_[0].data() + k * row;
    if (front) std::copy(state.values[0].begin(), state.values[0].end(), x);
    weights_.embed(ids_.data(), length() - front, x + front * width);
  }
}

std::vector<Buffer> LayerwiseModel::layer_inputs(const AdapterState &state, int64_t layer) const {
  const auto n = shape_[1], before = static_cast<int32_t>(prefix_), dim = static_cast<int32_t>(geometry_.head_dim);
  const size_t first = static_cast<size_t>(prefix_ * geometry_.head_dim);  // tokens stand behind a prefix
  std::vector<Buffer> inputs = {floats(mask_.data(), {n, before + n}), floats(tables_.cos.data() + first, {n, dim}),
                                floats(tables_.sin.data() + first, {n, dim}), floats(&state.scale, {1})};
  const auto &weights = weights_.layer(layer);
  inputs.insert(inputs.end(), weights.begin(), weights.end());
  for (const auto &trained : {state.lora(geometry_, layer), state.prefix(geometry_, layer)}) {
    inputs.insert(inputs.end(), trained.begin(), trained.end());
  }
  return inputs;
}

void LayerwiseModel::forward(const AdapterState &state, int64_t layer, const std::vector<float> &x, std::vector<float> &y) {
  auto inputs = layer_inputs(state, layer);
  inputs.insert(inputs.begin(), floats(x.data(), shape_));
  program_.run("forward", inputs, {floats(y, shape_)});
  weights_.release(layer);
}

void LayerwiseModel::backward(const AdapterState &state, int64_t layer, std::vector<std::vector<float>> &gradients) {
  auto inputs = layer_inputs(state, layer);
  inputs.insert(inputs.begin(), {floats(inputs_[static_cast<size_t>(layer)].data(), shape_), floats(grad_, shape_)});
  std::vector<Buffer> outputs = {floats(next_, shape_)};
  const auto trained = prefix_ ? state.prefix(geometry_, layer) : state.lora(geometry_, layer);
  parts_.resize(trained.size());
  for (size_t k = 0; k < trained.size(); ++k) {
    parts_[k].resize(count_of(trained[k].shape));
    outputs.push_back(floats(parts_[k], trained[k].shape));
  }
  program_.run("backward", inputs, outputs);
  weights_.release(layer);
  std::swap(grad_, next_);
  if (state.method == Method::kPrompt) return;
  for (size_t k = 0; k < parts_.size(); ++k) add(parts_[k], gradients[static_cast<size_t>(layer) * parts_.size() + k]);
}

double LayerwiseModel::head(const std::vector<float> &h, size_t n) {
  const size_t row = length() * static_cast<size_t>(shape_[2]);
  std::fill(grad_.begin(), grad_.end(), 0.0F);
  double value = 0;
  for (size_t k = 0; k < n; ++k) {
    value += head_->run(h.data() + k * row, &target_[k * length()], &weight_[k * length()], grad_.data() + k * row);
  }
  weights_.release_output(0, weights_.output().shape[0]);
  return value;
}

}  // namespace xpert
