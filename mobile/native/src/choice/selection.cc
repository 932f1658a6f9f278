#include "choice/selection.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <numeric>

#include "choice/abstention.h"
#include "choice/merging.h"
#include "choice/posterior.h"
#include "choice/random.h"

namespace xpert {

namespace {

constexpr size_t kDraws = 1000;
constexpr double kSelectionCost = 0.02;
constexpr std::pair<double, double> kSavings[] = {{0.0, 0.0}, {0.3, 0.055}, {0.5, 0.164}, {0.7, 0.42}, {0.8, 0.664}, {0.9, 0.817}};

/** Share of the time from scratch that is saved, the cost of choosing counted. */
double saving(double similarity) {
  const auto *last = std::end(kSavings) - 1;
  double found = similarity <= kSavings[0].first ? kSavings[0].second : last->second;
  for (const auto *point = kSavings; point != last; ++point) {
    const auto [x, y] = point[0];
    const auto [x_next, y_next] = point[1];
    if (similarity >= x && similarity < x_next) found = (y_next - y) / (x_next - x) * (similarity - x) + y;
  }
  return found - kSelectionCost;
}

std::string fixed(const char *format, double value) {
  char text[64];
  std::snprintf(text, sizeof text, format, value);
  return text;
}

std::string percent(double value) { return fixed("%.0f%%", 100 * value); }

/** What decides whether it abstains. */
struct Findings {
  std::string first, rival;  // names; no rival where all are alike
  Match match;
  double rival_probability = 0, expected = 0, misfit = 0;
  std::optional<double> novelty;
  bool doubt = false;
};

std::string reason_to_abstain(const Findings &found) {
  if (found.misfit > kMisfitLimit) {
    return "Near nothing: '" + found.first + "' is the best match, but what it leaves unexplained is " + fixed("%.2f", found.misfit) +
           " of what it explains; up to " + fixed("%g", kMisfitLimit) + " is a known style. Start from the base, or from a merge.";
  }
  if (found.novelty && *found.novelty > kNoveltyLimit) {
    return "Near nothing: the texts share a manner that no word describes, " + fixed("%.2f", *found.novelty) +
           " of what the words describe; up to " + fixed("%g", kNoveltyLimit) +
           " is a known style. Start from the base, or build a space with exemplars of this style.";
  }
  if (found.doubt) {
    const std::string second = found.rival.empty() ? "" : ", '" + found.rival + "' " + percent(found.rival_probability);
    return "Too close to call: '" + found.first + "' has " + percent(found.match.probability) + second + ". Give more texts, or merge the two.";
  }
  if (found.expected <= 0) {
    return "It would not pay: about " + percent(found.match.similarity) + " of the texts are in the style of '" + found.first +
           "', which saves less than choosing costs. Start from the base.";
  }
  return "";
}

/** Ranks pLLMs by their share of the posterior; equal ones as the catalogue has them. */
std::vector<Match> ranked(const Posterior &found) {
  const size_t n = found.score.size();
  const double largest = *std::max_element(found.score.begin(), found.score.end());
  Vector probability(n);
  std::transform(found.score.begin(), found.score.end(), probability.begin(), [&](double score) { return std::exp(score - largest); });
  const double total = std::accumulate(probability.begin(), probability.end(), 0.0);
  std::vector<Match> matches(n);
  for (size_t i = 0; i < n; ++i) matches[i] = {i, probability[i] / total, found.share[i]};
  std::stable_sort(matches.begin(), matches.end(), [](const Match &a, const Match &b) { return a.probability > b.probability; });
  return matches;
}

double quantile(const Vector &sorted, double at) {
  const double place = at * static_cast<double>(sorted.size() - 1), part = place - std::floor(place);
  const auto i = static_cast<size_t>(place);
  const double gap = sorted[i + 1] - sorted[i];
  return part >= 0.5 ? sorted[i + 1] - gap * (1 - part) : sorted[i] + gap * part;
}

Json described_words(const Matrix &single, const Shared &shared, uint64_t seed) {
  const Vector value = mean_of_rows(single);
  const auto [lower, upper] = bootstrap_interval(single, seed);
  std::vector<size_t> order(value.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return std::abs(value[a]) > std::abs(value[b]); });
  Json words = Json::array();
  for (size_t i : order) {
    words.push_back({{"word", shared.words[i]},
                     {"coefficient", value[i]},
                     {"lower", lower[i]},
                     {"upper", upper[i]},
                     {"held_up", lower[i] * upper[i] > 0}});
  }
  return words;
}

Json described_merge(const MergeProposal &proposal, const Candidates &candidates) {
  Json sources = Json::array();
  for (const MergeSource &source : proposal.sources) {
    const std::string name = candidates.name(source.row);
    sources.push_back({{"name", name}, {"adapter_digest", name}, {"weight", source.weight}});
  }
  return {{"sources", sources},
          {"coefficients", proposal.coefficients},
          {"distance", proposal.distance},
          {"single", candidates.name(proposal.single)},
          {"single_distance", proposal.single_distance},
          {"wins", proposal.wins}};
}

Matrix coefficients_of(const StyleSpace &space, const std::vector<float> &raw) {
  const size_t n = raw.size() / space.dim();
  Matrix out(n, space.n_axes());
  for (size_t i = 0; i < n; ++i) {
    const Vector row = space.coefficients(raw.data() + i * space.dim());
    std::copy(row.begin(), row.end(), out.row(i));
  }
  return out;
}

}  // namespace

