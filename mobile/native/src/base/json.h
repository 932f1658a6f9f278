// JSON by nlohmann's library; a broken document is an error of the file or option that it came from.
#pragma once

#include <initializer_list>
#include <nlohmann/json.hpp>
#include <string>

#include "base/error.h"

namespace xpert {

using Json = nlohmann::json;

/** Parses text; where names it in the message ("the manifest of 'x.xpert'"), status is that of the error. */
Json parse_json(const std::string &text, const std::string &where, xpert_status status);

/** Parses options that may be NULL or empty, and refuses keys that are not in known. */
Json parse_options(const char *text, std::initializer_list<const char *> known);

}  // namespace xpert
