#include "engine/head.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"

namespace xpert {

namespace {

class WholeHead : public Head {
 public:
  WholeHead(Program &program, const Weights &weights, int32_t length, int32_t hidden)
      : program_(program), weights_(weights), shape_{1, length, hidden}, column_{length, 1} {}

  double run(const float *h, const int64_t *target, const float *weight, float *dh) override {
    float loss = 0;
    program_.run("loss", {floats(h, shape_), weights_.norm(), stored(weights_.output()), integers(target, column_), floats(weight, column_)},
                 {{"F32", program_.output_shape("loss", 0), &loss}, {"F32", shape_, dh}});
    return static_cast<double>(loss);
  }

 private:
  Program &program_;
  const Weights &weights_;
  const std::vector<int32_t> shape_, column_;
};

/** Two passes over the output layer: first the sums that the softmax needs, then the gradients, which need them. */
class BlockHead : public Head {
 public:
  BlockHead(Program &program, const Weights &weights, int32_t length, int32_t hidden, int64_t block)
      : program_(program), weights_(weights), shape_{1, length, hidden}, column_{length, 1}, blocks_(weights, block) {
    const auto n = static_cast<size_t>(length);
    for (auto *array : {&maximum_, &total_, &picked_, &log_total_, &inside_}) array->resize(n);
    local_.resize(n);
    dn_.resize(n * static_cast<size_t>(hidden));
    part_.resize(dn_.size());
    bias_.assign(static_cast<size_t>(block), 0.0F);
    last_bias_ = bias_;
    const int64_t left = blocks_.vocabulary() % block;
    if (left) std::fill(last_bias_.begin() + static_cast<std::ptrdiff_t>(left), last_bias_.end(), kMasked);  // no token is there
  }

  double run(const float *h, const int64_t *target, const float *weight, float *dh) override {
    const size_t n = local_.size();
    highest_.assign(n, -1e30);
    sum_.assign(n, 0.0);
    reached_.assign(n, 0.0);
    for (int64_t begin = 0; begin < blocks_.vocabulary(); begin += blocks_.block()) {
      auto inputs = block_inputs(h, target, begin);
      program_.run("scores", inputs, {output("scores", 0, maximum_), output("scores", 1, total_), output("scores", 2, picked_)});
      blocks_.release(begin);
      for (size_t i = 0; i < n; ++i) {
        const double top = std::max(highest_[i], static_cast<double>(maximum_[i]));
        sum_[i] = sum_[i] * std::exp(highest_[i] - top) + static_cast<double>(total_[i]) * std::exp(static_cast<double>(maximum_[i]) - top);
        highest_[i] = top;
        reached_[i] += static_cast<double>(picked_[i]);
      }
    }
    double loss = 0;
    for (size_t i = 0; i < n; ++i) {
      const double log_total = highest_[i] + std::log(sum_[i]);
      log_total_[i] = static_cast<float>(log_total);
      loss += static_cast<double>(weight[i]) * (log_total - reached_[i]);
    }
    std::fill(dn_.begin(), dn_.end(), 0.0F);
    for (int64_t begin = 0; begin < blocks_.vocabulary(); begin += blocks_.block()) {
      auto inputs = block_inputs(h, target, begin);
      inputs.push_back(floats(weight, column_));
      inputs.push_back(floats(log_total_, column_));
      program_.run("pull", inputs, {output("pull", 0, part_)});
      blocks_.release(begin);
      for (size_t i = 0; i < dn_.size(); ++i) dn_[i] += part_[i];
    }
    program_.run("through", {floats(h, shape_), weights_.norm(), floats(dn_, program_.input_shape("through", 2))}, {{"F32", shape_, dh}});
    return loss;
  }

 private:
  Buffer output(const char *method, size_t place, std::vector<float> &values) const {
    const auto &shape = program_.output_shape(method, place);
    if (count_of(shape) != values.size()) bad_file(std::string("The program's ") + method + " gives another size. Export the bundle again.");
    return floats(values, shape);
  }

  /** What both passes take of a block; local and inside say where each target is in it. */
  std::vector<Buffer> block_inputs(const float *h, const int64_t *target, int64_t begin) {
    for (size_t i = 0; i < local_.size(); ++i) {
      const bool is_inside = target[i] >= begin && target[i] < begin + blocks_.block();
      inside_[i] = is_inside ? 1.0F : 0.0F;
      local_[i] = is_inside ? target[i] - begin : 0;
    }
    std::vector<float> &bias = blocks_.is_cut(begin) ? last_bias_ : bias_;
    return {floats(h, shape_),
            weights_.norm(),
            blocks_.rows(begin),
            floats(bias, program_.input_shape("scores", 3)),
            integers(local_.data(), column_),
            floats(inside_, column_)};
  }

  Program &program_;
  const Weights &weights_;
  const std::vector<int32_t> shape_, column_;
  const OutputBlocks blocks_;
  std::vector<float> maximum_, total_, picked_, log_total_, inside_, dn_, part_, bias_, last_bias_;
  std::vector<double> highest_, sum_, reached_;
  std::vector<int64_t> local_;
};

}  // namespace

OutputBlocks::OutputBlocks(const Weights &weights, int64_t block)
    : weights_(weights), vocabulary_(weights.output().shape[0]), block_(block ? block : vocabulary_), hidden_(weights.output().shape[1]) {
  if (block_ < 1 || block_ > vocabulary_) {
    bad_file("The bundle states blocks of " + std::to_string(block_) + " of " + std::to_string(vocabulary_) + " tokens. Export it again.");
  }
  const auto left = static_cast<size_t>(vocabulary_ % block_), width = static_cast<size_t>(hidden_);
  if (!left) return;
  last_.assign(static_cast<size_t>(block_) * width, 0.0F);
  const auto *end = reinterpret_cast<const float *>(weights.output().data) + static_cast<size_t>(vocabulary_) * width;
  std::copy(end - left * width, end, last_.begin());
}

Buffer OutputBlocks::rows(int64_t begin) const {
  const std::vector<int32_t> shape = {static_cast<int32_t>(block_), static_cast<int32_t>(hidden_)};
  if (is_cut(begin)) return floats(last_.data(), shape);
  return floats(reinterpret_cast<const float *>(weights_.output().data) + static_cast<size_t>(begin * hidden_), shape);
}

std::unique_ptr<Head> make_head(Program &program, const Weights &weights, int32_t length, int32_t hidden, int64_t vocabulary_block) {
  if (vocabulary_block) return std::make_unique<BlockHead>(program, weights, length, hidden, vocabulary_block);
  return std::make_unique<WholeHead>(program, weights, length, hidden);
}

}  // namespace xpert
