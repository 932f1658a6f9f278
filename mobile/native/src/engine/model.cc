#include "engine/model.h"

#include <algorithm>

#include "base/error.h"

namespace xpert {

namespace {

void add(const std::vector<float> &from, std::vector<float> &to) {
  for (size_t i = 0; i < to.size(); ++i) to[i] += from[i];
}

// What the inner method gives, and the first of it that the outer method takes.
constexpr size_t kValues = 6, kShown = 3;

std::vector<int32_t> shape_of(const Program &program, const Geometry &geometry) {
  const auto &shape = program.input_shape("inner", 0);
  if (shape.size() != 3 || shape[2] != geometry.hidden) bad_file("The training program is of another geometry. Export the bundle again.");
  return shape;
}

/** Layers whose values fit in `most` bytes; at least the last one's, which are there anyway when its backward pass begins. */
size_t n_slots(const Program &program, const Geometry &geometry, double most) {
  size_t bytes = 0;
  for (size_t i = 0; i < kValues; ++i) bytes += count_of(program.output_shape("inner", i)) * sizeof(float);
  return static_cast<size_t>(std::clamp(most / static_cast<double>(bytes), 1.0, static_cast<double>(geometry.n_layers)));
}

}  // namespace

LayerwiseModel::LayerwiseModel(const Weights &weights, const Geometry &geometry, Program &program, const ModelOptions &options)
    : weights_(weights), geometry_(geometry), program_(program), prefix_(options.prefix), shape_(shape_of(program, geometry)),
      mask_(causal_mask(length(), static_cast<size_t>(prefix_), static_cast<size_t>(prefix_))),
      tables_(rotary_tables(geometry, static_cast<int32_t>(prefix_) + shape_[1])),
      head_(program, weights, options.vocabulary_block), slots_(n_slots(program, geometry, options.most_kept)) {
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
  return head(inputs_[0], nullptr);
}

double LayerwiseModel::loss_and_gradients(const Sample *samples, size_t n, const AdapterState &state, size_t total,
                                          std::vector<std::vector<float>> &gradients) {
  check(state);
  inputs_.resize(static_cast<size_t>(geometry_.n_layers) + 1, std::vector<float>(grad_.size()));
  fill(samples, n, state, total);
  for (int64_t i = 0; i < geometry_.n_layers; ++i) forward(state, i, inputs_[static_cast<size_t>(i)], inputs_[static_cast<size_t>(i) + 1]);
  const double value = head(inputs_.back(), grad_.data());
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

size_t LayerwiseModel::slot_of(int64_t layer) const { return std::min(static_cast<size_t>(geometry_.n_layers - 1 - layer), slots_.size() - 1); }

void LayerwiseModel::append_kept(int64_t layer, size_t first, std::vector<Buffer> &buffers) {
  Values &values = slots_[slot_of(layer)];
  values.resize(kValues);
  for (size_t i = first; i < kValues; ++i) {
    const auto &shape = program_.output_shape("inner", i);
    values[i].resize(count_of(shape));
    buffers.push_back(floats(values[i], shape));
  }
}

void LayerwiseModel::append_layer(const AdapterState &state, int64_t layer, std::vector<Buffer> &inputs) const {
  const auto n = shape_[1], before = static_cast<int32_t>(prefix_), dim = static_cast<int32_t>(geometry_.head_dim);
  const size_t first = static_cast<size_t>(prefix_ * geometry_.head_dim);  // tokens stand behind a prefix
  inputs.insert(inputs.end(), {floats(mask_.data(), {n, before + n}), floats(tables_.cos.data() + first, {n, dim}),
                               floats(tables_.sin.data() + first, {n, dim}), floats(&state.scale, {1})});
  const auto &weights = weights_.layer(layer);
  inputs.insert(inputs.end(), weights.begin(), weights.end());
  for (const auto &trained : {state.lora(geometry_, layer), state.prefix(geometry_, layer)}) {
    inputs.insert(inputs.end(), trained.begin(), trained.end());
  }
}

void LayerwiseModel::inner(const AdapterState &state, int64_t layer, const std::vector<float> &x) {
  std::vector<Buffer> inputs = {floats(x.data(), shape_)}, outputs;
  append_layer(state, layer, inputs);
  append_kept(layer, 0, outputs);
  program_.run("inner", inputs, outputs);
}

void LayerwiseModel::forward(const AdapterState &state, int64_t layer, const std::vector<float> &x, std::vector<float> &y) {
  inner(state, layer, x);
  std::vector<Buffer> inputs;
  append_kept(layer, kShown, inputs);
  append_layer(state, layer, inputs);
  program_.run("outer", inputs, {floats(y, shape_)});
  weights_.release(layer);
}

void LayerwiseModel::backward(const AdapterState &state, int64_t layer, std::vector<std::vector<float>> &gradients) {
  const auto &x = inputs_[static_cast<size_t>(layer)];
  const bool is_last_of_slot = layer == geometry_.n_layers - 1 - static_cast<int64_t>(slot_of(layer));
  if (!is_last_of_slot) inner(state, layer, x);
  std::vector<Buffer> inputs = {floats(x.data(), shape_), floats(grad_, shape_)};
  append_kept(layer, 0, inputs);
  append_layer(state, layer, inputs);
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

double LayerwiseModel::head(const std::vector<float> &h, float *dh) {
  const double value = head_.run(h.data(), target_.data(), weight_.data(), dh);
  weights_.release_output(0, weights_.output().shape[0]);
  return value;
}

}  // namespace xpert
