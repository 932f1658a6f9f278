// xpert-device select | cells | train | generate | bench | verify: what an app does, on the command line.
#include <sys/resource.h>

#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iostream>

#include "cells.h"
#include "session.h"

namespace xpert_device {

namespace {

using Clock = std::chrono::steady_clock;

const Option kJson = {"json", Kind::kFlag, "the whole result as JSON"};
const Option kThreads = {"threads", Kind::kNumber, "CPU threads, by default 2"};
const Option kKey = {"public_key", Kind::kText, "minisign public key, or its file: the bundle must be signed by it"};
const Option kWork = {"work", Kind::kText, "folder for what can be made again"};
const Option kTexts = {"texts", Kind::kText, "the user's texts: .jsonl with {\"text\", \"prompt\"?, \"group\"?}, or a text a line"};
const Option kSeed = {"seed", Kind::kNumber, "of all that is drawn"};

std::vector<Command> commands() {
  return {
      {"verify", "check a bundle whole, and its signature", {"BUNDLE"}, {kKey, kJson}},
      {"select", "choose the nearest pLLM of a catalogue for texts, or abstain", {"BUNDLE", "CATALOGUE"},
       {kTexts, {"index", Kind::kText, "index of the cell that CATALOGUE is, or of those in the folder that it is"},
        {"min_confidence", Kind::kNumber, "abstain below it"}, {"merge", Kind::kFlag, "propose a merge of two"}, kSeed, kThreads, kKey, kWork, kJson}},
      {"cells", "name the cells of a large catalogue to fetch into FOLDER: the texts' own among decoys", {"BUNDLE", "INDEX", "FOLDER"},
       {kTexts, {"cells", Kind::kNumber, "how many, 1 to 128, by default 8"},
        {"whole_kib", Kind::kNumber, "size up to which to fetch the catalogue whole; by default what the cells come to"}, kThreads, kKey, kWork,
        kJson}},
      {"train", "fine-tune an adapter on texts, a group held out whole or not; Ctrl-C keeps a checkpoint, the same call goes on from it",
       {"BUNDLE", "OUT"},
       {kTexts, {"start", Kind::kText, "adapter to start from"}, {"method", Kind::kText, "lora, prompt or prefix"},
        {"max_steps", Kind::kNumber, "most steps"}, {"batch_size", Kind::kNumber, "texts a step"},
        {"accumulate", Kind::kNumber, "batches a step"}, {"learning_rate", Kind::kNumber, "of AdamW"},
        {"rank", Kind::kNumber, "of the adapter"}, {"alpha", Kind::kNumber, "its scale times its rank"},
        {"n_virtual", Kind::kNumber, "places of a prompt or prefix"}, {"held_out", Kind::kNumber, "share of texts to measure on"},
        {"eval_every", Kind::kNumber, "steps between measurements"}, {"patience", Kind::kNumber, "measurements without gain to stop after"},
        {"target_loss", Kind::kNumber, "held-out loss to stop at"}, {"checkpoint_every", Kind::kNumber, "steps between checkpoints"},
        {"activations_mb", Kind::kNumber, "most MB of what layers computed to keep"}, kSeed, kThreads, kKey, kWork, kJson}},
      {"generate", "answer a prompt", {"BUNDLE", "PROMPT"},
       {{"adapter", Kind::kText, "adapter to answer with"}, {"max_new_tokens", Kind::kNumber, "most tokens"},
        {"temperature", Kind::kNumber, "0 takes the likeliest"}, {"top_k", Kind::kNumber, "tokens to draw from, 0 for all"},
        {"top_p", Kind::kNumber, "share to draw from"}, {"resident_mb", Kind::kNumber, "most MB of weights to keep until it is there"}, kSeed, kThreads, kKey, kWork, kJson}},
      {"bench", "measure opening, answering and fine-tuning", {"BUNDLE"},
       {{"tokens", Kind::kNumber, "to answer with, by default 32"}, {"steps", Kind::kNumber, "to train, by default 3"}, {"rank", Kind::kNumber, "of the adapter, by default 8"}, kThreads, kWork, kJson}},
  };
}

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

std::string key_of(const Arguments &arguments) {
  const std::string given = arguments.text("public_key");
  return std::ifstream(given).good() ? read_whole(given) : given;
}

Json open_options(const Arguments &arguments) {
  Json options = arguments.only({"threads", "work"});
  if (arguments.has("public_key")) options["public_key"] = key_of(arguments);
  return options;
}

void show(const Arguments &arguments, const Json &result, const std::string &short_form) {
  std::cout << (arguments.has("json") ? result.dump(2, ' ', false, Json::error_handler_t::replace) : short_form) << std::endl;
}

void verify(const Arguments &arguments) {
  const std::string key = key_of(arguments);
  const Json report = answer([&](char **found) {
    return xpert_verify(arguments.places[0].c_str(), arguments.has("public_key") ? key.c_str() : nullptr, found);
  });
  show(arguments, report, arguments.places[0] + " is whole: " + report["n_files"].dump() + " files, " + report["bytes"].dump() + " bytes, " +
                              (report["signed"] ? "signed" : "no signature asked for"));
}

void select(const Arguments &arguments) {
  const Texts texts(arguments.text("texts", "-"));
  const Session session(arguments.places[0], open_options(arguments));
  const std::string options = arguments.only({"index", "min_confidence", "merge", "seed"}).dump();
  std::string catalogue = arguments.places[1];
  if (std::filesystem::is_directory(catalogue)) {
    if (!arguments.has("index")) throw Refusal(XPERT_BAD_INPUT, "'" + catalogue + "' is a folder of cells. Give their index with --index.");
    catalogue = Cells(arguments.text("index"), catalogue).file(session, texts);
  }
  const Json found = answer([&](char **out) {
    return xpert_select(session.engine(), catalogue.c_str(), texts.texts(), nullptr, texts.size(), options.c_str(), out);
  });
  std::string text = found["abstain"] ? "The base: " + found.value("reason", "") : found["choice"].get<std::string>();
  text += " (confidence " + found["confidence"].dump() + ")";
  show(arguments, found, text);
}

uint64_t whole_number(const Arguments &arguments, const char *name, uint64_t least, uint64_t most, uint64_t otherwise) {
  if (!arguments.has(name)) return otherwise;
  const Json &given = arguments.options.at(name);
  if (given.is_number_integer() && given >= 0 && given >= least && given <= most) return given;
  throw Refusal(XPERT_BAD_INPUT, "Found " + given.dump() + " for " + name + ", expected a whole number, " + std::to_string(least) + " to " +
                                     std::to_string(most) + ".");
}

void name_cells(const Arguments &arguments) {
  constexpr uint64_t kMostCells = 128, kCellBytes = 65536, kMostKib = uint64_t{1} << 40;
  const uint64_t n = whole_number(arguments, "cells", 1, kMostCells, 8);
  const uint64_t most_whole = 1024 * whole_number(arguments, "whole_kib", 0, kMostKib, n * kCellBytes / 1024);
  const Texts texts(arguments.text("texts", "-"));
  const std::string &index = arguments.places[1], &folder = arguments.places[2];
  const Cells cells(index, folder);
  if (cells.whole_bytes() <= most_whole) {
    throw Refusal(XPERT_BAD_INPUT, "The catalogue of '" + index + "' has " + std::to_string(cells.whole_bytes()) +
                                       " bytes as a whole, no more than " + std::to_string(most_whole) +
                                       ": fetch it whole, which tells its server nothing. --whole-kib sets another limit.");
  }
  const Session session(arguments.places[0], open_options(arguments));
  const std::vector<std::string> names = cells.wanted(session, texts, n);
  if (names.empty()) std::cerr << "The cell of these texts is in '" << folder << "' already: there is nothing to fetch." << std::endl;
  if (arguments.has("json")) return show(arguments, {{"cells", names}}, "");
  for (const std::string &name : names) std::cout << name << '\n';
}

int tell_step(void *, int32_t step, int32_t n_steps, double loss, double held_out) {
  std::fprintf(stderr, "step %d of at most %d: loss %.4f", step, n_steps, loss);
  if (!std::isnan(held_out)) std::fprintf(stderr, ", held out %.4f", held_out);
  std::fputc('\n', stderr);
  return 0;
}

void train(const Arguments &arguments) {
  const Texts texts(arguments.text("texts", "-"));
  const Session session(arguments.places[0], open_options(arguments));
  Json request = arguments.only({"start", "method", "max_steps", "batch_size", "accumulate", "learning_rate", "rank", "alpha", "n_virtual",
                                 "held_out", "eval_every", "patience", "target_loss", "seed", "checkpoint_every", "activations_mb"});
  request["out"] = arguments.places[1];
  request["groups"] = texts.groups();
  const std::string asked = request.dump();
  const Json result = answer([&](char **out) {
    return xpert_personalize(session.engine(), texts.prompts(), texts.texts(), texts.size(), asked.c_str(), tell_step, nullptr, out);
  });
  show(arguments, result, result["adapter"].get<std::string>() + ": " + result["steps"].dump() + " steps in " + result["seconds"].dump() + " s");
}

int write_piece(void *, xpert_text piece) {
  std::cout.write(piece.data, static_cast<std::streamsize>(piece.size)).flush();
  return std::cout ? 0 : 1;
}

void generate(const Arguments &arguments) {
  const std::string prompt = arguments.places[1] == "-" ? read_whole("-") : arguments.places[1];
  const Session session(arguments.places[0], open_options(arguments));
  const std::string request = arguments.only({"adapter", "max_new_tokens", "temperature", "top_k", "top_p", "seed", "resident_mb"}).dump();
  const Json result = answer([&](char **out) {
    return xpert_generate(session.engine(), {prompt.data(), prompt.size()}, request.c_str(), arguments.has("json") ? nullptr : write_piece,
                          nullptr, out);
  });
  show(arguments, result, "");
}

double peak_mebibytes() {
  rusage used{};
  getrusage(RUSAGE_SELF, &used);
  return static_cast<double>(used.ru_maxrss) / 1024;
}

/** A folder that goes when it is left. */
class Scratch {
 public:
  Scratch() : path_((std::filesystem::temp_directory_path() / "xpert-bench.XXXXXX").string()) {
    if (!mkdtemp(path_.data())) throw Refusal(XPERT_STORAGE, "Cannot make a folder '" + path_ + "'. Set TMPDIR to a writable one.");
  }
  ~Scratch() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  Scratch(const Scratch &) = delete;
  Scratch &operator=(const Scratch &) = delete;
  const std::string &path() const { return path_; }

