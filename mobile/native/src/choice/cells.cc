// What a phone needs of an index to ask for its cell among others (xpert.client.cells).
#include <cmath>

#include "base/error.h"
#include "base/files.h"
#include "base/json.h"
#include "choice/catalogue.h"

namespace xpert {

namespace {

constexpr size_t kLargestCell = size_t{16} << 20;  // far above any: what is larger is not read into memory

[[noreturn]] void refuse(const char *key, const std::string &expected) {
  bad_input(std::string("The option '") + key + "' is not usable, expected " + expected + ".");
}

const Json &list_of(const Json &given, const char *key) {
  static const Json none = Json::array();
  const auto found = given.find(key);
  if (found == given.end() || found->is_null()) return none;
  if (!found->is_array()) refuse(key, "a list");
  return *found;
}

size_t number_of(const Json &value, const CellIndex &index, const char *key) {
  if (!value.is_number_unsigned() || value.get<uint64_t>() >= index.n_cells()) {
    refuse(key, "numbers of cells, below " + std::to_string(index.n_cells()));
  }
  return value.get<size_t>();
}

Vector place_of(const Json &value, size_t k) {
  const std::string expected = "places of " + std::to_string(k) + " numbers, one for each of the catalogue's words";
  if (!value.is_array() || value.size() != k) refuse("places", expected);
  Vector found;
  for (const Json &one : value) {
    if (!one.is_number() || !std::isfinite(one.get<double>())) refuse("places", expected);
    found.push_back(one.get<double>());
  }
  return found;
}

void check_cell(const Json &cell, const CellIndex &index) {
  if (!cell.is_object() || !cell.contains("file") || !cell["file"].is_string() || !cell.contains("number")) {
    refuse("cell", "its file and its number");
  }
  const std::string file = cell["file"];
  const size_t expected = number_of(cell["number"], index, "cell");
  const Candidates found = parse_cell(std::make_shared<const std::string>(read_file(file, kLargestCell)), index, file);
  if (found.cell_number() == expected) return;
  mismatch("'" + file + "' is cell " + std::to_string(found.cell_number()) + " of the index, expected cell " + std::to_string(expected) +
           ". Fetch the index again, then the cell.");
}

}  // namespace

Json describe_cells(const std::string &path, const char *request) {
  const Json given = parse_options(request, {"centres", "places", "cell"});
  const CellIndex index = CellIndex::load(path);
  const Shared &shared = index.shared();
  Json centres = Json::array(), nearest = Json::array();
  for (const Json &number : list_of(given, "centres")) centres.push_back(index.centre(number_of(number, index, "centres")));
  for (const Json &place : list_of(given, "places")) nearest.push_back(index.nearest(place_of(place, shared.words.size())));
  if (given.contains("cell")) check_cell(given["cell"], index);
  return {{"digest", shared.digest},   {"base_digest", shared.base_digest}, {"space_digest", shared.space_digest},
          {"n_pllms", index.n_pllms()}, {"n_cells", index.n_cells()},        {"centres", centres},
          {"nearest", nearest}};
}

}  // namespace xpert
