#include "base/json.h"

#include <algorithm>
#include <cstring>

namespace xpert {

namespace {

constexpr int kDeepest = 64;  // nested deeper is an attack on the stack, not a document

}  // namespace

Json parse_json(const std::string &text, const std::string &where, xpert_status status) {
  auto shallow = [](int depth, Json::parse_event_t, Json &) -> bool {
    if (depth > kDeepest) throw std::length_error("nested deeper than " + std::to_string(kDeepest) + " levels");
    return true;
  };
  try {
    return Json::parse(text, shallow);
  } catch (const std::exception &error) {
    throw Error(status, "Cannot read " + where + ": it is not valid JSON (" + error.what() + "). Make or fetch it again.");
  }
}

Json parse_options(const char *text, std::initializer_list<const char *> known) {
  if (!text || !*text) return Json::object();
  Json options = parse_json(text, "the options", XPERT_BAD_INPUT);
  if (!options.is_object()) bad_input("The options are no JSON object. Give one, or none.");
  for (const auto &item : options.items()) {
    auto same = [&](const char *name) { return item.key() == name; };
    if (std::any_of(known.begin(), known.end(), same)) continue;
    std::string list;
    for (const char *name : known) list += (list.empty() ? "" : ", ") + std::string(name);
    bad_input("There is no option '" + item.key() + "'. There are: " + list + ".");
  }
  return options;
}

}  // namespace xpert
