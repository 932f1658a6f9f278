#include "api/boundary.h"

#include <cstdlib>
#include <cstring>
#include <new>
#include <string>

#include "base/error.h"

namespace xpert {

namespace {

thread_local std::string last_error;

xpert_status remember(xpert_status status, const char *message) noexcept {
  try {
    last_error = message;
  } catch (...) {
    last_error.clear();  // no memory even for the message
  }
  return status;
}

}  // namespace

xpert_status status_of_exception() noexcept {
  try {
    throw;
  } catch (const Error &error) {
    return remember(error.status(), error.what());
  } catch (const std::bad_alloc &) {
    return remember(XPERT_INTERNAL, "There is not enough memory. Close what is not needed, or choose a smaller base.");
  } catch (const std::exception &error) {
    return remember(XPERT_INTERNAL, error.what());
  } catch (...) {
    return remember(XPERT_INTERNAL, "An unknown fault. Please report it.");
  }
}

void need(const void *pointer, const char *name) {
  if (!pointer) bad_input(std::string("The argument '") + name + "' is NULL. Give one.");
}

void give(const Json &result, char **place) {
  const std::string text = result.dump(-1, ' ', false, Json::error_handler_t::replace);
  char *copy = static_cast<char *>(std::malloc(text.size() + 1));
  if (!copy) throw std::bad_alloc();
  std::memcpy(copy, text.c_str(), text.size() + 1);
  *place = copy;
}

std::string_view view(const xpert_text &text) {
  if (!text.data && text.size) bad_input("A text of " + std::to_string(text.size) + " bytes is NULL. Give its bytes.");
  return text.data ? std::string_view(text.data, text.size) : std::string_view();
}

std::vector<std::string_view> views(const xpert_text *texts, size_t n, const char *name) {
  if (n) need(texts, name);
  std::vector<std::string_view> all;
  all.reserve(n);
  for (size_t i = 0; i < n; ++i) all.push_back(view(texts[i]));
  return all;
}

}  // namespace xpert

extern "C" const char *xpert_last_error(void) { return xpert::last_error.c_str(); }
extern "C" void xpert_free(char *text) { std::free(text); }
extern "C" const char *xpert_version(void) { return XPERT_VERSION; }