Evidence evidence_of(const StyleSpace &space, const Candidates &candidates, const std::vector<float> &raw,
                     const std::optional<std::vector<float>> &base_raw) {
  candidates.shared().check_space(space.digest(), space.name());
  if (space.n_axes() != candidates.n_words()) {
    mismatch("The style space '" + space.name() + "' has " + std::to_string(space.n_axes()) + " words, the catalogue " +
             std::to_string(candidates.n_words()) + ". Fetch the catalogue again.");
  }
  Evidence found;
  found.texts = coefficients_of(space, raw);
  if (base_raw) found.base = coefficients_of(space, *base_raw);
  found.novelty = novelty(space, raw.data(), found.texts.n_rows(), candidates.shared());
  return found;
}

Matrix differences(const Evidence &evidence, const Shared &shared) {
  const Matrix &texts = evidence.texts;
  if (texts.n_rows() == 0) bad_input("There are no texts to choose by. Give at least one, better 10 or more.");
  if (texts.n_columns() != shared.words.size()) {
    mismatch("The texts have " + std::to_string(texts.n_columns()) + " coefficients, the catalogue has " +
             std::to_string(shared.words.size()) + " words. Use its style space.");
  }
  if (evidence.base && (evidence.base->n_rows() != texts.n_rows() || evidence.base->n_columns() != texts.n_columns())) {
    mismatch(std::to_string(texts.n_rows()) + " texts and " + std::to_string(evidence.base->n_rows()) +
             " answers of the base: expected one answer a text.");
  }
  Matrix single(texts.n_rows(), texts.n_columns());
  for (size_t i = 0; i < texts.n_rows(); ++i) {
    const double *base = evidence.base ? evidence.base->row(i) : shared.base.data();
    for (size_t j = 0; j < texts.n_columns(); ++j) {
      single.at(i, j) = texts.at(i, j) - base[j];
      if (std::isfinite(single.at(i, j))) continue;
      bad_input("A text's coefficients are NaN or infinite: the encoder is broken. Check its model files.");
    }
  }
  return single;
}

