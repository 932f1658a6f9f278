// One fine-tuning run, resumable to the bit.
#pragma once

#include <functional>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "engine/checkpoint.h"
#include "engine/model.h"
#include "engine/optimizer.h"
#include "engine/state.h"

namespace xpert {

struct TrainingOptions {
  int64_t max_steps = 100, batch_size = 4, accumulate = 1, eval_every = 5, patience = 4, checkpoint_every = 5;
  double learning_rate = 5e-4, held_out = 0.2;
  std::optional<double> target_loss;
  uint64_t seed = 0;
  std::vector<uint64_t> groups;  // of each text; texts of one group are held out together. None: each is its own
};

/** Refuses options out of range, all at once. */
void check_options(const TrainingOptions &options);

/** Called after every step; true to stop. held_out is NaN before the first measurement. */
using OnStep = std::function<bool(int64_t step, double loss, double held_out)>;

struct TrainingResult {
  std::vector<double> losses;
  std::vector<std::pair<int64_t, double>> held_out;
  int64_t steps = 0, resumed_from = 0;
  double seconds = 0;
  size_t n_train = 0, n_held_out = 0;
  std::string digest;
};

/** Where the adapter goes, and what it is for. */
struct Destination {
  std::string folder, base_digest, base_name;
};

class Trainer {
 public:
  /**
   * start: the adapter to start from. samples: all texts; a share of them, drawn by the seed, is held out.
   *
   * The checkpoint stands beside the destination, in ".{name}.checkpoint.safetensors", until the run ends.
   */
  Trainer(LayerwiseModel &model, AdapterState start, const std::vector<Sample> &samples, TrainingOptions options, Destination out);

  /** Trains to the end and writes the best adapter. */
  TrainingResult run(const OnStep &on_step);

 private:
  void advance();
  void measure();
  void save();
  void resume();
  bool is_finished() const;
  NamedArrays arrays();
  double mean_loss(const std::vector<Sample> &samples);

  LayerwiseModel &model_;
  AdapterState state_;
  const TrainingOptions options_;
  const Destination out_;
  std::vector<Sample> train_set_, held_out_set_;
  std::string identity_, checkpoint_;
  std::vector<std::vector<float>> best_, gradients_;
  Moments moments_;
  TrainingResult progress_;
  int64_t stale_ = 0;
  double best_loss_ = std::numeric_limits<double>::infinity();
};

/**
 * Splits texts into those to learn from and those held out; with fewer than five texts none is held out.
 *
 * No group is on both sides. So the share is a wish where groups are large: the last one may go beyond it, but half of the texts at
 * most are held out for that, and a group that is more than that is learnt from.
 */
std::pair<std::vector<Sample>, std::vector<Sample>> split(const std::vector<Sample> &samples, const std::vector<uint64_t> &groups,
                                                          double share, uint64_t seed);

/** Picks a step's texts: every epoch has its own order, known from the seed alone. */
std::vector<Sample> batch_of(const std::vector<Sample> &samples, int64_t step, int64_t size, uint64_t seed);

}  // namespace xpert
