#include <csignal>

#include "base/files.h"
#include "engine/base_model.h"
#include "engine/lora.h"
#include "parts.h"

namespace xpert {

namespace {

/** The base of a bundle's folder, and one of its programs. */
struct Opened {
  Opened(const Json &arguments, const std::string &kind)
      : folder(arguments.at("bundle")),
        manifest(parse_json(read_file(folder + "/manifest.json"), "the manifest", XPERT_BAD_FILE)),
        base(manifest.at("base")),
        geometry(parse_geometry(base.at("geometry"))),
        weights(folder + "/" + base.at("weights").get<std::string>(), geometry, base.at("layer_weights")),
        stated(manifest.at("programs").at(kind).at(0)),
        program(folder + "/" + stated.at("file").get<std::string>(), 1),
        block(stated.at("vocabulary_block")) {}

  std::string digest() const { return base.at("digest"); }

  ModelOptions model_options(const Json &arguments) const {
    return {block, stated.value("n_virtual", int64_t{0}), arguments.value("most_kept", 0.0)};
  }

  AdapterState state(const Json &arguments) const {
    StateOptions options;
    options.method = parse_method(arguments.value("method", "lora"));
    options.rank = arguments.value("rank", int64_t{1});
    options.n_virtual = arguments.value("n_virtual", int64_t{8});
    options.seed = arguments.value("seed", uint64_t{0});
    const std::string folder_given = arguments.value("adapter", "");
    const int64_t width = stated.at("rank");
    return folder_given.empty() ? fresh_state(geometry, options, width) : read_state(folder_given, geometry, digest(), options, width);
  }

