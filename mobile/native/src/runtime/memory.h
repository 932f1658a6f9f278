// How much memory the device has to give.
#pragma once

#include <cstddef>

namespace xpert {

/** Bytes that the system says are available without swapping; 0 where it does not say. */
size_t available_memory();

}  // namespace xpert
