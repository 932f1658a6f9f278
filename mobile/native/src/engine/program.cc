#include "engine/program.h"

#include <executorch/extension/module/module.h>
#include <executorch/extension/tensor/tensor.h>

#include <map>
#include <unordered_set>

#include "base/error.h"
#include "runtime/prepare.h"

namespace xpert {

namespace {

using executorch::aten::ScalarType;
using executorch::runtime::EValue;

constexpr std::pair<const char *, ScalarType> kTypes[] = {
    {"F32", ScalarType::Float}, {"I64", ScalarType::Long}, {"I32", ScalarType::Int}, {"I8", ScalarType::Char}, {"U8", ScalarType::Byte}};

ScalarType type_of(const std::string &dtype) {
  for (const auto &[name, type] : kTypes) {
    if (dtype == name) return type;
  }
  bad_file("No program takes values of type " + dtype + ". Export the bundle again.");
}

std::string name_of(ScalarType type) {
  for (const auto &[name, known] : kTypes) {
    if (type == known) return name;
  }
  return "another type";
}

/** What a method was exported with. */
struct Slot {
  ScalarType type;
  std::vector<int32_t> shape;
};

struct Method {
  executorch::runtime::Method *loaded = nullptr;
  std::vector<Slot> inputs, outputs;
};

std::string described(const std::string &type, const std::vector<int32_t> &shape) {
  std::string text = type + " (";
  for (size_t i = 0; i < shape.size(); ++i) text += (i ? ", " : "") + std::to_string(shape[i]);
  return text + ")";
}

void check(const std::vector<Buffer> &given, const std::vector<Slot> &expected, const std::string &what) {
  if (given.size() != expected.size()) {
    mismatch("The program takes " + std::to_string(expected.size()) + " " + what + ", the bundle gives " + std::to_string(given.size()) +
             ". Export the bundle again.");
  }
  for (size_t i = 0; i < given.size(); ++i) {
    if (type_of(given[i].dtype) == expected[i].type && given[i].shape == expected[i].shape) continue;
    mismatch("The program takes " + described(name_of(expected[i].type), expected[i].shape) + " as " + what + " " + std::to_string(i) +
             ", the bundle gives " + described(given[i].dtype, given[i].shape) + ". Export the bundle again.");
  }
}

executorch::extension::TensorPtr tensor_of(const Buffer &buffer) {
  return executorch::extension::from_blob(buffer.data, {buffer.shape.begin(), buffer.shape.end()}, type_of(buffer.dtype));
}

template <typename Meta>
Slot slot_of(const Meta &meta, const std::string &path) {
  if (!meta.ok()) bad_file("'" + path + "' takes or gives something else than tensors. Export the bundle again.");
  return {meta->scalar_type(), {meta->sizes().begin(), meta->sizes().end()}};
}

}  // namespace

Buffer floats(const float *values, std::vector<int32_t> shape) { return {"F32", std::move(shape), const_cast<float *>(values)}; }

Buffer floats(std::vector<float> &values, std::vector<int32_t> shape) { return {"F32", std::move(shape), values.data()}; }

Buffer integers(const int64_t *values, std::vector<int32_t> shape) { return {"I64", std::move(shape), const_cast<int64_t *>(values)}; }

size_t count_of(const std::vector<int32_t> &shape) {
  size_t n = 1;
  for (int32_t length : shape) n *= static_cast<size_t>(length);
  return n;
}

Buffer stored(const TensorView &view) { return {view.dtype, {view.shape.begin(), view.shape.end()}, const_cast<std::byte *>(view.data)}; }

struct Program::Parts {
  // One arena for all methods: they run one after another, and nothing stays in it between two.
  explicit Parts(const std::string &file)
      : path(file), module(file, executorch::extension::Module::LoadMode::Mmap, nullptr, nullptr, nullptr, true) {}

