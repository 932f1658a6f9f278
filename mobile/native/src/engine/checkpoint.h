// A run's state on disk: written whole or not at all, and not taken up again when a bit of it has changed.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "base/json.h"

namespace xpert {

using NamedArrays = std::vector<std::pair<std::string, std::vector<float> *>>;

/** Writes arrays and what belongs to them; where that fails, the checkpoint before stays. */
void write_checkpoint(const std::string &path, const NamedArrays &arrays, const Json &numbers);

/** Whether there is a checkpoint. */
bool has_checkpoint(const std::string &path);

/** Checks a checkpoint whole and returns what belongs to its arrays. */
Json read_checkpoint(const std::string &path);

/** Fills arrays, which have to be of the sizes that were written; of a checkpoint that read_checkpoint has checked. */
void fill_from_checkpoint(const std::string &path, const NamedArrays &arrays);

}  // namespace xpert
