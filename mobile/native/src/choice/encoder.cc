#include "choice/encoder.h"

#include <executorch/extension/module/module.h>
#include <executorch/extension/tensor/tensor.h>

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "base/files.h"
#include "runtime/prepare.h"
#include "text/surface.h"
#include "xpert_libraries.h"

namespace xpert {

namespace {

constexpr size_t kLargestTokenizer = size_t{1} << 28;
constexpr int64_t kFewestIds = 2;  // the program's shortest text

using executorch::aten::ScalarType;
using executorch::extension::Module;

struct FreeTokenizer {
  void operator()(xpert_lib_tokenizer *tokenizer) const { xpert_lib_tokenizer_free(tokenizer); }
};

std::unique_ptr<xpert_lib_tokenizer, FreeTokenizer> tokenizer_of(const EncoderFiles &files) {
  const std::string text = read_file(files.tokenizer, kLargestTokenizer);
  xpert_lib_tokenizer *made = nullptr;
  if (xpert_lib_tokenizer_new(text.data(), text.size(), files.max_length, &made) != 0) {
    bad_file("'" + files.tokenizer + "' is no usable tokenizer: " + xpert_lib_error() + ". Export the bundle again.");
  }
  return std::unique_ptr<xpert_lib_tokenizer, FreeTokenizer>(made);
}

[[noreturn]] void unfit(const EncoderFiles &files, const std::string &what) {
  bad_file("'" + files.program + "' is no encoder that this runtime can run: " + what + ". Export the bundle again.");
}

/** Numbers that the program gives for its longest text; refuses a program that is not the manifest's. */
size_t largest_output(Module &module, const EncoderFiles &files) {
  auto meta = module.method_meta("forward");
  if (!meta.ok()) unfit(files, "it has no method 'forward'");
  if (meta->num_inputs() != 1 || meta->num_outputs() != 1) unfit(files, "it takes or gives more than one tensor");
  auto input = meta->input_tensor_meta(0);
  auto output = meta->output_tensor_meta(0);
  if (!input.ok() || !output.ok() || input->scalar_type() != ScalarType::Long || output->scalar_type() != ScalarType::Float) {
    unfit(files, "it does not take whole numbers and give floats");
  }
  const auto taken = input->sizes(), given = output->sizes();
  const bool fits = taken.size() == 2 && taken[0] == 1 && given.size() == 3 && given[2] == static_cast<int32_t>(files.dim) &&
                    taken[1] >= static_cast<int32_t>(files.max_length) && given[1] >= taken[1];
  if (!fits) unfit(files, "its sizes are not the manifest's");
  return static_cast<size_t>(given[1]) * files.dim;
}

}  // namespace

struct Encoder::Parts {
  explicit Parts(const EncoderFiles &files) : tokenizer(tokenizer_of(files)), module(files.program, Module::LoadMode::Mmap) {}

  std::unique_ptr<xpert_lib_tokenizer, FreeTokenizer> tokenizer;
  Module module;
  executorch::runtime::Method *forward = nullptr;
  std::vector<float> hidden;  // programs leave room for their outputs to the caller
};

Encoder::Encoder(const EncoderFiles &files, int threads) : files_(files) {
  name_ = files.name + "+surface-" + std::to_string(kSurfaceVersion);
  if (files.dim < 1 || files.max_length <= static_cast<size_t>(kFewestIds)) unfit(files, "the manifest gives sizes that no encoder has");
  prepare_runtime(threads);
  parts_ = std::make_unique<Parts>(files);
  Module &module = parts_->module;
  auto check = [&](executorch::runtime::Error error) {
    if (error != executorch::runtime::Error::Ok) unfit(files, "error " + std::to_string(static_cast<int>(error)));
  };
  check(module.load(executorch::runtime::Program::Verification::InternalConsistency));
  check(module.load_method("forward"));
  parts_->hidden.resize(largest_output(module, files));
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
  auto forward = module.method("forward");  // the facade's own calls cannot place an output whose length changes
#pragma GCC diagnostic pop
  if (!forward.ok()) check(forward.error());
  parts_->forward = *forward;
}

Encoder::~Encoder() = default;

size_t Encoder::dim() const { return files_.dim + kSurface; }

std::vector<int64_t> Encoder::ids_of(std::string_view text) const {
  uint32_t *ids = nullptr;
  size_t n = 0;
  if (xpert_lib_tokenizer_encode(parts_->tokenizer.get(), text.data(), text.size(), 1, &ids, &n) != 0) {
    bad_input(std::string("Cannot tokenize a text: ") + xpert_lib_error() + ". Give UTF-8.");
  }
  std::vector<int64_t> out(ids, ids + n);
  xpert_lib_free_ids(ids, n);
  if (n < static_cast<size_t>(kFewestIds) || n > files_.max_length) {
    bad_file("'" + files_.tokenizer + "' gives a text " + std::to_string(n) + " tokens, expected " + std::to_string(kFewestIds) + " to " +
             std::to_string(files_.max_length) + ". Export the bundle again.");
  }
  return out;
}

void Encoder::embed(const std::vector<int64_t> &ids, float *out) const {
  auto *data = const_cast<int64_t *>(ids.data());  // the runtime's tensors are mutable, inputs are not written
  auto tensor = executorch::extension::from_blob(data, {1, static_cast<int32_t>(ids.size())}, ScalarType::Long);
  auto check = [](executorch::runtime::Error error) {
    if (error == executorch::runtime::Error::Ok) return;
    throw Error(XPERT_INTERNAL, "The encoder failed (error " + std::to_string(static_cast<int>(error)) + "). Please report it.");
  };
  check(parts_->forward->set_input(executorch::runtime::EValue(*tensor), 0));
  check(parts_->forward->set_output_data_ptr(parts_->hidden.data(), parts_->hidden.size() * sizeof(float), 0));
  check(parts_->forward->execute());
  const auto hidden = parts_->forward->get_output(0).toTensor();
  const size_t n = ids.size(), dim = files_.dim;
  if (static_cast<size_t>(hidden.numel()) != n * dim) unfit(files_, "it gives " + std::to_string(hidden.numel()) + " numbers");
  const float *rows = hidden.const_data_ptr<float>();
  std::fill(out, out + dim, 0.0F);
  for (size_t i = 0; i < n; ++i) {
    for (size_t j = 0; j < dim; ++j) out[j] += rows[i * dim + j];
  }
  double square = 0;
  for (size_t j = 0; j < dim; ++j) {
    out[j] /= static_cast<float>(n);
    square += static_cast<double>(out[j]) * static_cast<double>(out[j]);
  }
  const auto length = static_cast<float>(std::max(std::sqrt(square), 1e-12));
  for (size_t j = 0; j < dim; ++j) out[j] /= length;
}

std::vector<float> Encoder::encode(const std::vector<std::string_view> &texts, const std::function<void()> &pause) const {
  std::vector<float> out(texts.size() * dim());
  for (size_t i = 0; i < texts.size(); ++i) {
    pause();
    const Characters characters = decode_utf8(texts[i], "text " + std::to_string(i + 1));
    float *row = out.data() + i * dim();
    embed(ids_of(texts[i]), row);
    const auto statistics = surface_statistics(characters);
    std::copy(statistics.begin(), statistics.end(), row + files_.dim);
  }
  return out;
}

}  // namespace xpert
