#include "runtime/memory.h"

#include <fstream>
#include <limits>
#include <string>

namespace xpert {

size_t available_memory() {
  std::ifstream stated("/proc/meminfo");
  std::string name;
  for (size_t kibibytes = 0; stated >> name; stated.ignore(std::numeric_limits<std::streamsize>::max(), '\n')) {
    if (name == "MemAvailable:" && stated >> kibibytes) return kibibytes * 1024;
  }
  return 0;
}

}  // namespace xpert
