#include "base/files.h"
#include "formats/safetensors.h"
#include "parts.h"

namespace xpert {

namespace {

Json describe_safetensors(const Json &arguments) {
  std::string path = arguments.at("path");
  MappedFile file(path);
  Tensors found = parse_safetensors(file.data(), file.size(), path);
  Json tensors = Json::object();
  for (const auto &[name, view] : found.views) {
    std::string_view data(reinterpret_cast<const char *>(view.data), view.bytes);
    tensors[name] = {{"dtype", view.dtype}, {"shape", view.shape}, {"sha256", sha256_hex(data)}};
  }
  return {{"tensors", tensors}, {"metadata", found.metadata}};
}

Json copy_safetensors(const Json &arguments) {
  MappedFile file(arguments.at("path").get<std::string>());
  Tensors found = parse_safetensors(file.data(), file.size(), arguments.at("path"));
  write_safetensors(arguments.at("out"), {found.views.begin(), found.views.end()}, found.metadata);
  return nullptr;
}

Json write(const Json &arguments) {
  write_atomic(arguments.at("path").get<std::string>(), arguments.at("text").get<std::string>());
  return nullptr;
}

Json read(const Json &arguments) { return read_file(arguments.at("path"), arguments.at("limit")); }

Json digest(const Json &arguments) {
  std::string path = arguments.at("path");
  return {{"of_file", sha256_hex_of_file(path)}, {"of_text", sha256_hex(read_file(path))}};
}

}  // namespace

Parts base_parts() {
  return {{"safetensors.describe", describe_safetensors},
          {"safetensors.copy", copy_safetensors},
          {"files.write", write},
          {"files.read", read},
          {"files.digest", digest}};
}

}  // namespace xpert
