#include "formats/bundle.h"

#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <filesystem>
#include <set>
#include <vector>

#include "base/error.h"
#include "base/files.h"
#include "xpert_libraries.h"

namespace xpert {

namespace {

namespace fs = std::filesystem;

constexpr const char *kManifest = "manifest.json", *kSignature = "manifest.json.minisig";
constexpr size_t kLargestManifest = size_t{16} << 20, kLargestSignature = size_t{64} << 10;
constexpr int kVersion = 1;
constexpr size_t kMostProblems = 4;  // that one message tells

using Problems = std::vector<std::string>;
using Numbers = std::array<uint64_t, 4>;

/** "1.20" as numbers; false where it is no such thing. */
bool parse_version(const std::string &text, Numbers &numbers) {
  numbers = {};
  size_t part = 0, digits = 0;
  for (char c : text) {
    if (c == '.' && digits > 0 && part < 3) {
      ++part;
      digits = 0;
    } else if (c >= '0' && c <= '9' && digits < 9) {
      numbers[part] = numbers[part] * 10 + static_cast<uint64_t>(c - '0');
      ++digits;
    } else {
      return false;
    }
  }
  return digits > 0;
}

bool is_digest(const std::string &text) {
  auto is_digit = [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); };
  return text.size() == 64 && std::all_of(text.begin(), text.end(), is_digit);
}

/** Whether a name stays within the bundle, written in the one way there is. */
bool is_plain(const std::string &name) {
  if (name.empty() || name.front() == '/' || name.back() == '/') return false;
  if (name.find('\\') != std::string::npos || name.find('\0') != std::string::npos) return false;
  size_t begin = 0;
  while (begin <= name.size()) {
    size_t end = std::min(name.find('/', begin), name.size());
    std::string part = name.substr(begin, end - begin);
    if (part.empty() || part == "." || part == "..") return false;
    begin = end + 1;
  }
  return true;
}

std::set<std::string> files_in(const std::string &folder) {
  std::set<std::string> names;
  std::error_code error;
  fs::recursive_directory_iterator next(folder, error), end;
  for (; !error && next != end; next.increment(error)) {
    std::string name = next->path().lexically_relative(folder).generic_string();
    std::error_code ignored;
    bool is_folder = next->is_directory(ignored) && !next->is_symlink(ignored);
    if (!is_folder && name != kManifest && name != kSignature) names.insert(name);
  }
  if (error) throw Error(XPERT_STORAGE, "Cannot list '" + folder + "': " + error.message() + ". Check that it is a readable folder.");
  return names;
}

/** The mark of weights that were read whole: what identifies the file, as one text. */
std::string identity_of(const std::string &path, const std::string &digest) {
  struct stat found {};
  if (::stat(path.c_str(), &found) != 0) return "";
#ifdef __APPLE__
  const auto &time = found.st_mtimespec;
#else
  const auto &time = found.st_mtim;
#endif
  return digest + " " + std::to_string(found.st_size) + " " + std::to_string(time.tv_sec) + "." + std::to_string(time.tv_nsec) + " " +
         std::to_string(found.st_dev) + ":" + std::to_string(found.st_ino);
}

class Checker {
 public:
  Checker(const Bundle &bundle, const BundleChecks &checks) : bundle_(bundle), manifest_(bundle.manifest), checks_(checks) {}

  Problems problems() {
    header();
    files();
    if (problems_.empty()) references();
    return problems_;
  }

 private:
  void add(const std::string &problem) { problems_.push_back(problem); }

  void header() {
    Numbers needed{}, own{};
    std::string minimum = manifest_.at("minimum_runtime");
    parse_version(checks_.runtime, own);
    if (!parse_version(minimum, needed)) {
      add("its minimum runtime is '" + minimum + "', expected numbers with dots");
    } else if (needed > own) {
      add("it needs version " + minimum + ", this is " + checks_.runtime + ": upgrade the library");
    }
    if (manifest_.contains("base") != manifest_.contains("programs")) add("it has one of base and programs without the other");
    if (manifest_.contains("encoder") != manifest_.contains("space")) add("it has one of encoder and space without the other");
    if (!bundle_.has_base() && !bundle_.has_encoder()) add("it has neither a base nor an encoder");
  }

  void files() {
    std::set<std::string> present = files_in(bundle_.folder);
    const std::string weights = bundle_.has_base() ? manifest_["base"].at("weights").get<std::string>() : "";
    for (const auto &item : manifest_.at("files").items()) {
      const std::string &name = item.key(), digest = item.value().at("sha256");
      present.erase(name);
      if (!is_plain(name)) {
        add("the name '" + name + "' leads out of it");
      } else if (!is_digest(digest)) {
        add("the digest of " + name + " is none");
      } else if (!item.value().at("bytes").is_number_unsigned()) {
        add("the size of " + name + " is no whole number from 0");
      } else {
        file(name, item.value().at("bytes").get<uint64_t>(), digest, name == weights);
      }
    }
    for (const std::string &name : present) add(name + " is not listed in its manifest");
  }

