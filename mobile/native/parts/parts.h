// Inner parts of the core under names, so that the tests in Python compare them with its own.
#pragma once

#include <functional>
#include <map>
#include <string>

#include "base/json.h"

namespace xpert {

/** One part: takes its arguments as an object, gives its result; throws xpert::Error. */
using Part = std::function<Json(const Json &)>;
using Parts = std::map<std::string, Part>;

// One table a folder; who adds a folder adds its table here and in parts.cc.
Parts base_parts();
Parts chat_parts();
Parts text_parts();
Parts choice_parts();
Parts engine_parts();

}  // namespace xpert
