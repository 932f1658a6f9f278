// Cells of a large catalogue, as files that others fetched (docs/adr/0009-cells.md). Nothing here opens the network.
#pragma once

#include <string>
#include <vector>

#include "session.h"

namespace xpert_device {

/** An index of cells, and the folder that the cells and the places of the decoys are kept in. */
class Cells {
 public:
  /** Throws a Refusal where the index cannot be read; the folder need not be there yet. */
  Cells(std::string index, std::string folder);

  /** The bytes of the catalogue as a whole. */
  uint64_t whole_bytes() const;

  /**
   * Names of the n cells to fetch, the texts' own among decoys and in random order; none where their own is in the folder.
   *
   * The places of the decoys are drawn once and kept in the folder: fresh ones would be found out by comparing two days' requests.
   */
  std::vector<std::string> wanted(const Session &session, const Texts &texts, size_t n) const;

  /** The file of the texts' own cell; throws a Refusal where it is not in the folder, or is another one. */
  std::string file(const Session &session, const Texts &texts) const;

 private:
  struct Cell {
    std::string name;
    size_t number;
  };

  Cell own(const Session &session, const Texts &texts) const;
  std::string place(const Cell &cell) const;
  void check(const Cell &cell, const std::string &file) const;
  std::vector<size_t> decoys() const;
  std::string record() const { return folder_ + "/decoys.json"; }

  std::string index_, folder_;
  Json described_;
};

}  // namespace xpert_device