  const Method &method(const std::string &name) const {
    auto found = methods.find(name);
    if (found == methods.end()) bad_file("The program '" + path + "' has no method '" + name + "'. Export the bundle again.");
    return found->second;
  }

  std::string path;
  executorch::extension::Module module;
  std::map<std::string, Method> methods;
};

Program::Program(const std::string &path, int threads) {
  prepare_runtime(threads);
  parts_ = std::make_unique<Parts>(path);
  auto &module = parts_->module;
  auto refuse = [&](executorch::runtime::Error error) {
    bad_file("'" + path + "' is no program that this runtime can run (error " + std::to_string(static_cast<int>(error)) +
             "). Export the bundle again.");
  };
  auto status = module.load(executorch::runtime::Program::Verification::InternalConsistency);
  if (status != executorch::runtime::Error::Ok) refuse(status);
  auto names = module.method_names();
  if (!names.ok()) refuse(names.error());
  for (const std::string &name : *names) {
    status = module.load_method(name);
    if (status != executorch::runtime::Error::Ok) refuse(status);
    Method &method = parts_->methods[name];
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
    // The facade's own calls copy a vector of values for every run and cannot place one output after another.
    auto loaded = module.method(name);
#pragma GCC diagnostic pop
    if (!loaded.ok()) refuse(loaded.error());
    method.loaded = *loaded;
    auto meta = method.loaded->method_meta();
    for (size_t i = 0; i < meta.num_inputs(); ++i) method.inputs.push_back(slot_of(meta.input_tensor_meta(i), path));
    for (size_t i = 0; i < meta.num_outputs(); ++i) method.outputs.push_back(slot_of(meta.output_tensor_meta(i), path));
  }
}

Program::~Program() = default;

bool Program::has(const std::string &method) const { return parts_->methods.count(method) != 0; }

const std::vector<int32_t> &Program::input_shape(const std::string &method, size_t place) const {
  const auto &inputs = parts_->method(method).inputs;
  if (place >= inputs.size()) bad_file("The method '" + method + "' of '" + parts_->path + "' takes too few inputs. Export the bundle again.");
  return inputs[place].shape;
}

const std::vector<int32_t> &Program::output_shape(const std::string &method, size_t place) const {
  const auto &outputs = parts_->method(method).outputs;
  if (place >= outputs.size()) bad_file("The method '" + method + "' of '" + parts_->path + "' gives too little. Export the bundle again.");
  return outputs[place].shape;
}

size_t Program::n_inputs(const std::string &method) const { return parts_->method(method).inputs.size(); }

size_t Program::n_outputs(const std::string &method) const { return parts_->method(method).outputs.size(); }

void Program::run(const std::string &name, const std::vector<Buffer> &inputs, const std::vector<Buffer> &outputs) {
  const Method &method = parts_->method(name);
  check(inputs, method.inputs, "inputs of '" + name + "'");
  check(outputs, method.outputs, "outputs of '" + name + "'");
  auto refuse = [&](executorch::runtime::Error error) {
    if (error == executorch::runtime::Error::Ok) return;
    throw Error(XPERT_INTERNAL, "The program '" + parts_->path + "' failed in '" + name + "' (error " + std::to_string(static_cast<int>(error)) +
                                    "). Export the bundle again; report it if that does not help.");
  };
  std::vector<executorch::extension::TensorPtr> tensors;
  for (size_t i = 0; i < inputs.size(); ++i) {
    tensors.push_back(tensor_of(inputs[i]));
    refuse(method.loaded->set_input(EValue(*tensors.back()), i));
  }
  for (size_t i = 0; i < outputs.size(); ++i) {
    size_t bytes = size_of_type(outputs[i].dtype);
    for (int32_t n : outputs[i].shape) bytes *= static_cast<size_t>(n);
    refuse(method.loaded->set_output_data_ptr(outputs[i].data, bytes, i));
  }
  refuse(method.loaded->execute());
}

}  // namespace xpert
