#include "engine/folder.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <system_error>
#include <vector>

#include "base/error.h"

namespace xpert {

namespace {

namespace fs = std::filesystem;

constexpr auto kAbandoned = std::chrono::hours(1);  // a process that still writes is not that slow
constexpr const char *kOurs = "adapter_config.json";

[[noreturn]] void cannot_write(const fs::path &folder, const std::string &why) {
  throw Error(XPERT_STORAGE, "Cannot write '" + folder.string() + "': " + why + ". Nothing was changed. Free space or choose another place.");
}

fs::path whole(const std::string &folder) {
  fs::path path(folder);
  if (!path.has_filename()) path = path.parent_path();  // a slash at the end
  if (path.empty()) bad_input("No folder to write to is given. Give one.");
  return path;
}

fs::path made_beside(const fs::path &path, const char *kind) {
  make_parent(path.string());
  const fs::path parent = path.has_parent_path() ? path.parent_path() : fs::path(".");
  std::string name = (parent / ("." + path.filename().string() + kind + ".XXXXXX")).string();
  std::vector<char> buffer(name.begin(), name.end());
  buffer.push_back('\0');
  if (!::mkdtemp(buffer.data())) cannot_write(path, std::strerror(errno));
  return buffer.data();
}

/** Brings a folder's names to the disk, so that it is whole even after a power cut. */
void sync_folder(const fs::path &folder) {
  int handle = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (handle < 0) return;
  ::fsync(handle);
  ::close(handle);
}

void swap_in(const fs::path &stage, const fs::path &path) {
  std::error_code error;
  if (!fs::exists(path)) {
    fs::rename(stage, path, error);
    if (error) cannot_write(path, error.message());
    return;
  }
  const fs::path aside = made_beside(path, ".old");
  fs::rename(path, aside / path.filename(), error);
  if (!error) {
    fs::rename(stage, path, error);
    if (error) {
      std::error_code back;
      fs::rename(aside / path.filename(), path, back);
    }
  }
  std::error_code ignored;
  fs::remove_all(aside, ignored);
  if (error) cannot_write(path, error.message());
}

}  // namespace

void refuse_foreign(const std::string &folder) {
  const fs::path path = whole(folder);
  std::error_code error;
  if (!fs::exists(path, error)) return;
  if (!fs::is_directory(path, error)) bad_input("'" + path.string() + "' is a file, a folder is written there. Give another place.");
  if (!fs::is_empty(path, error) && !fs::exists(path / kOurs, error)) {
    bad_input("The folder '" + path.string() + "' holds files that are no adapter, and would be replaced. Give a new or empty folder.");
  }
}

void write_folder(const std::string &folder, const std::function<void(const std::string &stage)> &fill) {
  refuse_foreign(folder);
  const fs::path path = whole(folder), stage = made_beside(path, "");
  try {
    fill(stage.string());
    fs::permissions(stage,
                    fs::perms::owner_all | fs::perms::group_read | fs::perms::group_exec | fs::perms::others_read | fs::perms::others_exec);
    sync_folder(stage);
    swap_in(stage, path);
  } catch (...) {
    std::error_code ignored;
    fs::remove_all(stage, ignored);
    throw;
  }
  sync_folder(path.has_parent_path() ? path.parent_path() : fs::path("."));
}

void make_parent(const std::string &path) {
  const fs::path parent = fs::path(path).parent_path();
  if (parent.empty()) return;
  std::error_code error;
  fs::create_directories(parent, error);
  if (error) cannot_write(parent, error.message());
}

void remove_abandoned(const std::string &path) {
  const fs::path file(path), parent = file.has_parent_path() ? file.parent_path() : fs::path(".");
  const std::string begin = "." + file.filename().string() + ".";
  std::error_code error;
  for (fs::directory_iterator it(parent, error), end; !error && it != end; it.increment(error)) {
    const std::string name = it->path().filename().string();
    if (name.size() != begin.size() + 6 || name.compare(0, begin.size(), begin) != 0) continue;
    std::error_code ignored;  // another process was faster
    auto age = fs::file_time_type::clock::now() - fs::last_write_time(it->path(), ignored);
    if (!ignored && age > kAbandoned) fs::remove(it->path(), ignored);
  }
}

}  // namespace xpert
