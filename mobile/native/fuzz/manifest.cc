// Any bytes as the manifest of a folder: a bundle or an error, and never a file from outside the folder.
#include <stdlib.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "base/error.h"
#include "formats/bundle.h"

namespace {

/** The folder of this process, with no file but the manifest. */
const std::string &folder() {
  // Not destroyed: it is read once more when the process ends.
  static const std::string &made = *new std::string([] {
    std::string place = (std::filesystem::temp_directory_path() / "fuzz-manifest.XXXXXX").string();
    if (!mkdtemp(place.data())) __builtin_trap();
    std::atexit([] {
      std::error_code ignored;
      std::filesystem::remove_all(folder(), ignored);
    });
    return place;
  }());
  return made;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  std::ofstream(folder() + "/manifest.json", std::ios::binary).write(reinterpret_cast<const char *>(data), static_cast<std::streamsize>(size));
  try {
    const xpert::Bundle found = xpert::open_bundle(folder(), {"0.1.0", "", ""});
    if (!found.manifest.at("files").empty()) __builtin_trap();  // the folder has no file that could be listed
  } catch (const xpert::Error &error) {
    if (error.status() != XPERT_BAD_FILE) __builtin_trap();
  }
  return 0;
}
