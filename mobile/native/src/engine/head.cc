#include "engine/head.h"

#include <algorithm>

#include "base/error.h"

namespace xpert {

OutputBlocks::OutputBlocks(const Weights &weights, int64_t block)
    : weights_(weights), vocabulary_(weights.output().shape[0]), block_(block), hidden_(weights.output().shape[1]) {
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

Head::Head(Program &program, const Weights &weights, int64_t block)
    : program_(program), weights_(weights), shape_(program.input_shape("pull", 0)), column_(program.input_shape("pull", 4)),
      matrix_(program.input_shape("pull", 6)), blocks_(weights, block), bias_(static_cast<size_t>(block)), last_bias_(bias_) {
  const auto n = static_cast<int32_t>(count_of(shape_) / static_cast<size_t>(weights.output().shape[1]));
  if (column_ != std::vector<int32_t>{n, 1} || matrix_ != std::vector<int32_t>{n, shape_.back()}) {
    bad_file("The training program is of another geometry. Export the bundle again.");
  }
  for (Sums *sums : {&sums_, &next_}) {
    for (auto *column : {&sums->maximum, &sums->total}) column->resize(count_of(column_));
    sums->pulled.resize(count_of(matrix_));
  }
  own_.resize(count_of(matrix_));
  unused_.resize(count_of(shape_));
  const int64_t left = blocks_.vocabulary() % block;
  if (left) std::fill(last_bias_.begin() + static_cast<std::ptrdiff_t>(left), last_bias_.end(), kMasked);  // no token is there
}

double Head::run(const float *h, const int64_t *target, const float *weight, float *dh) {
  const char *method = dh ? "pull" : "scores";
  const size_t n_sums = dh ? 3 : 2;
  std::fill(sums_.maximum.begin(), sums_.maximum.end(), kMasked);
  std::fill(sums_.total.begin(), sums_.total.end(), 0.0F);
  std::fill(sums_.pulled.begin(), sums_.pulled.end(), 0.0F);
  for (int64_t begin = 0; begin < blocks_.vocabulary(); begin += blocks_.block()) {
    std::vector<float> &bias = blocks_.is_cut(begin) ? last_bias_ : bias_;
    std::vector<Buffer> inputs = {floats(h, shape_), weights_.norm(), blocks_.rows(begin), floats(bias, program_.input_shape("pull", 3))};
    for (Buffer &buffer : buffers(sums_, n_sums)) inputs.push_back(buffer);
    program_.run(method, inputs, buffers(next_, n_sums));
    std::swap(sums_, next_);
    if (!dh) sums_.pulled.swap(next_.pulled);  // the one that is zero
    blocks_.release(begin);
  }
  weights_.output_rows(target, count_of(column_), own_.data());
  std::vector<Buffer> inputs = {floats(h, shape_), weights_.norm(), floats(own_, matrix_), floats(weight, column_)};
  for (Buffer &buffer : buffers(sums_, 3)) inputs.push_back(buffer);
  float loss = 0;
  program_.run("loss", inputs, {{"F32", program_.output_shape("loss", 0), &loss}, floats(dh ? dh : unused_.data(), shape_)});
  return static_cast<double>(loss);
}

std::vector<Buffer> Head::buffers(Sums &sums, size_t n) const {
  std::vector<Buffer> all = {floats(sums.maximum, column_), floats(sums.total, column_), floats(sums.pulled, matrix_)};
  all.resize(n);
  return all;
}

}  // namespace xpert
