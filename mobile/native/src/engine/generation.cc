#include "engine/generation.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "engine/peft.h"

namespace xpert {

namespace {

/** What all of a layer's methods take behind their own inputs. */
void append_layer(std::vector<Buffer> &inputs, const Weights &weights, const Geometry &geometry, const AdapterState &state, int64_t layer) {
  inputs.push_back(floats(&state.scale, {1}));
  inputs.insert(inputs.end(), weights.layer(layer).begin(), weights.layer(layer).end());
  const auto lora = state.lora(geometry, layer);
  inputs.insert(inputs.end(), lora.begin(), lora.end());
}

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
  const auto &shape = program.input_shape("prefill", 0);
  if (shape.size() != 3 || shape[0] != 1 || shape[2] != geometry.hidden) {
    bad_file("The generation program is of another geometry. Export the bundle again.");
  }
  tables_ = context_tables(geometry, shape[1]);
  const auto hidden = static_cast<size_t>(geometry.hidden), pair = static_cast<size_t>(geometry.n_kv_heads * geometry.head_dim);
  keys_.assign(static_cast<size_t>(geometry.n_layers), std::vector<float>(pair * length()));
  values_ = keys_;
  x_.resize(length() * hidden);
  y_.resize(length() * hidden);
  h_.resize(hidden);
  next_.resize(hidden);
  place_.resize(length());
  key_.resize(pair);
  value_.resize(pair);
}

Generated TextGenerator::answer(const std::vector<int64_t> &prompt, const AdapterState &state, const GenerationOptions &options,
                                const Decode &decode, const OnPiece &on_piece, const std::function<bool()> &is_cancelled) {
  check_options(options);
  const bool has_prefix = state.method == Method::kPrefix;
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
  if (has_prefix) {
    read_behind_prefix(prompt, state);
  } else {
    prefill(prompt, state);
  }
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
    if (place + 1 < last) decode_token(token, place, state);
  }
  stream.finish();
  made.text = stream.text();
  return made;
}

void TextGenerator::prefill(const std::vector<int64_t> &prompt, const AdapterState &state) {
  const auto hidden = static_cast<size_t>(geometry_.hidden), dim = static_cast<size_t>(geometry_.head_dim);
  const size_t front = state.n_front(), n = front + prompt.size();
  std::vector<int64_t> ids(length() - front);
  std::copy(prompt.begin(), prompt.end(), ids.begin());
  if (front) std::copy(state.values[0].begin(), state.values[0].end(), x_.begin());
  weights_.embed(ids.data(), ids.size(), x_.data() + front * hidden);
  const std::vector<int32_t> shape = {1, tables_.length, static_cast<int32_t>(hidden)};
  const std::vector<int32_t> cache = {static_cast<int32_t>(geometry_.n_kv_heads), tables_.length, tables_.head_dim};
  for (int64_t i = 0; i < geometry_.n_layers; ++i) {
    std::vector<float> &keys = keys_[static_cast<size_t>(i)], &values = values_[static_cast<size_t>(i)];
    std::vector<Buffer> inputs = {floats(x_, shape), floats(tables_.mask, {tables_.length, tables_.length}),
                                  floats(tables_.cos, {tables_.length, tables_.head_dim}),
                                  floats(tables_.sin, {tables_.length, tables_.head_dim})};
    append_layer(inputs, weights_, geometry_, state, i);
    program_.run("prefill", inputs, {floats(y_, shape), floats(keys, cache), floats(values, cache)});
    weights_.release(i);
    std::swap(x_, y_);
    // Places that no token has taken are zero in the cache: a token adds its key to its place.
    for (size_t head = 0; head < static_cast<size_t>(geometry_.n_kv_heads); ++head) {
      for (auto *array : {&keys, &values}) {
        auto row = array->begin() + static_cast<std::ptrdiff_t>(head * length() * dim);
        std::fill(row + static_cast<std::ptrdiff_t>(n * dim), row + static_cast<std::ptrdiff_t>(length() * dim), 0.0F);
      }
    }
  }
  std::copy_n(x_.begin() + static_cast<std::ptrdiff_t>((n - 1) * hidden), hidden, h_.begin());
}

