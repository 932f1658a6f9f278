#include "base/files.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "base/error.h"
#include "xpert_libraries.h"

namespace xpert {

namespace {

/** A descriptor that is closed whatever happens. */
class Handle {
 public:
  explicit Handle(int number) : number_(number) {}
  ~Handle() {
    if (number_ >= 0) ::close(number_);
  }
  Handle(const Handle &) = delete;
  Handle &operator=(const Handle &) = delete;
  int number() const { return number_; }

 private:
  int number_;
};

[[noreturn]] void cannot_read(const std::string &path, int error) {
  if (error == ENOENT) throw Error(XPERT_NOT_FOUND, "There is no file '" + path + "'. Check the path.");
  throw Error(XPERT_STORAGE, "Cannot read '" + path + "': " + std::strerror(error) + ". Check that it is a readable file.");
}

[[noreturn]] void cannot_write(const std::string &path, int error) {
  throw Error(XPERT_STORAGE,
              "Cannot write '" + path + "': " + std::strerror(error) + ". Nothing was changed. Free space or choose another place.");
}

int open_for_reading(const std::string &path, struct stat &found) {
  int number = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (number < 0) cannot_read(path, errno);
  if (::fstat(number, &found) != 0 || !S_ISREG(found.st_mode)) {
    int error = S_ISREG(found.st_mode) ? errno : EISDIR;
    ::close(number);
    cannot_read(path, error);
  }
  return number;
}

void write_all(int number, const void *data, size_t size, const std::string &path) {
  const char *next = static_cast<const char *>(data);
  while (size > 0) {
    ssize_t written = ::write(number, next, size);
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) cannot_write(path, errno);
    next += written;
    size -= static_cast<size_t>(written);
  }
}

std::string folder_of(const std::string &path) {
  size_t slash = path.rfind('/');
  return slash == std::string::npos ? "." : slash == 0 ? "/" : path.substr(0, slash);
}

}  // namespace

std::string read_file(const std::string &path, size_t limit) {
  struct stat found {};
  Handle handle(open_for_reading(path, found));
  size_t size = static_cast<size_t>(found.st_size);
  if (size > limit) {
    bad_file("'" + path + "' has " + std::to_string(size) + " bytes, at most " + std::to_string(limit) + " are read. Give the right file.");
  }
  std::string data(size, '\0');
  size_t got = 0;
  while (got < size) {
    ssize_t n = ::read(handle.number(), data.data() + got, size - got);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) cannot_read(path, errno);
    if (n == 0) break;
    got += static_cast<size_t>(n);
  }
  data.resize(got);
  return data;
}

void write_atomic(const std::string &path, const std::function<void(const Sink &)> &fill) {
  size_t slash = path.rfind('/');
  std::string name = slash == std::string::npos ? path : path.substr(slash + 1);
  std::string stage = folder_of(path) + "/." + name + ".XXXXXX";
  std::vector<char> buffer(stage.begin(), stage.end());
  buffer.push_back('\0');
  Handle handle(::mkstemp(buffer.data()));
  if (handle.number() < 0) cannot_write(path, errno);
  try {
    fill([&](const void *data, size_t size) { write_all(handle.number(), data, size, path); });
    if (::fsync(handle.number()) != 0) cannot_write(path, errno);
    if (::rename(buffer.data(), path.c_str()) != 0) cannot_write(path, errno);
  } catch (...) {
    ::unlink(buffer.data());
    throw;
  }
  Handle folder(::open(folder_of(path).c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (folder.number() >= 0) ::fsync(folder.number());  // so that the new name outlives a power cut
}

void write_atomic(const std::string &path, std::string_view data) {
  write_atomic(path, [&](const Sink &sink) { sink(data.data(), data.size()); });
}

std::string sha256_hex(std::string_view data) {
  char digits[65] = {};
  xpert_lib_sha256(reinterpret_cast<const uint8_t *>(data.data()), data.size(), digits);
  return digits;
}

std::string sha256_hex_of_file(const std::string &path) {
  char digits[65] = {};
  if (xpert_lib_sha256_file(path.c_str(), digits) != 0) cannot_read(path, errno ? errno : EIO);
  return digits;
}

MappedFile::MappedFile(const std::string &path) {
  struct stat found {};
  Handle handle(open_for_reading(path, found));
  size_ = static_cast<size_t>(found.st_size);
  if (size_ == 0) bad_file("'" + path + "' is empty. Fetch it again.");
  void *data = ::mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, handle.number(), 0);
  if (data == MAP_FAILED) cannot_read(path, errno);
  data_ = static_cast<const std::byte *>(data);
}

MappedFile::~MappedFile() { ::munmap(const_cast<std::byte *>(data_), size_); }

void MappedFile::release(const void *begin, size_t size) const {
  const uintptr_t page = static_cast<uintptr_t>(::sysconf(_SC_PAGESIZE));
  uintptr_t first = (reinterpret_cast<uintptr_t>(begin) + page - 1) / page * page;
  uintptr_t last = (reinterpret_cast<uintptr_t>(begin) + size) / page * page;
  if (last > first) ::madvise(reinterpret_cast<void *>(first), last - first, MADV_DONTNEED);
}

}  // namespace xpert
