#include "base/files.h"
#include "choice/abstention.h"
#include "choice/catalogue.h"
#include "choice/chooser.h"
#include "choice/posterior.h"
#include "choice/random.h"
#include "choice/selection.h"
#include "choice/space.h"
#include "parts.h"

namespace xpert {

namespace {

Matrix matrix_of(const Json &rows) {
  Matrix out(rows.size(), rows.empty() ? 0 : rows.at(0).size());
  for (size_t i = 0; i < out.n_rows(); ++i) {
    for (size_t j = 0; j < out.n_columns(); ++j) out.at(i, j) = rows.at(i).at(j).get<double>();
  }
  return out;
}

std::vector<float> flat(const Json &rows) {
  std::vector<float> out;
  for (const Json &row : rows) {
    for (const Json &value : row) out.push_back(value.get<float>());
  }
  return out;
}

Json space(const Json &arguments) {
  const StyleSpace found = StyleSpace::load(arguments.at("space"));
  const std::vector<float> raw = flat(arguments.at("raw"));
  Json coefficients = Json::array(), unexplained = Json::array();
  for (size_t i = 0; i + found.dim() <= raw.size(); i += found.dim()) {
    coefficients.push_back(found.coefficients(raw.data() + i));
    unexplained.push_back(found.unexplained(raw.data() + i));
  }
  return {{"digest", found.digest()},   {"words", found.words()},          {"encoder", found.encoder()},
          {"dim", found.dim()},         {"n_sentence", found.n_sentence()}, {"coefficients", coefficients},
          {"unexplained", unexplained}};
}

Json catalogue(const Json &arguments) {
  const Candidates found = load_candidates(arguments.at("catalogue"), arguments.value("index", ""));
  Json rows = Json::array(), names = Json::array(), bytes = Json::array();
  for (size_t i = 0; i < found.size(); ++i) {
    Vector row(found.n_words());
    found.row(i, row.data());
    rows.push_back(row);
    names.push_back(found.name(i));
    bytes.push_back(found.adapter_bytes(i));
  }
  Json noise = Json::array();
  for (size_t i = 0; i < found.n_words(); ++i) noise.push_back(Vector(found.shared().noise.row(i), found.shared().noise.row(i) + found.n_words()));
  return {{"coefficients", rows}, {"names", names}, {"adapter_bytes", bytes}, {"noise", noise}, {"centre", found.centre()}};
}

Json select_by(const Evidence &evidence, const Candidates &candidates, const Json &arguments) {
  SelectOptions options;
  options.min_confidence = arguments.value("min_confidence", options.min_confidence);
  options.seed = arguments.value("seed", options.seed);
  options.top = arguments.value("top", size_t{0});
  options.merge = arguments.value("merge", false);
  options.if_few = arguments.value("if_few", false);
  options.max_sources = arguments.value("max_sources", options.max_sources);
  return describe_selection(evidence, candidates, options, [] {});
}

/** By raw vectors: {"sets": [{"raw", "base_raw"?}]}. */
Json choose(const Json &arguments) {
  const StyleSpace found = StyleSpace::load(arguments.at("space"));
  const Candidates candidates = load_candidates(arguments.at("catalogue"), arguments.value("index", ""));
  Json out = Json::array();
  for (const Json &set : arguments.at("sets")) {
    std::optional<std::vector<float>> base;
    if (set.contains("base_raw")) base = flat(set.at("base_raw"));
    out.push_back(select_by(evidence_of(found, candidates, flat(set.at("raw")), base), candidates, arguments));
  }
  return out;
}

/** By coefficients: {"sets": [{"texts", "base"?}]}. */
Json select_part(const Json &arguments) {
  const Candidates candidates = load_candidates(arguments.at("catalogue"), arguments.value("index", ""));
  Json out = Json::array();
  for (const Json &set : arguments.at("sets")) {
    Evidence evidence;
    evidence.texts = matrix_of(set.at("texts"));
    if (set.contains("base")) evidence.base = matrix_of(set.at("base"));
    out.push_back(select_by(evidence, candidates, arguments));
  }
  return out;
}

Json cells(const Json &arguments) {
  const CellIndex index = CellIndex::load(arguments.at("index"));
  Json found = Json::array();
  for (const Json &value : arguments.at("values")) {
    const size_t number = index.nearest(value.get<Vector>());
    found.push_back({{"number", number}, {"name", index.cell_name(number)}});
  }
  return found;
}

Json describe(const Json &arguments) { return describe_cells(arguments.at("index"), arguments.at("request").dump().c_str()); }

Json draws(const Json &arguments) {
  Generator generator(arguments.at("seed").get<uint64_t>());
  Json found = Json::array();
  for (int i = 0; i < arguments.at("size").get<int>(); ++i) found.push_back(generator.counts(arguments.at("n").get<size_t>()));
  return found;
}

Json interval(const Json &arguments) {
  const auto [lower, upper] = bootstrap_interval(matrix_of(arguments.at("rows")), arguments.at("seed").get<uint64_t>());
  return {{"lower", lower}, {"upper", upper}};
}

/** The chooser of the bundle in the folder "bundle". */
std::unique_ptr<Chooser> chooser_of(const Json &arguments) {
  const std::string folder = arguments.at("bundle");
  return open_chooser(folder, parse_json(read_file(folder + "/manifest.json"), "the manifest", XPERT_BAD_FILE), 2);
}

/** Views of texts that live in the arguments. */
Texts texts_of(const Json &texts) {
  Texts out;
  for (const Json &text : texts) out.emplace_back(text.get_ref<const std::string &>());
  return out;
}

Json encode(const Json &arguments) {
  const auto found = chooser_of(arguments);
  const Encoder &encoder = found->encoder();
  const std::vector<float> raw = found->encode(texts_of(arguments.at("texts")), [] {});
  Json rows = Json::array();
  for (auto row = raw.begin(); row != raw.end(); row += static_cast<int64_t>(encoder.dim())) {
    rows.push_back(std::vector<float>(row, row + static_cast<int64_t>(encoder.dim())));
  }
  return {{"name", encoder.name()}, {"vectors", rows}};
}

/** From texts to the answers: {"catalogue", "options", "sets": [{"texts", "base_answers"?}]}, and of an index where one is given. */
Json chooser(const Json &arguments) {
  const auto found = chooser_of(arguments);
  const std::string options = arguments.value("options", Json::object()).dump();
  Json out = Json::array();
  for (const Json &set : arguments.at("sets")) {
    std::optional<Texts> base;
    if (set.contains("base_answers")) base = texts_of(set.at("base_answers"));
    const Texts texts = texts_of(set.at("texts"));
    if (arguments.contains("cells_of")) {
      out.push_back(found->nearest_cells(arguments.at("cells_of"), texts, [] {}));
    } else {
      out.push_back(found->select(arguments.at("catalogue"), texts, base, options.c_str(), [] {}));
    }
  }
  return out;
}

Json as_python(const Json &arguments) { return python_json(Json::parse(arguments.at("json").get<std::string>())); }

}  // namespace

Parts choice_parts() {
  return {{"choice.space", space},       {"choice.catalogue", catalogue}, {"choice.choose", choose},     {"choice.select", select_part},
          {"choice.cells", cells},       {"choice.draws", draws},         {"choice.interval", interval}, {"choice.python_json", as_python},
          {"choice.encode", encode},     {"choice.chooser", chooser},     {"choice.describe_cells", describe}};
}

}  // namespace xpert
