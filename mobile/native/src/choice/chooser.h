// Encoder and style space of a bundle, and what is asked of them: vectors, coefficients, a choice, the cell to fetch.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "choice/encoder.h"
#include "choice/selection.h"
#include "choice/space.h"

namespace xpert {

using Texts = std::vector<std::string_view>;
using Pause = std::function<void()>;  // called between texts; may throw to end the call

/** Not for use by two threads at a time. */
class Chooser {
 public:
  /** Loads both; refuses a space that was made with another encoder. digest is the manifest's of the space. */
  Chooser(const EncoderFiles &files, const std::string &space, const std::string &digest, int threads);

  const Encoder &encoder() const { return encoder_; }
  const StyleSpace &space() const { return space_; }

  std::vector<float> encode(const Texts &texts, const Pause &pause) const { return encoder_.encode(texts, pause); }

  /** Row by row, n_axes a text. */
  std::vector<double> coefficients(const Texts &texts, const Pause &pause) const;

  /** What xpert_select gives; options are its JSON object. */
  Json select(const std::string &catalogue, const Texts &texts, const std::optional<Texts> &base_answers, const char *options,
              const Pause &pause) const;

  /** What xpert_nearest_cells gives: the cell of the texts' mean, then those of single texts. */
  Json nearest_cells(const std::string &index, const Texts &texts, const Pause &pause) const;

 private:
  Encoder encoder_;
  StyleSpace space_;
};

/** Opens what the manifest of the bundle in folder says of encoder and space. */
std::unique_ptr<Chooser> open_chooser(const std::string &folder, const Json &manifest, int threads);

}  // namespace xpert
