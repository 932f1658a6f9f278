// Where C++ ends: exceptions become statuses, results become memory of the caller.
#pragma once

#include <optional>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "xpert/xpert.h"

namespace xpert {

/** Remembers this thread's message, and returns the status of the exception that is being handled. */
xpert_status status_of_exception() noexcept;

/** Runs a call's body; whatever it throws becomes a status. */
template <typename Body>
xpert_status guarded(Body body) noexcept {
  try {
    body();
    return XPERT_OK;
  } catch (...) {
    return status_of_exception();
  }
}

/** Refuses a pointer that must not be NULL; name is that of the argument. */
void need(const void *pointer, const char *name);

/** Gives a result to the caller, who frees it with xpert_free. */
void give(const Json &result, char **place);

std::string_view view(const xpert_text &text);
std::vector<std::string_view> views(const xpert_text *texts, size_t n, const char *name);

}  // namespace xpert
