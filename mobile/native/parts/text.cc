#include "parts.h"
#include "text/surface.h"
#include "text/unicode.h"

namespace xpert {

namespace {

Json surface(const Json &arguments) {
  Json rows = Json::array();
  for (const Json &text : arguments.at("texts")) rows.push_back(surface_statistics(decode_utf8(text.get<std::string>(), "the text")));
  return rows;
}

Json names(const Json &) { return {{"names", surface_names()}, {"unicode", unicode_version()}}; }

Json classes(const Json &) {
  Json found = Json::array();
  for (char32_t c = 0; c <= 0x10FFFF; ++c) found.push_back(classes_of(c));
  return found;
}

Json lower(const Json &arguments) {
  Json found = Json::array();
  for (const Json &text : arguments.at("texts")) {
    const Characters low = lower_case(decode_utf8(text.get<std::string>(), "the text"));
    found.push_back(std::vector<uint32_t>(low.begin(), low.end()));
  }
  return found;
}

Json decoded(const Json &arguments) {
  std::string bytes;
  for (const Json &byte : arguments.at("bytes")) bytes += static_cast<char>(byte.get<int>());
  return decode_utf8(bytes, "the text").size();
}

}  // namespace

Parts text_parts() {
  return {{"text.surface", surface}, {"text.names", names}, {"text.classes", classes}, {"text.lower", lower}, {"text.decoded", decoded}};
}

}  // namespace xpert