void TextGenerator::read_behind_prefix(const std::vector<int64_t> &prompt, const AdapterState &state) {
  const size_t dim = static_cast<size_t>(geometry_.head_dim), n = static_cast<size_t>(state.n_virtual);
  for (size_t i = 0; i < keys_.size(); ++i) {
    for (size_t half = 0; half < 2; ++half) {
      auto &cache = half ? values_[i] : keys_[i];
      std::fill(cache.begin(), cache.end(), 0.0F);
      for (size_t head = 0; head < static_cast<size_t>(geometry_.n_kv_heads); ++head) {
        std::copy_n(state.values[2 * i + half].begin() + static_cast<std::ptrdiff_t>(head * n * dim), n * dim,
                    cache.begin() + static_cast<std::ptrdiff_t>(head * length() * dim));
      }
    }
  }
  // Token by token: the method for whole prompts takes no keys from before.
  for (size_t i = 0; i < prompt.size(); ++i) decode_token(prompt[i], n + i, state);
}

void TextGenerator::decode_token(int64_t token, size_t place, const AdapterState &state) {
  const auto hidden = static_cast<int32_t>(geometry_.hidden), heads = static_cast<int32_t>(geometry_.n_kv_heads);
  const int32_t total = tables_.length, width = tables_.head_dim;
  const auto dim = static_cast<size_t>(width);
  std::fill(place_.begin(), place_.end(), 0.0F);
  place_[place] = 1.0F;
  weights_.embed(&token, 1, h_.data());
  for (int64_t i = 0; i < geometry_.n_layers; ++i) {
    std::vector<float> &keys = keys_[static_cast<size_t>(i)], &values = values_[static_cast<size_t>(i)];
    std::vector<Buffer> inputs = {floats(h_, {1, 1, hidden}),
                                  floats(tables_.mask.data() + place * length(), {1, total}),
                                  floats(place_, {total, 1}),
                                  floats(tables_.cos.data() + place * dim, {1, width}),
                                  floats(tables_.sin.data() + place * dim, {1, width}),
                                  floats(keys, {heads, total, width}),
                                  floats(values, {heads, total, width})};
    append_layer(inputs, weights_, geometry_, state, i);
    program_.run("decode", inputs, {floats(next_, {1, 1, hidden}), floats(key_, {heads, 1, width}), floats(value_, {heads, 1, width})});
    weights_.release(i);
    std::swap(h_, next_);
    for (size_t head = 0; head < static_cast<size_t>(heads); ++head) {
      const auto to = static_cast<std::ptrdiff_t>((head * length() + place) * dim), from = static_cast<std::ptrdiff_t>(head * dim);
      std::copy_n(key_.begin() + from, dim, keys.begin() + to);
      std::copy_n(value_.begin() + from, dim, values.begin() + to);
    }
  }
}

void TextGenerator::compute_logits() {
  const auto hidden = static_cast<int32_t>(geometry_.hidden), block = static_cast<int32_t>(blocks_.block());
  logits_.resize(static_cast<size_t>((blocks_.vocabulary() + blocks_.block() - 1) / blocks_.block() * blocks_.block()));
  for (int64_t begin = 0; begin < blocks_.vocabulary(); begin += blocks_.block()) {
    program_.run("logits", {floats(h_, {1, 1, hidden}), weights_.norm(), blocks_.rows(begin)},
                 {{"F32", {1, block}, &logits_[static_cast<size_t>(begin)]}});
    blocks_.release(begin);
  }
  logits_.resize(static_cast<size_t>(blocks_.vocabulary()));  // without what fills up the last block
}

}  // namespace xpert
