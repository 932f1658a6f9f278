#include "formats/safetensors.h"

#include <algorithm>
#include <cstring>

#include "base/error.h"
#include "base/files.h"
#include "base/json.h"

namespace xpert {

namespace {

constexpr uint64_t kLargestHeader = 100'000'000;  // the limit of the format's own library
constexpr size_t kMostDimensions = 8;
constexpr std::pair<std::string_view, size_t> kTypes[] = {{"F64", 8}, {"F32", 4}, {"F16", 2}, {"BF16", 2}, {"I64", 8}, {"I32", 4}, {"I16", 2},
                                                          {"I8", 1},  {"U64", 8}, {"U32", 4}, {"U16", 2},  {"U8", 1},  {"BOOL", 1}};

/** Says of whatever does not fit that the file is broken. */
class Refusal {
 public:
  explicit Refusal(const std::string &name) : name_(name) {}
  [[noreturn]] void operator()(const std::string &what) const {
    bad_file("'" + name_ + "' is not a whole safetensors file: " + what + ". Was it cut? Fetch it again.");
  }

 private:
  const std::string &name_;
};

uint64_t whole(const Json &value, const Refusal &refuse, const std::string &what) {
  if (!value.is_number_unsigned()) refuse(what + " is no whole number from 0");
  return value.get<uint64_t>();
}

TensorView entry(const std::string &name, const Json &value, const std::byte *data, uint64_t size, const Refusal &refuse) {
  const Json none;
  auto part = [&](const char *key) -> const Json & { return value.is_object() && value.contains(key) ? value.at(key) : none; };
  TensorView view;
  if (!part("dtype").is_string() || !size_of_type(part("dtype").get<std::string>())) refuse("the type of '" + name + "' is unknown");
  view.dtype = part("dtype").get<std::string>();
  const Json &shape = part("shape"), &offsets = part("data_offsets");
  if (!shape.is_array() || shape.size() > kMostDimensions) refuse("the shape of '" + name + "' is no list of sizes");
  uint64_t bytes = size_of_type(view.dtype);
  for (const Json &n : shape) {
    uint64_t length = whole(n, refuse, "a size of '" + name + "'");
    if (length > size || (length && bytes > size / length)) refuse("'" + name + "' is larger than the file");
    bytes *= length;
    view.shape.push_back(static_cast<int64_t>(length));
  }
  if (!offsets.is_array() || offsets.size() != 2) refuse("'" + name + "' has no two offsets");
  uint64_t begin = whole(offsets[0], refuse, "an offset of '" + name + "'"), end = whole(offsets[1], refuse, "an offset of '" + name + "'");
  if (begin > end || end > size || end - begin != bytes) {
    refuse("'" + name + "' takes the bytes " + std::to_string(begin) + " to " + std::to_string(end) + ", its shape " + std::to_string(bytes) +
           " of the file's " + std::to_string(size));
  }
  view.data = data + begin;
  view.bytes = static_cast<size_t>(bytes);
  return view;
}

void check_cover(const Tensors &tensors, const std::byte *data, uint64_t size, const Refusal &refuse) {
  std::vector<std::pair<const std::byte *, size_t>> parts;
  for (const auto &item : tensors.views) parts.emplace_back(item.second.data, item.second.bytes);
  std::sort(parts.begin(), parts.end());
  const std::byte *next = data;
  for (const auto &part : parts) {
    if (part.first != next) refuse("its tensors overlap or leave gaps");
    next += part.second;
  }
  if (next != data + size) refuse("bytes are left over behind its tensors");
}

}  // namespace

size_t size_of_type(std::string_view dtype) {
  for (const auto &type : kTypes) {
    if (type.first == dtype) return type.second;
  }
  return 0;
}

size_t TensorView::count() const { return bytes / size_of_type(dtype); }

const float *TensorView::floats(const std::string &name) const {
  if (dtype != "F32") bad_file("'" + name + "' is of type " + dtype + ", expected F32. Export it again.");
  if (reinterpret_cast<uintptr_t>(data) % alignof(float)) bad_file("'" + name + "' is not aligned. Export it again.");
  return reinterpret_cast<const float *>(data);
}

namespace {

/** Headers of 640, 896, 1152 or 1408 bytes begin as pickles do; but a pickle goes on with an operation, of which "(" is the lowest. */
bool is_pickle(const std::byte *data, size_t size) {
  if (size < 3 || std::to_integer<int>(data[0]) != 0x80 || std::to_integer<int>(data[2]) < '(') return false;
  return std::to_integer<int>(data[1]) >= 2 && std::to_integer<int>(data[1]) <= 5;
}

}  // namespace

Tensors parse_safetensors(const std::byte *data, size_t size, const std::string &name) {
  Refusal refuse(name);
  if (is_pickle(data, size)) {
    bad_file("'" + name + "' is a pickled checkpoint, which could run code when read. Convert it to safetensors where it was made.");
  }
  if (size < 8) refuse("it has " + std::to_string(size) + " bytes");
  uint64_t length = 0;
  std::memcpy(&length, data, sizeof length);
  if (length > kLargestHeader || length > size - 8) refuse("its header of " + std::to_string(length) + " bytes is longer than allowed");
  Json header = parse_json({reinterpret_cast<const char *>(data) + 8, static_cast<size_t>(length)}, "the header of '" + name + "'", XPERT_BAD_FILE);
  if (!header.is_object()) refuse("its header is no object");
  Tensors found;
  const std::byte *begin = data + 8 + length;
  const uint64_t left = size - 8 - length;
  for (const auto &item : header.items()) {
    if (item.key() != "__metadata__") {
      found.views.emplace(item.key(), entry(item.key(), item.value(), begin, left, refuse));
      continue;
    }
    if (!item.value().is_object()) refuse("its metadata are no object");
    for (const auto &pair : item.value().items()) {
      if (!pair.value().is_string()) refuse("its metadata hold something else than texts");
      found.metadata.emplace(pair.key(), pair.value().get<std::string>());
    }
  }
  check_cover(found, begin, left, refuse);
  return found;
}

void write_safetensors(const std::string &path, const std::vector<std::pair<std::string, TensorView>> &tensors,
                       const std::map<std::string, std::string> &metadata) {
  auto sorted = tensors;
  std::sort(sorted.begin(), sorted.end(), [](const auto &a, const auto &b) { return a.first < b.first; });
  nlohmann::ordered_json header = nlohmann::ordered_json::object();
  if (!metadata.empty()) header["__metadata__"] = metadata;
  uint64_t place = 0;
  for (const auto &[name, view] : sorted) {
    header[name] = {{"dtype", view.dtype}, {"shape", view.shape}, {"data_offsets", {place, place + view.bytes}}};
    place += view.bytes;
  }
  std::string text = header.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');
  uint64_t length = text.size();
  write_atomic(path, [&](const Sink &sink) {
    sink(&length, sizeof length);
    sink(text.data(), text.size());
    for (const auto &[name, view] : sorted) sink(view.data, view.bytes);
  });
}

TensorView view_of(const std::vector<float> &values, std::vector<int64_t> shape) {
  return {"F32", std::move(shape), reinterpret_cast<const std::byte *>(values.data()), values.size() * sizeof(float)};
}

}  // namespace xpert