  void file(const std::string &name, uint64_t bytes, const std::string &digest, bool is_weights) {
    const std::string path = bundle_.path(name);
    struct stat found {};
    if (::lstat(path.c_str(), &found) != 0 || !S_ISREG(found.st_mode)) {
      add(name + " is missing, or no plain file");
    } else if (static_cast<uint64_t>(found.st_size) != bytes) {
      add(name + " has " + std::to_string(found.st_size) + " bytes, expected " + std::to_string(bytes));
    } else if (!(is_weights && is_marked(path, digest)) && sha256_hex_of_file(path) != digest) {
      add(name + " is not the file that was bundled: its digest differs");
    } else if (is_weights) {
      mark(path, digest);
    }
  }

  std::string mark_of(const std::string &digest) const { return checks_.marks + "/verified-" + digest.substr(0, 16); }

  bool is_marked(const std::string &path, const std::string &digest) const {
    if (checks_.marks.empty() || !fs::exists(mark_of(digest))) return false;
    return read_file(mark_of(digest)) == identity_of(path, digest);
  }

  void mark(const std::string &path, const std::string &digest) const {
    if (checks_.marks.empty() || is_marked(path, digest)) return;
    std::error_code error;
    fs::create_directories(checks_.marks, error);
    write_atomic(mark_of(digest), identity_of(path, digest));
  }

  void references() {
    std::vector<std::string> named;
    if (bundle_.has_base()) {
      const Json &base = manifest_["base"];
      named = {base.at("weights"), base.at("tokenizer")};
      if (base.contains("chat_template") && !base["chat_template"].is_null()) named.push_back(base["chat_template"]);
      for (const auto &programs : manifest_["programs"].items()) {
        for (const Json &program : programs.value()) named.push_back(program.at("file"));
      }
    }
    if (bundle_.has_encoder()) {
      named.push_back(manifest_["encoder"].at("program"));
      named.push_back(manifest_["encoder"].at("tokenizer"));
      named.push_back(manifest_["space"].at("file"));
    }
    for (const std::string &name : named) {
      if (!manifest_["files"].contains(name)) add(name + " is used, and not listed under files");
    }
  }

  const Bundle &bundle_;
  const Json &manifest_;
  const BundleChecks &checks_;
  Problems problems_;
};

void refuse(const std::string &folder, const Problems &problems) {
  std::string all;
  for (size_t i = 0; i < std::min(problems.size(), kMostProblems); ++i) all += (i ? "; " : "") + problems[i];
  if (problems.size() > kMostProblems) all += "; and " + std::to_string(problems.size() - kMostProblems) + " more";
  bad_file("Cannot use the bundle '" + folder + "': " + all + ". Fetch or export it again.");
}

Json read_manifest(const std::string &text, const std::string &path) {
  Json manifest = parse_json(text, "'" + path + "'", XPERT_BAD_FILE);
  const Json none;
  auto part = [&](const char *key) -> const Json & { return manifest.is_object() && manifest.contains(key) ? manifest.at(key) : none; };
  if (part("format") != "xpert-bundle") {
    bad_file("'" + path + "' is of format " + part("format").dump() + ", expected \"xpert-bundle\". Check the path.");
  }
  if (!part("version").is_number_integer() || part("version") < 1) bad_file("'" + path + "' states no version. Fetch or export it again.");
  if (part("version") > kVersion) {
    bad_file("'" + path + "' is of version " + part("version").dump() + ", this library reads up to " + std::to_string(kVersion) +
             ". Upgrade the library.");
  }
  return manifest;
}

}  // namespace

void check_signature(const std::string &data, const std::string &signature, const std::string &public_key, const std::string &what) {
  const auto *bytes = reinterpret_cast<const uint8_t *>(data.data());
  if (xpert_lib_verify(public_key.c_str(), signature.c_str(), bytes, data.size()) == 0) return;
  const std::string why = xpert_lib_error();
  if (why.rfind("the public key", 0) == 0) {
    bad_input("The signature of " + what + " cannot be checked: " + why + ". Give a minisign public key, its line in base64 or its file's text.");
  }
  throw Error(XPERT_UNTRUSTED, "The signature of " + what + " is not right: " + why + ". Do not use it; get it from its publisher again.");
}

Bundle open_bundle(const std::string &given, const BundleChecks &checks) {
  std::string folder = given;
  while (folder.size() > 1 && folder.back() == '/') folder.pop_back();
  const std::string path = folder + "/" + kManifest;
  if (!fs::is_regular_file(path)) {
    throw Error(XPERT_NOT_FOUND, "'" + folder + "' is no bundle: it has no " + kManifest + ". Make one with: xpert mobile export MODEL");
  }
  std::string text = read_file(path, kLargestManifest);
  if (!checks.public_key.empty()) {
    const std::string signature = folder + "/" + kSignature;
    if (!fs::exists(signature)) {
      throw Error(XPERT_UNTRUSTED, "'" + path + "' is not signed, and a signature was asked for. Get it from its publisher, signed.");
    }
    check_signature(text, read_file(signature, kLargestSignature), checks.public_key, "'" + path + "'");
  }
  Bundle bundle{folder, read_manifest(text, path), !checks.public_key.empty(), 0};
  Problems problems;
  try {
    problems = Checker(bundle, checks).problems();
    if (!problems.empty()) refuse(folder, problems);  // before its sizes are taken for numbers
    for (const auto &item : bundle.manifest.at("files").items()) bundle.bytes += item.value().at("bytes").get<uint64_t>();
  } catch (const Json::exception &error) {
    problems = {std::string("its manifest is broken (") + error.what() + ")"};
  }
  if (!problems.empty()) refuse(folder, problems);
  return bundle;
}

}  // namespace xpert