 private:
  std::string path_;
};

double seconds_a_step(const Session &session, const Json &steps, const Json &rank) {
  const Scratch scratch;
  const std::string sentence = "The river was high that spring, and we walked along it every day.";
  const std::vector<xpert_text> texts(8, {sentence.data(), sentence.size()}), prompts(8, {nullptr, 0});
  const Json request = {{"out", scratch.path() + "/adapter"}, {"max_steps", steps}, {"rank", rank}, {"held_out", 0}, {"checkpoint_every", steps}};
  const Json result = answer([&](char **out) {
    return xpert_personalize(session.engine(), prompts.data(), texts.data(), texts.size(), request.dump().c_str(), nullptr, nullptr, out);
  });
  return result["seconds"].get<double>() / result["steps"].get<double>();
}

void bench(const Arguments &arguments) {
  const auto start = Clock::now();
  const Session session(arguments.places[0], open_options(arguments));
  Json figures = {{"open_seconds", seconds_since(start)}};
  const Json described = answer([&](char **out) { return xpert_describe(session.engine(), out); });
  if (!described["base_digest"].is_null()) {
    const std::string prompt = "Tell me about the sea.";
    const Json request = {{"max_new_tokens", arguments.options.value("tokens", Json(32))}};
    const Json said = answer([&](char **out) {
      return xpert_generate(session.engine(), {prompt.data(), prompt.size()}, request.dump().c_str(), nullptr, nullptr, out);
    });
    figures["tokens_per_second"] = said["n_new"].get<double>() / said["seconds"].get<double>();
    figures["seconds_a_step"] = seconds_a_step(session, arguments.options.value("steps", Json(3)), arguments.options.value("rank", Json(8)));
  }
  figures["peak_mebibytes"] = peak_mebibytes();
  show(arguments, figures, figures.dump(2));
}

void run(const Arguments &arguments) {
  const std::string name = arguments.command->name;
  if (name == "verify") verify(arguments);
  if (name == "select") select(arguments);
  if (name == "cells") name_cells(arguments);
  if (name == "train") train(arguments);
  if (name == "generate") generate(arguments);
  if (name == "bench") bench(arguments);
}

}  // namespace

}  // namespace xpert_device

int main(int n, char **words) {
  const auto commands = xpert_device::commands();
  try {
    const auto arguments = xpert_device::parse(commands, n, words);
    xpert_device::handle_interrupts();
    xpert_device::run(arguments);
    return 0;
  } catch (const xpert_device::Refusal &refusal) {
    (refusal.status() ? std::cerr : std::cout) << refusal.what() << std::endl;
    return refusal.status();
  } catch (const std::exception &error) {
    std::cerr << error.what() << std::endl;
    return XPERT_INTERNAL;
  }
}