Selection select(const Evidence &evidence, const Candidates &candidates, const SelectOptions &options) {
  const Matrix single = differences(evidence, candidates.shared());
  const Vector value = mean_of_rows(single);
  const Matrix noise = mean_noise(candidates.shared(), static_cast<double>(single.n_rows()), evidence.base.has_value());
  Selection found;
  found.matches = ranked(posterior(value, candidates, noise));
  const Match &first = found.matches.front();
  const std::vector<bool> alike = twins(candidates, first.row);
  Findings all;
  all.match = first;
  all.first = candidates.name(first.row);
  all.novelty = evidence.novelty;
  all.misfit = found.misfit = misfit(value, candidates, noise);
  double lead = 0;
  for (const Match &match : found.matches) {
    if (alike[match.row]) {
      lead += match.probability;
      all.expected += match.probability * saving(match.similarity);
    } else if (all.rival.empty()) {
      all.rival = candidates.name(match.row);
      all.rival_probability = match.probability;
    }
  }
  all.doubt = lead < options.min_confidence || lead - all.rival_probability < kMinMargin;
  found.confidence = first.probability;
  found.margin = first.probability - (found.matches.size() > 1 ? found.matches[1].probability : 0.0);
  found.similarity = first.similarity;
  found.expected_saving = all.expected;
  found.reason = reason_to_abstain(all);
  found.abstain = !found.reason.empty();
  if (!found.abstain) found.reason = "'" + all.first + "' is the nearest, and near enough to start from.";
  return found;
}

Json describe_selection(const Evidence &evidence, const Candidates &candidates, const SelectOptions &options,
                        const std::function<void()> &pause) {
  const Selection found = select(evidence, candidates, options);
  pause();
  const size_t listed = options.top ? std::min(options.top, found.matches.size()) : found.matches.size();
  Json matches = Json::array();
  for (size_t i = 0; i < listed; ++i) {
    const Match &match = found.matches[i];
    matches.push_back({{"name", candidates.name(match.row)},
                       {"probability", match.probability},
                       {"similarity", match.similarity},
                       {"adapter_bytes", candidates.adapter_bytes(match.row)}});
  }
  const Matrix single = differences(evidence, candidates.shared());
  Json selection = {{"choice", found.abstain ? Json() : Json(candidates.name(found.matches.front().row))},
                    {"abstain", found.abstain},
                    {"reason", found.reason},
                    {"confidence", found.confidence},
                    {"margin", found.margin},
                    {"similarity", found.similarity},
                    {"expected_saving", found.expected_saving},
                    {"misfit", found.misfit},
                    {"novelty", evidence.novelty ? Json(*evidence.novelty) : Json()},
                    {"paired", evidence.base.has_value()},
                    {"n_texts", single.n_rows()},
                    {"n_pllms", candidates.size()},
                    {"matches", matches},
                    {"words", described_words(single, candidates.shared(), options.seed)}};
  if (options.merge && options.if_few && !has_few_sets(candidates.size(), options.max_sources)) {
    selection["merge"] = nullptr;
  } else if (options.merge) {
    const auto n_texts = static_cast<double>(single.n_rows());
    const MergeProposal proposal =
        propose_merge(mean_of_rows(single), candidates, n_texts, evidence.base.has_value(), options.max_sources, pause);
    selection["merge"] = described_merge(proposal, candidates);
  }
  return selection;
}

std::pair<Vector, Vector> bootstrap_interval(const Matrix &rows, uint64_t seed) {
  const size_t n = rows.n_rows(), k = rows.n_columns();
  Generator generator(seed);
  std::vector<Vector> means(k, Vector(kDraws));
  for (size_t draw = 0; draw < kDraws; ++draw) {
    const std::vector<int64_t> counts = generator.counts(n);
    for (size_t i = 0; i < n; ++i) {
      if (counts[i] == 0) continue;
      const double weight = static_cast<double>(counts[i]) / static_cast<double>(n);
      for (size_t j = 0; j < k; ++j) means[j][draw] += weight * rows.at(i, j);
    }
  }
  std::pair<Vector, Vector> found;
  for (Vector &values : means) {
    std::sort(values.begin(), values.end());
    found.first.push_back(quantile(values, 0.025));
    found.second.push_back(quantile(values, 0.975));
  }
  return found;
}

}  // namespace xpert
