// What selection needs of a catalogue (xpert.core.catalogue, xpert.core.cells): the compact form, or a cell with its index.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "choice/linear.h"
#include "formats/sealed.h"

namespace xpert {

/** What all pLLMs of a catalogue share. */
struct Shared {
  std::string base_digest, space_digest, digest;
  std::vector<std::string> words;
  double n_probes = 1;
  Matrix noise;
  Vector base, base_unexplained;

  /** Refuses a space that the catalogue was not made in. */
  void check_space(const std::string &space_digest, const std::string &space_name) const;
};

/** The pLLMs, kept as the file has them and decoded a row at a time: a million take 64 MB. */
class Candidates {
 public:
  const Shared &shared() const { return shared_; }
  size_t size() const { return n_; }
  size_t n_words() const { return shared_.words.size(); }

  /** Coefficients of pLLM i into n_words() numbers. */
  void row(size_t i, double *out) const;

  /** What pLLM i is known by: the first 16 hexadecimal digits of its adapter's digest. */
  std::string name(size_t i) const;
  int64_t adapter_bytes(size_t i) const;

  /** Which cell of its index these are; 0 where they are a whole catalogue. */
  size_t cell_number() const { return cell_number_; }

  /** Mean of the base and all pLLMs: those here, or those of the whole catalogue where these are a cell. */
  const Vector &centre() const { return centre_; }

 private:
  friend Candidates parse_compact(std::shared_ptr<const std::string> data, const std::string &name, bool check_digest);
  friend Candidates parse_cell(std::shared_ptr<const std::string> data, const class CellIndex &index, const std::string &name,
                               bool check_digest);
  void read_rows(const Tensors &tensors, const std::string &name);
  Vector mean_with_base() const;

  std::shared_ptr<const std::string> data_;  // what the views point into
  Shared shared_;
  size_t n_ = 0, cell_number_ = 0;
  TensorView steps_, ids_, kib_;
  Vector row_scale_, step_, middle_;
  Vector centre_;
};

/** What a phone fetches first: where the cells of a catalogue are. */
class CellIndex {
 public:
  static CellIndex load(const std::string &path);
  static CellIndex parse(const std::string &data, const std::string &name, bool check_digest = true);

  const Shared &shared() const { return shared_; }
  const Vector &crowd() const { return crowd_; }

  /** How many pLLMs the catalogue has in all. */
  int64_t n_pllms() const { return n_pllms_; }
  size_t n_cells() const { return centres_.n_rows(); }

  /** The middle of a cell, as coefficients. */
  Vector centre(size_t number) const;

  /** The cell of coefficients that are differences to the base. */
  size_t nearest(const Vector &value) const;

  /** What a server calls a cell. */
  std::string cell_name(size_t number) const;

 private:
  Shared shared_;
  Matrix centres_, metric_;
  Vector crowd_;
  int64_t n_pllms_ = 0;
};

/** What xpert_describe_cells gives. */
Json describe_cells(const std::string &index, const char *request);

/** Reads what all pLLMs share, from the compact form or from an index. */
Shared read_shared(const Json &header, const Tensors &tensors, const std::string &name);

/** Reads a compact catalogue, or a cell where an index is given; data are the file's bytes. */
Candidates parse_compact(std::shared_ptr<const std::string> data, const std::string &name, bool check_digest = true);
Candidates parse_cell(std::shared_ptr<const std::string> data, const CellIndex &index, const std::string &name, bool check_digest = true);

/** Reads a catalogue's file; index is empty, or the file of the cell's index. */
Candidates load_candidates(const std::string &path, const std::string &index);

}  // namespace xpert
