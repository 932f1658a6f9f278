#include "engine/checkpoint.h"

#include <algorithm>
#include <cstring>
#include <filesystem>

#include "base/error.h"
#include "base/files.h"
#include "formats/safetensors.h"

namespace xpert {

namespace {

constexpr const char *kNumbers = "xpert", *kDigest = "digest";

std::string digest_of(const std::map<std::string, TensorView> &views, const std::string &text) {
  std::string parts = text;
  for (const auto &[name, view] : views) {
    parts += "\n" + name + " " + view.dtype + " " + std::to_string(view.bytes) + " " +
             sha256_hex({reinterpret_cast<const char *>(view.data), view.bytes});
  }
  return sha256_hex(parts);
}

[[noreturn]] void broken(const std::string &path, const std::string &why) {
  bad_file("The checkpoint '" + path + "' is broken: " + why + ". Remove it to start anew.");
}

}  // namespace

void write_checkpoint(const std::string &path, const NamedArrays &arrays, const Json &numbers) {
  std::map<std::string, TensorView> views;
  for (const auto &[name, array] : arrays) views.emplace(name, view_of(*array, {static_cast<int64_t>(array->size())}));
  const std::string text = numbers.dump();
  write_safetensors(path, {views.begin(), views.end()}, {{kNumbers, text}, {kDigest, digest_of(views, text)}});
}

bool has_checkpoint(const std::string &path) {
  std::error_code none;
  return std::filesystem::exists(path, none);
}

Json read_checkpoint(const std::string &path) {
  MappedFile file(path);
  Tensors tensors = parse_safetensors(file.data(), file.size(), path);
  const std::string text = tensors.metadata[kNumbers], stated = tensors.metadata[kDigest];
  const std::string found = digest_of(tensors.views, text);
  if (found != stated) broken(path, "its digest is " + found.substr(0, 12) + ", it says " + (stated.empty() ? "none" : stated.substr(0, 12)));
  return parse_json(text, "the checkpoint '" + path + "'", XPERT_BAD_FILE);
}

void fill_from_checkpoint(const std::string &path, const NamedArrays &arrays) {
  MappedFile file(path);
  Tensors tensors = parse_safetensors(file.data(), file.size(), path);
  for (const auto &[name, array] : arrays) {
    auto found = tensors.views.find(name);
    if (found == tensors.views.end() || found->second.dtype != "F32" || found->second.count() != array->size()) {
      broken(path, name + " is missing or of another size");
    }
    std::memcpy(array->data(), found->second.data, found->second.bytes);
  }
}

}  // namespace xpert
