#include "engine/training.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <filesystem>
#include <map>

#include "base/error.h"
#include "base/files.h"
#include "base/random.h"
#include "engine/folder.h"
#include "engine/peft.h"

namespace xpert {

namespace {

constexpr double kClip = 1.0, kWarmUp = 0.1;
constexpr uint64_t kSplitStream = 1, kOrderStream = 2;  // stream 0 draws new adapters
constexpr size_t kFewest = 5;                           // texts, below which none is held out

double now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

std::string checkpoint_path(const std::string &folder) {
  std::filesystem::path path(folder);
  if (!path.has_filename()) path = path.parent_path();
  return (path.parent_path() / ("." + path.filename().string() + ".checkpoint.safetensors")).string();
}

std::string digest_of(const std::vector<std::vector<float>> &arrays) {
  std::string parts;
  for (const auto &array : arrays) parts += sha256_hex({reinterpret_cast<const char *>(array.data()), array.size() * sizeof(float)});
  return sha256_hex(parts);
}

/** What a run is: resuming another one's checkpoint would be wrong without a sign of it. */
std::string identity_of(const AdapterState &start, const std::vector<Sample> &samples, const TrainingOptions &o, const Destination &out,
                        const LayerwiseModel &model) {
  std::string ids;
  for (const Sample &sample : samples) {
    ids += std::to_string(sample.n_prompt) + ":";
    for (int64_t id : sample.ids) ids += std::to_string(id) + ",";
  }
  const Json stated = {out.base_digest,
                       o.max_steps,
                       o.batch_size,
                       o.accumulate,
                       o.learning_rate,
                       o.held_out,
                       o.eval_every,
                       o.patience,
                       o.target_loss ? Json(*o.target_loss) : Json(),
                       o.seed,
                       o.groups,
                       model.batch(),
                       model.length(),
                       static_cast<int>(start.method),
                       start.rank,
                       start.width,
                       start.n_virtual,
                       start.scale,
                       sha256_hex(ids),
                       digest_of(start.values)};
  return sha256_hex(stated.dump());
}

/** The texts of each group, in the order in which groups begin. */
std::vector<std::vector<size_t>> members_of(const std::vector<uint64_t> &groups, size_t n) {
  if (!groups.empty() && groups.size() != n) {
    bad_input("There are " + std::to_string(groups.size()) + " groups for " + std::to_string(n) + " texts. Give one each, or none.");
  }
  std::vector<std::vector<size_t>> members;
  std::map<uint64_t, size_t> places;
  for (size_t i = 0; i < n; ++i) {
    const auto [place, is_new] = places.emplace(groups.empty() ? i : groups[i], members.size());
    if (is_new) members.emplace_back();
    members[place->second].push_back(i);
  }
  return members;
}

size_t n_answer_tokens(const Sample *samples, size_t n) {
  size_t total = 0;
  for (size_t i = 0; i < n; ++i) total += samples[i].n_answer();
  return total;
}

}  // namespace

void check_options(const TrainingOptions &o) {
  std::vector<std::string> problems;
  auto at_least_one = [&](const char *name, int64_t value) {
    if (value < 1 || value > 1'000'000) problems.push_back(std::string(name) + " is " + std::to_string(value) + ", expected 1 to 1000000");
  };
  at_least_one("max_steps", o.max_steps);
  at_least_one("batch_size", o.batch_size);
  at_least_one("accumulate", o.accumulate);
  at_least_one("eval_every", o.eval_every);
  at_least_one("patience", o.patience);
  at_least_one("checkpoint_every", o.checkpoint_every);
  if (!(o.learning_rate > 0) || !std::isfinite(o.learning_rate))
    problems.push_back("learning_rate is " + python_float(o.learning_rate) + ", expected above 0");
  if (!(o.held_out >= 0 && o.held_out < 1)) problems.push_back("held_out is " + python_float(o.held_out) + ", expected 0 to below 1");
  if (o.target_loss && !std::isfinite(*o.target_loss)) problems.push_back("target_loss is no number");
  if (!problems.empty()) bad_input("Cannot train: " + listed(problems, problems.size()) + ".");
}

Trainer::Trainer(LayerwiseModel &model, AdapterState start, const std::vector<Sample> &samples, TrainingOptions options, Destination out)
    : model_(model),
      state_(std::move(start)),
      options_(options),
      out_(std::move(out)),
      checkpoint_(checkpoint_path(out_.folder)),
      best_(state_.values),
      moments_(state_.values) {
  check_options(options_);
  refuse_foreign(out_.folder);
  std::tie(train_set_, held_out_set_) = split(samples, options_.groups, options_.held_out, options_.seed);
  identity_ = identity_of(state_, samples, options_, out_, model_);
  for (const auto &array : state_.values) gradients_.emplace_back(array.size());
  progress_.n_train = train_set_.size();
  progress_.n_held_out = held_out_set_.size();
}

TrainingResult Trainer::run(const OnStep &on_step) {
  make_parent(checkpoint_);
  remove_abandoned(checkpoint_);
  resume();
  const double begin = now() - progress_.seconds;
  if (progress_.steps == 0) measure();
  while (progress_.steps < options_.max_steps && !is_finished()) {
    advance();
    const int64_t step = progress_.steps;
    if (step % options_.eval_every == 0 || step == options_.max_steps) measure();
    progress_.seconds = now() - begin;
    const bool is_due = step % options_.checkpoint_every == 0;
    if (is_due) save();
    const double held_out = progress_.held_out.empty() ? std::numeric_limits<double>::quiet_NaN() : progress_.held_out.back().second;
    if (!on_step || !on_step(step, progress_.losses.back(), held_out)) continue;
    if (!is_due) save();
    throw Error(XPERT_CANCELLED, "The training was stopped after step " + std::to_string(step) + ". Start it again to go on from there.");
  }
  AdapterState best = state_;
  best.values = best_;
  progress_.digest = write_state(best, model_.geometry(), out_.folder, out_.base_digest, out_.base_name);
  std::error_code none;
  std::filesystem::remove(checkpoint_, none);
  return progress_;
}

bool Trainer::is_finished() const { return (options_.target_loss && best_loss_ <= *options_.target_loss) || stale_ >= options_.patience; }

void Trainer::advance() {
  const std::vector<Sample> picked = batch_of(train_set_, progress_.steps, options_.batch_size * options_.accumulate, options_.seed);
  const size_t total = n_answer_tokens(picked.data(), picked.size());
  const size_t at_once = std::min(model_.batch(), static_cast<size_t>(options_.batch_size));
  for (auto &array : gradients_) std::fill(array.begin(), array.end(), 0.0F);
  double loss = 0;
  for (size_t i = 0; i < picked.size(); i += at_once) {
    loss += model_.loss_and_gradients(&picked[i], std::min(at_once, picked.size() - i), state_, total, gradients_);
  }
  const double norm = norm_of(gradients_);
  if (!std::isfinite(norm + loss)) {
    throw Error(XPERT_TRAINING, "The loss became " + std::to_string(loss) + " at step " + std::to_string(progress_.steps + 1) +
                                    ". Lower the learning rate (" + python_float(options_.learning_rate) + "), or check the texts.");
  }
  const auto factor = static_cast<float>(std::min(1.0, kClip / (norm + 1e-6)));
  const double warm = std::max(1.0, kWarmUp * static_cast<double>(options_.max_steps));
  const double rate = options_.learning_rate * std::min(1.0, static_cast<double>(progress_.steps + 1) / warm);
  ++progress_.steps;
  adamw(state_.values, gradients_, moments_, factor, rate, progress_.steps);
  progress_.losses.push_back(loss);
}

double Trainer::mean_loss(const std::vector<Sample> &samples) {
  const size_t total = n_answer_tokens(samples.data(), samples.size());
  double loss = 0;
  for (size_t i = 0; i < samples.size(); i += model_.batch()) {
    loss += model_.loss(&samples[i], std::min(model_.batch(), samples.size() - i), state_, total);
  }
  return loss;
}

void Trainer::measure() {
  if (held_out_set_.empty()) {
    best_ = state_.values;
    return;
  }
  const double loss = mean_loss(held_out_set_);
  if (!std::isfinite(loss)) {
    throw Error(XPERT_TRAINING, "The held-out loss is not finite after step " + std::to_string(progress_.steps) + ". Lower the learning rate (" +
                                    python_float(options_.learning_rate) + "), or check the texts.");
  }
  progress_.held_out.emplace_back(progress_.steps, loss);
  if (loss < best_loss_) {
    best_ = state_.values;
    best_loss_ = loss;
    stale_ = 0;
  } else {
    ++stale_;
  }
}

NamedArrays Trainer::arrays() {
  NamedArrays all;
  for (size_t i = 0; i < best_.size(); ++i) {
    const std::string place = "." + std::to_string(i);
    all.emplace_back("value" + place, &state_.values[i]);
    all.emplace_back("best" + place, &best_[i]);
    all.emplace_back("moment.0" + place, &moments_.first[i]);
    all.emplace_back("moment.1" + place, &moments_.second[i]);
  }
  return all;
}

void Trainer::save() {
  const Json numbers = {{"identity", identity_},
                        {"step", progress_.steps},
                        {"stale", stale_},
                        {"seconds", progress_.seconds},
                        {"losses", progress_.losses},
                        {"held_out", progress_.held_out},
                        {"best_loss", std::isfinite(best_loss_) ? Json(best_loss_) : Json()}};
  write_checkpoint(checkpoint_, arrays(), numbers);
}

void Trainer::resume() {
  if (!has_checkpoint(checkpoint_)) return;
  const Json numbers = read_checkpoint(checkpoint_);
  if (numbers.value("identity", "") != identity_) {
    throw Error(XPERT_TRAINING,
                "The checkpoint '" + checkpoint_ +
                    "' belongs to a run with other texts, settings or models. Remove it to start anew, or give the same again to go on.");
  }
  fill_from_checkpoint(checkpoint_, arrays());
  progress_.steps = progress_.resumed_from = numbers.at("step").get<int64_t>();
  progress_.seconds = numbers.at("seconds").get<double>();
  progress_.losses = numbers.at("losses").get<std::vector<double>>();
  progress_.held_out = numbers.at("held_out").get<std::vector<std::pair<int64_t, double>>>();
  stale_ = numbers.at("stale").get<int64_t>();
  best_loss_ = numbers.at("best_loss").is_null() ? std::numeric_limits<double>::infinity() : numbers.at("best_loss").get<double>();
}

std::pair<std::vector<Sample>, std::vector<Sample>> split(const std::vector<Sample> &samples, const std::vector<uint64_t> &groups,
                                                          double share, uint64_t seed) {
  if (samples.empty()) bad_input("There are no texts to fine-tune on. Give at least one, better 20 or more.");
  const size_t n = samples.size(), n_held = n < kFewest ? 0 : static_cast<size_t>(std::lround(share * static_cast<double>(n)));
  const std::vector<std::vector<size_t>> members = members_of(groups, n);
  std::pair<std::vector<Sample>, std::vector<Sample>> parts;
  for (size_t group : Random(seed, kSplitStream).permutation(members.size())) {
    const size_t held = parts.second.size();
    const bool is_held = held < n_held && held + members[group].size() <= std::max(n_held, n / 2);
    for (size_t i : members[group]) (is_held ? parts.second : parts.first).push_back(samples[i]);
  }
  if (parts.first.empty()) bad_input("All " + std::to_string(n) + " texts would be held out. Lower held_out.");
  return parts;
}

std::vector<Sample> batch_of(const std::vector<Sample> &samples, int64_t step, int64_t size, uint64_t seed) {
  std::vector<Sample> picked;
  std::vector<size_t> order;
  uint64_t drawn = std::numeric_limits<uint64_t>::max();
  for (int64_t k = step * size; k < (step + 1) * size; ++k) {
    const uint64_t epoch = static_cast<uint64_t>(k) / samples.size(), place = static_cast<uint64_t>(k) % samples.size();
    if (epoch != drawn) order = Random(seed, kOrderStream + epoch).permutation(samples.size());
    drawn = epoch;
    picked.push_back(samples[order[place]]);
  }
  return picked;
}

}  // namespace xpert
