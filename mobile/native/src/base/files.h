// Files: read whole, mapped, or written whole or not at all.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

namespace xpert {

/** Reads a file of at most limit bytes. */
std::string read_file(const std::string &path, size_t limit = size_t{1} << 30);

/** Takes the next bytes of a file that is being written. */
using Sink = std::function<void(const void *data, size_t size)>;

/** Writes what fill gives to path: afterwards the file holds all of it, or what it held before. Synced to the disk. */
void write_atomic(const std::string &path, const std::function<void(const Sink &)> &fill);
void write_atomic(const std::string &path, std::string_view data);

/** SHA-256 as 64 hexadecimal digits; of a file in blocks. */
std::string sha256_hex(std::string_view data);
std::string sha256_hex_of_file(const std::string &path);

/** A file in memory that is loaded page by page as it is read. Not changed while it is mapped, or the system ends the process. */
class MappedFile {
 public:
  explicit MappedFile(const std::string &path);
  ~MappedFile();
  MappedFile(const MappedFile &) = delete;
  MappedFile &operator=(const MappedFile &) = delete;

  const std::byte *data() const { return data_; }
  size_t size() const { return size_; }

  /** Lets the system drop these pages from the process; they are loaded again when they are read. */
  void release(const void *begin, size_t size) const;

 private:
  const std::byte *data_ = nullptr;
  size_t size_ = 0;
};

}  // namespace xpert
