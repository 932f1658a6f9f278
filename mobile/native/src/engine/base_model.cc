#include "engine/base_model.h"

#include <algorithm>
#include <chrono>
#include <filesystem>

#include "base/error.h"
#include "engine/lora.h"
#include "runtime/memory.h"

namespace xpert {

namespace {

constexpr int64_t kMostVirtual = 4096;

/** Reads options of a request; a value of another type is refused with its name. */
class Request {
 public:
  Request(const char *text, std::initializer_list<const char *> known) : options_(parse_options(text, known)) {}

  template <typename T>
  T get(const char *key, T otherwise) const {
    if (!has(key)) return otherwise;
    try {
      return options_.at(key).get<T>();
    } catch (const nlohmann::json::exception &) {
      bad_input("The option '" + std::string(key) + "' is " + options_.at(key).dump() + ", which is of another type than it takes. Correct it.");
    }
  }

  bool has(const char *key) const { return options_.contains(key) && !options_.at(key).is_null(); }
  const Json &at(const char *key) const { return options_.at(key); }

 private:
  const Json options_;
};

TrainingOptions training_options(const Request &request) {
  TrainingOptions options;
  options.max_steps = request.get("max_steps", options.max_steps);
  options.batch_size = request.get("batch_size", options.batch_size);
  options.accumulate = request.get("accumulate", options.accumulate);
  options.eval_every = request.get("eval_every", options.eval_every);
  options.patience = request.get("patience", options.patience);
  options.checkpoint_every = request.get("checkpoint_every", options.checkpoint_every);
  options.learning_rate = request.get("learning_rate", options.learning_rate);
  options.held_out = request.get("held_out", options.held_out);
  if (request.has("target_loss")) options.target_loss = request.get("target_loss", 0.0);
  options.seed = request.get("seed", options.seed);
  options.groups = request.get("groups", options.groups);
  check_options(options);
  return options;
}

StateOptions state_options(const Request &request) {
  StateOptions options;
  options.method = parse_method(request.get<std::string>("method", "lora"));
  options.rank = request.get("rank", options.rank);
  options.alpha = request.get("alpha", options.alpha);
  options.n_virtual = request.get("n_virtual", options.n_virtual);
  options.seed = request.get("seed", options.seed);
  if (options.rank < 1) bad_input("The rank is " + std::to_string(options.rank) + ", expected at least 1. Correct it.");
  if (!(options.alpha > 0)) bad_input("alpha is not above 0. Correct it.");
  if (options.n_virtual < 1 || options.n_virtual > kMostVirtual) {
    bad_input("n_virtual is " + std::to_string(options.n_virtual) + ", expected 1 to " + std::to_string(kMostVirtual) + ". Correct it.");
  }
  return options;
}

/** Puts prompts and answers together, cut to limit; counts those that were cut. */
std::vector<Sample> samples_of(const std::vector<EncodedText> &texts, size_t limit, size_t &n_cut) {
  std::vector<Sample> samples;
  for (const EncodedText &text : texts) {
    if (text.prompt.empty())
      bad_input("The tokenizer turns the prompt of text " + std::to_string(samples.size() + 1) + " into no token. Change it.");
    if (text.prompt.size() >= limit) {
      bad_input("The prompt of text " + std::to_string(samples.size() + 1) + " has " + std::to_string(text.prompt.size()) + " tokens, at most " +
                std::to_string(limit - 1) + " leave room. Shorten it, or export the bundle with a larger length.");
    }
    Sample sample = {text.prompt, text.prompt.size()};
    sample.ids.insert(sample.ids.end(), text.answer.begin(), text.answer.end());
    if (sample.ids.size() > limit) {
      sample.ids.resize(limit);
      ++n_cut;
    }
    samples.push_back(std::move(sample));
  }
  if (samples.empty()) bad_input("There are no texts to fine-tune on. Give at least one, better 20 or more.");
  return samples;
}

/** A limit in MB, in bytes; without one half of the memory that is available: the app and the system want some too. */
double most_bytes(const Request &request, const char *key) {
  return request.has(key) ? 1e6 * request.get(key, 0.0) : 0.5 * static_cast<double>(available_memory());
}

double now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

}  // namespace

BaseModel::BaseModel(std::string folder, const Json &base, const Json &programs, int threads)
    : folder_(std::move(folder)),
      base_(base),
      geometry_(parse_geometry(base.at("geometry"))),
      digest_(base.at("digest")),
      name_(base.value("name", "")),
      train_(parse_programs(programs, "train")),
      prefix_(parse_programs(programs, "prefix")),
      generate_(parse_programs(programs, "generate")),
      threads_(threads) {
  weights_ = std::make_unique<Weights>(folder_ + "/" + base_.at("weights").get<std::string>(), geometry_,
                                       base_.at("layer_weights").get<std::vector<std::string>>());
}

std::vector<BaseModel::Stated> BaseModel::parse_programs(const Json &programs, const char *kind) {
  std::vector<Stated> found;
  if (!programs.is_object() || !programs.contains(kind)) return found;
  for (const Json &item : programs.at(kind)) {
    found.push_back({item.at("file"), item.at("rank"), item.value("batch", int64_t{1}), item.at("length"), item.at("vocabulary_block"),
                     item.value("n_virtual", int64_t{0})});
  }
  return found;
}

void BaseModel::need_programs(const std::vector<Stated> &programs, const char *kind) {
  if (programs.empty()) throw Error(XPERT_NOT_FOUND, std::string("The bundle has no program to ") + kind + ". Export it with one.");
}

std::vector<BaseModel::Stated> BaseModel::training_programs(Method method, int64_t n_virtual) const {
  need_programs(train_, "train");
  if (method != Method::kPrefix) return train_;
  if (prefix_.empty()) {
    throw Error(XPERT_NOT_FOUND,
                "The bundle has no program to train a prefix. Export it with --prefix, or train with the method lora or prompt.");
  }
  std::vector<Stated> found;
  for (const Stated &stated : prefix_) {
    if (!n_virtual || stated.n_virtual == n_virtual) found.push_back(stated);
  }
  if (!found.empty()) return found;
  bad_input("The bundle trains prefixes of " + std::to_string(prefix_.front().n_virtual) + " places, " + std::to_string(n_virtual) +
            " were asked for. Ask for as many, or export it with --prefix " + std::to_string(n_virtual) + ".");
}

const BaseModel::Stated &BaseModel::choose(const std::vector<Stated> &programs, const char *kind, int64_t rank, int64_t length,
                                           int64_t batch) const {
  need_programs(programs, kind);
  const Stated *best = nullptr;
  // The smallest one that takes all; of those that are too short the longest, and so for the batch.
  auto cost = [&](const Stated &stated) {
    const bool is_short = stated.length < length, is_small = stated.batch < batch;
    return std::make_tuple(is_short, is_short ? -stated.length : stated.length, is_small, is_small ? -stated.batch : stated.batch, stated.rank);
  };
  int64_t widest = 0;
  for (const Stated &stated : programs) {
    widest = std::max(widest, stated.rank);
    if (stated.rank < rank || (best && cost(*best) <= cost(stated))) continue;
    best = &stated;
  }
  if (best) return *best;
  mismatch("The adapter has the rank " + std::to_string(rank) + ", the bundle's programs take at most " + std::to_string(widest) +
           ". Export the bundle with this rank, or take a smaller adapter.");
}

Program &BaseModel::load(const Stated &stated) {
  // One at a time: each keeps an arena for its values.
  if (loaded_ != stated.file) {
    program_.reset();
    loaded_.clear();
    program_ = std::make_unique<Program>(folder_ + "/" + stated.file, threads_);
    loaded_ = stated.file;
  }
  return *program_;
}

Json BaseModel::personalize(const std::vector<EncodedText> &texts, const char *text,
                            const std::function<bool(int64_t, int64_t, double, double)> &on_step, const std::function<bool()> &is_cancelled) {
  const Request request(text, {"out", "start", "method", "max_steps", "batch_size", "accumulate", "learning_rate", "rank", "alpha", "n_virtual",
                               "held_out", "eval_every", "patience", "target_loss", "seed", "checkpoint_every", "groups",
                               "activations_mb"});
  if (!request.has("out")) bad_input("The request names no folder for the adapter. Give out.");
  const TrainingOptions options = training_options(request);
  StateOptions wanted = state_options(request);
  const auto start = request.get<std::string>("start", "");
  AdapterHead head = {wanted.method, wanted.method == Method::kLora ? wanted.rank : 0, wanted.n_virtual};
  if (!start.empty()) {
    const AdapterHead found = read_adapter_head(start);
    if (found.method != wanted.method) bad_input("The adapter '" + start + "' is of another method than the one asked for. Give its own.");
    head = {found.method, std::max(head.rank, found.rank), found.n_virtual};
  }
  const bool is_open = start.empty() && !request.has("n_virtual");
  const std::vector<Stated> programs = training_programs(head.method, is_open ? 0 : head.n_virtual);
  const int64_t front = head.method == Method::kPrompt ? head.n_virtual : 0;
  int64_t limit = 0;
  for (const Stated &stated : programs) limit = std::max(limit, stated.length);
  size_t n_cut = 0, longest = 0;
  const std::vector<Sample> samples = samples_of(texts, static_cast<size_t>(std::max<int64_t>(limit - front, 0)), n_cut);
  for (const Sample &sample : samples) longest = std::max(longest, sample.ids.size());
  const Stated &stated = choose(programs, "train", head.rank, static_cast<int64_t>(longest) + front, options.batch_size);
  if (head.method == Method::kPrefix) wanted.n_virtual = stated.n_virtual;
  LayerwiseModel model(*weights_, geometry_, load(stated), {stated.vocabulary_block, stated.n_virtual, most_bytes(request, "activations_mb")});
  AdapterState state = start.empty() ? fresh_state(geometry_, wanted, stated.rank) : read_state(start, geometry_, digest_, wanted, stated.rank);
  const auto out = request.get<std::string>("out", "");
  Trainer trainer(model, std::move(state), samples, options, {out, digest_, name_});
  const TrainingResult result = trainer.run([&](int64_t step, double loss, double held_out) {
    const bool is_stopped = on_step && on_step(step, options.max_steps, loss, held_out);
    return is_stopped || (is_cancelled && is_cancelled());
  });
  return {{"adapter", out},
          {"losses", result.losses},
          {"held_out", result.held_out},
          {"steps", result.steps},
          {"seconds", result.seconds},
          {"n_train", result.n_train},
          {"n_held_out", result.n_held_out},
          {"n_cut", n_cut},
          {"resumed_from", result.resumed_from},
          {"digest", result.digest}};
}

Json BaseModel::generate(const std::vector<int64_t> &prompt, const char *text, const Decode &decode, const OnPiece &on_piece,
                         const std::function<bool()> &is_cancelled) {
  const Request request(text, {"adapter", "max_new_tokens", "temperature", "top_k", "top_p", "seed", "stop", "resident_mb"});
  const double begin = now();
  GenerationOptions options;
  options.max_new_tokens = request.get("max_new_tokens", options.max_new_tokens);
  options.sampling.temperature = request.get("temperature", 0.0);
  options.sampling.top_k = request.get("top_k", int64_t{0});
  options.sampling.top_p = request.get("top_p", 1.0);
  options.seed = request.get("seed", options.seed);
  options.stop_words = request.get("stop", options.stop_words);
  options.ends = {base_.at("end").get<int64_t>()};
  // Pages that fit are read once an answer, not once a token.
  options.keeps_weights = static_cast<double>(weights_->bytes()) <= most_bytes(request, "resident_mb");
  check_options(options);
  const auto adapter = request.get<std::string>("adapter", "");
  const AdapterHead head = adapter.empty() ? AdapterHead{} : read_adapter_head(adapter);
  const int64_t length = head.n_virtual + static_cast<int64_t>(prompt.size()) + options.max_new_tokens;
  const Stated &stated = choose(generate_, "answer", head.rank, length, 1);
  TextGenerator generator(*weights_, geometry_, load(stated), stated.vocabulary_block);
  StateOptions as_it_is;
  as_it_is.rank = 1;
  const AdapterState state =
      adapter.empty() ? base_state(geometry_, stated.rank) : read_state(adapter, geometry_, digest_, as_it_is, stated.rank);
  const Generated made = generator.answer(prompt, state, options, decode, on_piece, is_cancelled);
  return {{"text", made.text}, {"n_prompt", made.n_prompt}, {"n_new", made.ids.size()}, {"ended", made.ended}, {"seconds", now() - begin}};
}

Json BaseModel::merge(const char *text) const {
  const Request request(text, {"sources", "out"});
  const auto out = request.get<std::string>("out", "");
  if (out.empty() || !request.has("sources") || !request.at("sources").is_array()) {
    bad_input("A merge takes sources, a list of adapters with their weights, and out, a folder. Give both.");
  }
  std::vector<std::pair<LoraAdapter, double>> sources;
  for (const Json &source : request.at("sources")) {
    if (!source.is_object() || !source.value("adapter", Json()).is_string() || !source.value("weight", Json()).is_number()) {
      bad_input("A source is " + source.dump() + ", expected an object with adapter, a folder, and weight, a number. Correct it.");
    }
    const std::string folder = source.at("adapter");
    sources.emplace_back(read_lora(folder), source.at("weight").get<double>());
    check_base(sources.back().first, digest_, geometry_, folder);
  }
  LoraAdapter merged = merge_lora(sources);
  if (merged.base_digest.empty()) merged.base_digest = digest_;
  write_lora(out, merged, name_);
  return {{"rank", merged.rank()}, {"bytes", read_lora(out).bytes}};
}

}  // namespace xpert
