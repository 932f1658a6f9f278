// Errors inside the core: one type, turned into a status where the C API begins.
#pragma once

#include <stdexcept>
#include <string>

#include "xpert/xpert.h"

namespace xpert {

/** What failed, what was found against what was expected, and what to do. */
class Error : public std::runtime_error {
 public:
  Error(xpert_status status, const std::string &message) : std::runtime_error(message), status_(status) {}
  xpert_status status() const { return status_; }

 private:
  xpert_status status_;
};

[[noreturn]] inline void bad_input(const std::string &message) { throw Error(XPERT_BAD_INPUT, message); }
[[noreturn]] inline void bad_file(const std::string &message) { throw Error(XPERT_BAD_FILE, message); }
[[noreturn]] inline void mismatch(const std::string &message) { throw Error(XPERT_MISMATCH, message); }

}  // namespace xpert
