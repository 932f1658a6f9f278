#include "engine/generation.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "engine/peft.h"

namespace xpert {

namespace {

/** Lets all weights go where a block ends, an error included. */
struct Released {
  const Weights &weights;
  ~Released() { weights.release(); }
};

}  // namespace

void check_options(const GenerationOptions &o) {
  std::vector<std::string> problems;
  auto expect = [&](bool is_right, const std::string &what) {
    if (!is_right) problems.push_back(what);
  };
  const double temperature = o.sampling.temperature, top_p = o.sampling.top_p;
  expect(o.max_new_tokens >= 1 && o.max_new_tokens <= 1'000'000,
         "max_new_tokens is " + std::to_string(o.max_new_tokens) + ", expected 1 to 1000000");
  expect(temperature >= 0 && std::isfinite(temperature), "temperature is " + python_float(temperature) + ", expected at least 0");
  expect(top_p > 0 && top_p <= 1, "top_p is " + python_float(top_p) + ", expected above 0 to 1");
  expect(o.sampling.top_k >= 0, "top_k is " + std::to_string(o.sampling.top_k) + ", expected at least 0");
  for (const auto &word : o.stop_words) {
    if (word.empty()) problems.push_back("a stop word is empty");
  }
  if (!problems.empty()) bad_input("Cannot answer: " + listed(problems, problems.size()) + ".");
}

TextGenerator::TextGenerator(const Weights &weights, const Geometry &geometry, Program &program, int64_t vocabulary_block)
    : weights_(weights), geometry_(geometry), program_(program), blocks_(weights, vocabulary_block) {
  const auto &rows = program.input_shape("read", 0), &mask = program.input_shape("read", 1);
  if (rows.size() != 3 || rows[0] != 1 || rows[2] != geometry.hidden || mask.size() != 2 || mask[1] <= rows[1]) {
    bad_file("The generation program is of another geometry. Export the bundle again.");
  }
  chunk_ = static_cast<size_t>(rows[1]);
  length_ = static_cast<size_t>(mask[1] - rows[1]);
  tables_ = rotary_tables(geometry, mask[1]);  // the last chunk may reach behind the last place
  const auto hidden = static_cast<size_t>(geometry.hidden), pair = static_cast<size_t>(geometry.n_kv_heads * geometry.head_dim);
  keys_.assign(static_cast<size_t>(geometry.n_layers), std::vector<float>(pair * length_));
  values_ = keys_;
  x_.resize(length_ * hidden);
  for (auto *array : {&in_, &out_}) array->resize(chunk_ * hidden);
  for (auto *array : {&key_, &value_}) array->resize(chunk_ * pair);
}

Generated TextGenerator::answer(const std::vector<int64_t> &prompt, const AdapterState &state, const GenerationOptions &options,
                                const Decode &decode, const OnPiece &on_piece, const std::function<bool()> &is_cancelled) {
  check_options(options);
  keeps_weights_ = options.keeps_weights;
  const Released released{weights_};
  const size_t n = prompt.size() + static_cast<size_t>(state.n_virtual);
  if (prompt.empty()) bad_input("The tokenizer turns the prompt into no token. Change the prompt.");
  if (n >= length()) {
    bad_input("The prompt has " + std::to_string(n) + " tokens, at most " + std::to_string(length() - 1) +
              " leave room for an answer. Shorten it, or export the bundle with a larger length.");
  }
  auto check_cancelled = [&] {
    if (is_cancelled && is_cancelled()) throw Error(XPERT_CANCELLED, "The answer was cancelled. Ask again for a whole one.");
  };
  Generated made;
  made.n_prompt = prompt.size();
  made.ended = "length";
  TextStream stream(options.stop_words, on_piece);
  Random random(options.seed);
  check_cancelled();
  read_prompt(prompt, state);
  const size_t last = std::min(length(), n + static_cast<size_t>(options.max_new_tokens));
  for (size_t place = n; place < last; ++place) {
    check_cancelled();
    compute_logits();
    const int64_t token = next_token(logits_, options.sampling, random);
    if (std::count(options.ends.begin(), options.ends.end(), token)) {
      made.ended = "end";
      break;
    }
    made.ids.push_back(token);
    if (stream.grow(decode(made.ids))) {
      made.ended = "stop";
      break;
    }
    if (place + 1 < last) {
      weights_.embed(&token, 1, x_.data());
      read(1, place, state);
    }
  }
  stream.finish();
  made.text = stream.text();
  return made;
}

void TextGenerator::read_prompt(const std::vector<int64_t> &prompt, const AdapterState &state) {
  const size_t front = state.n_front(), hidden = static_cast<size_t>(geometry_.hidden);
  if (front) std::copy(state.values[0].begin(), state.values[0].end(), x_.begin());
  weights_.embed(prompt.data(), prompt.size(), x_.data() + front * hidden);
  const bool has_prefix = state.method == Method::kPrefix;
  if (has_prefix) {
    for (size_t i = 0; i < keys_.size(); ++i) {
      put(state.values[2 * i].data(), static_cast<size_t>(state.n_virtual), static_cast<size_t>(state.n_virtual), 0, keys_[i]);
      put(state.values[2 * i + 1].data(), static_cast<size_t>(state.n_virtual), static_cast<size_t>(state.n_virtual), 0, values_[i]);
    }
  }
  read(front + prompt.size(), has_prefix ? static_cast<size_t>(state.n_virtual) : 0, state);
}

void TextGenerator::read(size_t n, size_t begin, const AdapterState &state) {
  const auto hidden = static_cast<size_t>(geometry_.hidden), dim = static_cast<size_t>(geometry_.head_dim);
  const auto heads = static_cast<int32_t>(geometry_.n_kv_heads), width = static_cast<int32_t>(dim), length = static_cast<int32_t>(length_);
  const size_t step = n == 1 ? 1 : chunk_;
  const auto rows = static_cast<int32_t>(step);
  const std::vector<int32_t> shape = {1, rows, static_cast<int32_t>(hidden)}, pair = {heads, rows, width};
  // A layer takes all chunks before the next one comes: its weights are read once.
  for (int64_t i = 0; i < geometry_.n_layers; ++i) {
    std::vector<float> &keys = keys_[static_cast<size_t>(i)], &values = values_[static_cast<size_t>(i)];
    for (size_t first = 0; first < n; first += step) {
      const size_t taken = std::min(step, n - first), place = begin + first;
      float *x = x_.data() + first * hidden;
      std::fill(std::copy_n(x, taken * hidden, in_.begin()), in_.end(), 0.0F);
      const std::vector<float> mask = causal_mask(step, length_, place);
      std::vector<Buffer> inputs = {floats(in_, shape), floats(mask.data(), {rows, length + rows}),
                                    floats(tables_.cos.data() + place * dim, {rows, width}),
                                    floats(tables_.sin.data() + place * dim, {rows, width}), floats(&state.scale, {1})};
      for (const auto &rest : {weights_.layer(i), state.lora(geometry_, i)}) inputs.insert(inputs.end(), rest.begin(), rest.end());
      inputs.push_back(floats(keys, {heads, length, width}));
      inputs.push_back(floats(values, {heads, length, width}));
      program_.run(n == 1 ? "decode" : "read", inputs, {floats(out_, shape), floats(key_, pair), floats(value_, pair)});
      std::copy_n(out_.begin(), taken * hidden, x);
      put(key_.data(), step, taken, place, keys);
      put(value_.data(), step, taken, place, values);
    }
    if (!keeps_weights_) weights_.release(i);
  }
  last_ = n - 1;
}

void TextGenerator::put(const float *rows, size_t step, size_t n, size_t place, std::vector<float> &cache) const {
  const auto dim = static_cast<size_t>(geometry_.head_dim);
  for (size_t head = 0; head < static_cast<size_t>(geometry_.n_kv_heads); ++head) {
    std::copy_n(rows + head * step * dim, n * dim, cache.begin() + static_cast<std::ptrdiff_t>((head * length_ + place) * dim));
  }
}

void TextGenerator::compute_logits() {
  const auto hidden = static_cast<int32_t>(geometry_.hidden), block = static_cast<int32_t>(blocks_.block());
  const float *h = x_.data() + last_ * static_cast<size_t>(hidden);
  logits_.resize(static_cast<size_t>((blocks_.vocabulary() + blocks_.block() - 1) / blocks_.block() * blocks_.block()));
  for (int64_t begin = 0; begin < blocks_.vocabulary(); begin += blocks_.block()) {
    program_.run("logits", {floats(h, {1, 1, hidden}), weights_.norm(), blocks_.rows(begin)},
                 {{"F32", {1, block}, &logits_[static_cast<size_t>(begin)]}});
    if (!keeps_weights_) blocks_.release(begin);
  }
  logits_.resize(static_cast<size_t>(blocks_.vocabulary()));  // without what fills up the last block
}

}  // namespace xpert
