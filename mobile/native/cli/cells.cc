#include "cells.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <numeric>
#include <random>

namespace xpert_device {

namespace {

constexpr uint64_t kBytesAPllm = 64;
constexpr size_t kPlaces = 128;  // as many as cells may be asked for: with fewer, some decoys would be new every time

Json describe(const std::string &index, const Json &request) {
  const std::string asked = request.dump();
  return answer([&](char **out) { return xpert_describe_cells(index.c_str(), asked.c_str(), out); });
}

/** Numbers below n in random order. Decoys that could be guessed would be none, so no seed. */
std::vector<size_t> shuffled(size_t n, std::random_device &chance) {
  std::vector<size_t> numbers(n);
  std::iota(numbers.begin(), numbers.end(), size_t{0});
  std::shuffle(numbers.begin(), numbers.end(), chance);
  return numbers;
}

void write(const std::string &path, const std::string &text) {
  const std::string scratch = path + ".new";
  std::error_code failed;
  std::filesystem::create_directories(std::filesystem::path(path).parent_path(), failed);
  std::ofstream file(scratch, std::ios::binary);
  file << text;
  file.close();
  if (file) std::filesystem::rename(scratch, path, failed);
  if (file && !failed) return;
  throw Refusal(XPERT_STORAGE, "Cannot write '" + path + "'. Choose a folder that is writable, on a disk with room.");
}

bool holds(const std::vector<size_t> &numbers, size_t number) {
  return std::find(numbers.begin(), numbers.end(), number) != numbers.end();
}

}  // namespace

Cells::Cells(std::string index, std::string folder)
    : index_(std::move(index)), folder_(std::move(folder)), described_(describe(index_, Json::object())) {}

uint64_t Cells::whole_bytes() const { return kBytesAPllm * described_["n_pllms"].get<uint64_t>(); }

std::vector<std::string> Cells::wanted(const Session &session, const Texts &texts, size_t n) const {
  const Cell mine = own(session, texts);
  try {
    check(mine, place(mine));
    return {};
  } catch (const Refusal &) {
    // Not there, or damaged: it is fetched among the others.
  }
  const size_t n_cells = described_["n_cells"];
  std::vector<size_t> numbers = {mine.number};
  auto fill = [&](const std::vector<size_t> &from) {
    for (size_t number : from) {
      if (numbers.size() < n && !holds(numbers, number)) numbers.push_back(number);
    }
  };
  std::random_device chance;
  fill(decoys());
  fill(shuffled(n_cells, chance));  // two places may lie in one cell
  std::shuffle(numbers.begin(), numbers.end(), chance);
  const std::string series = mine.name.substr(0, mine.name.rfind('-') + 1);
  std::vector<std::string> names;
  for (size_t number : numbers) names.push_back(series + std::to_string(number));
  return names;
}

std::string Cells::file(const Session &session, const Texts &texts) const {
  const Cell mine = own(session, texts);
  const std::string found = place(mine);
  if (!std::filesystem::exists(found)) {
    throw Refusal(XPERT_NOT_FOUND, "The cell of these texts is not in '" + folder_ +
                                       "'. Fetch the cells into it that 'xpert-device cells' names.");
  }
  check(mine, found);
  return found;
}

Cells::Cell Cells::own(const Session &session, const Texts &texts) const {
  const Json found = answer([&](char **out) {
    return xpert_nearest_cells(session.engine(), index_.c_str(), texts.texts(), texts.size(), out);
  });
  const Json &first = found["cells"][0];
  return {first["name"], first["number"]};
}

/** Where a cell is: under its name, or as the Python client and the Android library call it. */
std::string Cells::place(const Cell &cell) const {
  const std::string plain = folder_ + "/" + cell.name;
  return std::filesystem::exists(plain) ? plain : plain + ".xcat.safetensors";
}

void Cells::check(const Cell &cell, const std::string &file) const {
  describe(index_, {{"cell", {{"file", file}, {"number", cell.number}}}});
}

/** The cells in which the places of the decoys lie. */
std::vector<size_t> Cells::decoys() const {
  if (std::filesystem::exists(record())) {
    try {
      const Json places = Json::parse(read_whole(record()), nullptr, false);
      const std::vector<size_t> found = describe(index_, {{"places", places}})["nearest"];
      if (!found.empty()) return found;
    } catch (const Refusal &refusal) {
      if (refusal.status() != XPERT_BAD_INPUT && refusal.status() != XPERT_NOT_FOUND) throw;
    }
    std::cerr << "'" << record() << "' does not fit this index: the places of the decoys are drawn anew." << std::endl;
  }
  std::random_device chance;
  std::vector<size_t> numbers = shuffled(described_["n_cells"], chance);
  numbers.resize(std::min(numbers.size(), kPlaces));
  // Middles of cells, so that as many lie where there are many pLLMs and users.
  write(record(), describe(index_, {{"centres", numbers}})["centres"].dump());
  return numbers;
}

}  // namespace xpert_device