  std::string folder;
  Json manifest, base;
  Geometry geometry;
  Weights weights;
  Json stated;
  Program program;
  int64_t block;
};

std::vector<Sample> samples_of(const Json &arguments) {
  std::vector<Sample> samples;
  for (const Json &sample : arguments.at("samples")) samples.push_back({sample.at(0).get<std::vector<int64_t>>(), sample.at(1).get<size_t>()});
  return samples;
}

/** kill_at: the step after which the process ends itself, as the system ends one for its memory; stop_at: after which it is cancelled. */
Json train(const Json &arguments) {
  Opened opened(arguments, arguments.value("programs", "train"));
  LayerwiseModel model(opened.weights, opened.geometry, opened.program, opened.model_options(arguments));
  TrainingOptions options;
  options.max_steps = arguments.value("max_steps", int64_t{12});
  options.batch_size = arguments.value("batch_size", int64_t{2});
  options.accumulate = arguments.value("accumulate", int64_t{1});
  options.eval_every = arguments.value("eval_every", int64_t{4});
  options.patience = arguments.value("patience", int64_t{9});
  options.checkpoint_every = arguments.value("checkpoint_every", int64_t{5});
  options.learning_rate = arguments.value("learning_rate", 5e-3);
  options.held_out = arguments.value("held_out", 0.2);
  if (arguments.contains("target_loss")) options.target_loss = arguments.at("target_loss").get<double>();
  options.seed = arguments.value("seed", uint64_t{0});
  options.groups = arguments.value("groups", options.groups);
  Trainer trainer(model, opened.state(arguments), samples_of(arguments), options, {arguments.at("out"), opened.digest(), ""});
  const int64_t kill_at = arguments.value("kill_at", int64_t{0}), stop_at = arguments.value("stop_at", int64_t{0});
  TrainingResult result = trainer.run([&](int64_t step, double, double) {
    if (step == kill_at) std::raise(SIGKILL);
    return step == stop_at;
  });
  return {{"losses", result.losses},        {"held_out", result.held_out},         {"steps", result.steps},
          {"digest", result.digest},        {"resumed_from", result.resumed_from}, {"n_train", result.n_train},
          {"n_held_out", result.n_held_out}};
}

/** How n samples, told apart by their one token, are split: {"n", "groups", "share", "seed"} to the tokens of both sides. */
Json split_part(const Json &arguments) {
  std::vector<Sample> samples(arguments.at("n").get<size_t>());
  for (size_t i = 0; i < samples.size(); ++i) samples[i].ids = {static_cast<int64_t>(i)};
  const auto [learnt, held_out] = split(samples, arguments.at("groups"), arguments.at("share"), arguments.at("seed"));
  Json found = {{"learnt", Json::array()}, {"held_out", Json::array()}};
  for (const Sample &sample : learnt) found["learnt"].push_back(sample.ids.front());
  for (const Sample &sample : held_out) found["held_out"].push_back(sample.ids.front());
  return found;
}

/** The loss of samples, and the gradients of all arrays. */
Json gradients(const Json &arguments) {
  Opened opened(arguments, arguments.value("programs", "train"));
  LayerwiseModel model(opened.weights, opened.geometry, opened.program, opened.model_options(arguments));
  const AdapterState state = opened.state(arguments);
  const std::vector<Sample> samples = samples_of(arguments);
  size_t total = 0;
  for (const Sample &sample : samples) total += sample.n_answer();
  std::vector<std::vector<float>> found;
  for (const auto &array : state.values) found.emplace_back(array.size());
  const double loss = model.loss_and_gradients(samples.data(), samples.size(), state, total, found);
  return {
      {"loss", loss}, {"measured", model.loss(samples.data(), samples.size(), state, total)}, {"gradients", found}, {"values", state.values}};
}

Json generate(const Json &arguments) {
  Opened opened(arguments, "generate");
  TextGenerator generator(opened.weights, opened.geometry, opened.program, opened.block);
  const AdapterState state =
      arguments.value("adapter", "").empty() ? base_state(opened.geometry, opened.stated.at("rank")) : opened.state(arguments);
  GenerationOptions options;
  options.max_new_tokens = arguments.value("max_new_tokens", int64_t{20});
  options.sampling.temperature = arguments.value("temperature", 0.0);
  options.seed = arguments.value("seed", uint64_t{0});
  options.keeps_weights = arguments.value("keep", false);
  options.ends = {opened.base.at("end").get<int64_t>()};
  options.stop_words = arguments.value("stop", std::vector<std::string>());
  const auto decode = [](const std::vector<int64_t> &ids) {
    std::string text;
    for (int64_t id : ids) text += "<" + std::to_string(id) + ">";
    return text;
  };
  Json pieces = Json::array();
  const auto on_piece = [&](std::string_view piece) {
    pieces.push_back(piece);
    return pieces.size() == arguments.value("stop_at", size_t{0});
  };
  const Generated made = generator.answer(arguments.at("prompt"), state, options, decode, on_piece, {});
  return {{"ids", made.ids}, {"text", made.text}, {"ended", made.ended}, {"pieces", pieces}};
}

Json merge(const Json &arguments) {
  std::vector<std::pair<LoraAdapter, double>> sources;
  for (const Json &source : arguments.at("sources")) sources.emplace_back(read_lora(source.at(0)), source.at(1).get<double>());
  const LoraAdapter merged = merge_lora(sources);
  write_lora(arguments.at("out"), merged, "");
  return {{"rank", merged.rank()}, {"digest", read_lora(arguments.at("out")).digest}};
}

Json describe_adapter(const Json &arguments) {
  const LoraAdapter adapter = read_lora(arguments.at("adapter"));
  Json scalings = Json::object();
  for (const auto &[name, pair] : adapter.modules) scalings[name] = pair.scaling;
  return {{"digest", adapter.digest}, {"bytes", adapter.bytes}, {"base_digest", adapter.base_digest}, {"scalings", scalings}};
}

/** Decoded texts as they grow, given piece by piece. */
Json stream(const Json &arguments) {
  Json pieces = Json::array();
  const auto on_piece = [&](std::string_view piece) {
    pieces.push_back(piece);
    return false;
  };
  TextStream text(arguments.value("stop", std::vector<std::string>()), on_piece);
  bool is_stopped = false;
  for (const std::string decoded : arguments.at("texts")) {
    is_stopped = text.grow(decoded);
    if (is_stopped) break;
  }
  text.finish();
  return {{"pieces", pieces}, {"text", text.text()}, {"stopped", is_stopped}};
}

/** How often each token is drawn. */
Json sample(const Json &arguments) {
  const std::vector<float> logits = arguments.at("logits");
  const SamplingOptions options = {arguments.value("temperature", 0.0), arguments.value("top_p", 1.0), arguments.value("top_k", int64_t{0})};
  std::vector<int64_t> counts(logits.size());
  Random random(arguments.value("seed", uint64_t{0}));
  for (int64_t i = 0; i < arguments.at("n"); ++i) ++counts[static_cast<size_t>(next_token(logits, options, random))];
  return counts;
}

/** A call of the C API in ids: what a request asks for. */
Json ask(const Json &arguments) {
  const std::string folder = arguments.at("bundle"), call = arguments.at("call"), request = arguments.at("request").dump();
  const Json manifest = parse_json(read_file(folder + "/manifest.json"), "the manifest", XPERT_BAD_FILE);
  BaseModel base(folder, manifest.at("base"), manifest.at("programs"), 1);
  if (call == "merge") return base.merge(request.c_str());
  if (call == "generate") {
    const auto decode = [](const std::vector<int64_t> &ids) { return std::string(ids.size(), 'x'); };
    return base.generate(arguments.at("prompt"), request.c_str(), decode, {}, {});
  }
  std::vector<EncodedText> texts;
  for (const Json &text : arguments.at("texts")) texts.push_back({text.at(0), text.at(1)});
  return base.personalize(texts, request.c_str(), {}, {});
}

}  // namespace

Parts engine_parts() {
  return {{"engine.train", train},
          {"engine.split", split_part},
          {"engine.gradients", gradients},
          {"engine.generate", generate},
          {"engine.merge", merge},
          {"engine.adapter", describe_adapter},
          {"engine.stream", stream},
          {"engine.sample", sample},
          {"engine.ask", ask}};
}

}  // namespace xpert
