// A bundle (docs/adr/0012-bundle.md), checked whole before anything of it is used.
#pragma once

#include <string>

#include "base/json.h"

namespace xpert {

/** A bundle whose files are those that its manifest lists. */
struct Bundle {
  std::string folder;
  Json manifest;
  bool is_signed = false;
  uint64_t bytes = 0;  // of all files that are listed

  bool has_base() const { return manifest.contains("base"); }
  bool has_encoder() const { return manifest.contains("encoder"); }
  std::string path(const std::string &name) const { return folder + "/" + name; }
};

struct BundleChecks {
  std::string runtime;     // this library's version
  std::string public_key;  // where one is given, the manifest must be signed by it: base64, or the key file's text
  /**
   * Folder for a mark that the base's weights were read whole, "" for none: they are not read again as long as size, time and inode
   * stay, for they take seconds a gigabyte.
   */
  std::string marks;
};

/** Checks a bundle; the message of the error says all that is wrong with it. */
Bundle open_bundle(const std::string &folder, const BundleChecks &checks);

/** Refuses data whose signature (a .minisig file's text) is not the key's; what names them. */
void check_signature(const std::string &data, const std::string &signature, const std::string &public_key, const std::string &what);

}  // namespace xpert
