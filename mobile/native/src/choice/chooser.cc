#include "choice/chooser.h"

#include <algorithm>
#include <map>

namespace xpert {

namespace {

/** Options of a choice; index is left out. */
SelectOptions options_of(const Json &given) {
  auto refuse = [](const char *key, const char *expected) {
    bad_input(std::string("The option '") + key + "' is not usable, expected " + expected + ".");
  };
  SelectOptions options;
  const Json confidence = given.value("min_confidence", Json(options.min_confidence));
  if (!confidence.is_number() || !(confidence >= 0.0 && confidence <= 1.0)) refuse("min_confidence", "a number from 0 to 1");
  const Json seed = given.value("seed", Json(0U)), top = given.value("top", Json(100U)), most = given.value("max_sources", Json(2U));
  if (!seed.is_number_unsigned()) refuse("seed", "a whole number from 0");
  if (!top.is_number_unsigned()) refuse("top", "a whole number from 0");
  if (!most.is_number_unsigned()) refuse("max_sources", "a whole number from 1 to 4");
  const Json merge = given.value("merge", Json(false));
  if (!merge.is_boolean() && merge != "if_few") refuse("merge", "true, false or \"if_few\"");
  options.min_confidence = confidence.get<double>();
  options.seed = seed.get<uint64_t>();
  options.top = top.get<size_t>();
  options.max_sources = most.get<size_t>();
  options.if_few = merge.is_string();
  options.merge = options.if_few || merge.get<bool>();
  return options;
}

void refuse_none(const Texts &texts) {
  if (texts.empty()) bad_input("There are no texts to choose by. Give at least one, better 10 or more.");
}

}  // namespace

Chooser::Chooser(const EncoderFiles &files, const std::string &space, const std::string &digest, int threads)
    : encoder_(files, threads), space_(StyleSpace::load(space)) {
  if (space_.digest() != digest) {
    mismatch("The style space '" + space + "' has the digest " + space_.digest().substr(0, 12) + ", the bundle expects " +
             digest.substr(0, 12) + ". Export the bundle again.");
  }
  space_.check_encoder(encoder_.name());
  if (space_.dim() != encoder_.dim() || space_.n_sentence() != encoder_.n_sentence()) {
    mismatch("The style space '" + space_.name() + "' takes vectors of " + std::to_string(space_.dim()) + " columns, the encoder gives " +
             std::to_string(encoder_.dim()) + ". Export the bundle again.");
  }
}

std::vector<double> Chooser::coefficients(const Texts &texts, const Pause &pause) const {
  const std::vector<float> raw = encode(texts, pause);
  std::vector<double> out;
  out.reserve(texts.size() * space_.n_axes());
  for (size_t i = 0; i < texts.size(); ++i) {
    const Vector row = space_.coefficients(raw.data() + i * space_.dim());
    out.insert(out.end(), row.begin(), row.end());
  }
  return out;
}

Json Chooser::select(const std::string &catalogue, const Texts &texts, const std::optional<Texts> &base_answers, const char *options,
                     const Pause &pause) const {
  const Json given = parse_options(options, {"min_confidence", "seed", "index", "merge", "max_sources", "top"});
  const SelectOptions parsed = options_of(given);
  const Json index = given.value("index", Json(""));
  if (!index.is_string() && !index.is_null()) bad_input("The option 'index' is not usable, expected a path.");
  refuse_none(texts);
  const Candidates candidates = load_candidates(catalogue, index.is_string() ? index.get<std::string>() : "");
  candidates.shared().check_space(space_.digest(), space_.name());
  std::optional<std::vector<float>> base;
  if (base_answers) base = encode(*base_answers, pause);
  const Evidence evidence = evidence_of(space_, candidates, encode(texts, pause), base);
  return describe_selection(evidence, candidates, parsed, pause);
}

Json Chooser::nearest_cells(const std::string &index, const Texts &texts, const Pause &pause) const {
  refuse_none(texts);
  const CellIndex cells = CellIndex::load(index);
  cells.shared().check_space(space_.digest(), space_.name());
  const std::vector<double> coefficients = this->coefficients(texts, pause);
  const size_t k = space_.n_axes();
  Vector mean(k);
  std::map<size_t, size_t> owners;
  for (size_t i = 0; i < texts.size(); ++i) {
    Vector one(k);
    for (size_t j = 0; j < k; ++j) {
      one[j] = coefficients[i * k + j] - cells.shared().base[j];
      mean[j] += coefficients[i * k + j];
    }
    ++owners[cells.nearest(one)];
  }
  for (size_t j = 0; j < k; ++j) mean[j] = mean[j] / static_cast<double>(texts.size()) - cells.shared().base[j];
  const size_t own = cells.nearest(mean);
  owners.emplace(own, 0);
  std::vector<std::pair<size_t, size_t>> order(owners.begin(), owners.end());
  std::stable_sort(order.begin(), order.end(), [own](const auto &a, const auto &b) {
    return (a.first == own) != (b.first == own) ? a.first == own : a.second > b.second;
  });
  Json found = Json::array();
  for (const auto &[number, n] : order) {
    const double share = static_cast<double>(n) / static_cast<double>(texts.size());
    found.push_back({{"name", cells.cell_name(number)}, {"number", number}, {"share", share}});
  }
  return {{"cells", found}};
}

std::unique_ptr<Chooser> open_chooser(const std::string &folder, const Json &manifest, int threads) {
  const std::string name = folder + "/manifest.json";
  const Json encoder = manifest.value("encoder", Json()), space = manifest.value("space", Json());
  if (!encoder.is_object() || !space.is_object()) {
    mismatch("The bundle '" + folder + "' has no encoder and style space, so it cannot choose. Open one that was exported with them.");
  }
  EncoderFiles files;
  files.name = text_of(encoder, "name", name);
  files.program = folder + "/" + text_of(encoder, "program", name);
  files.tokenizer = folder + "/" + text_of(encoder, "tokenizer", name);
  files.dim = static_cast<size_t>(whole_of(encoder, "dim", 1, name));
  files.max_length = static_cast<size_t>(whole_of(encoder, "max_length", 1, name));
  return std::make_unique<Chooser>(files, folder + "/" + text_of(space, "file", name), text_of(space, "digest", name), threads);
}

}  // namespace xpert
