// A bundle's base model with its programs: what the calls of the C API ask for, in ids instead of texts.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "engine/generation.h"
#include "engine/training.h"

namespace xpert {

/** Ids of a text, those of its prompt apart. */
struct EncodedText {
  std::vector<int64_t> prompt, answer;
};

class BaseModel {
 public:
  /** folder: the bundle's. base, programs: these parts of its manifest, whose files have been checked. */
  BaseModel(std::string folder, const Json &base, const Json &programs, int threads);

  const Geometry &geometry() const { return geometry_; }
  const std::string &digest() const { return digest_; }
  /**
   * Fine-tunes as xpert_personalize describes it and returns its result; request is its JSON text.
   *
   * Texts that are longer than the programs take are cut; on_step and is_cancelled may be empty.
   */
  Json personalize(const std::vector<EncodedText> &texts, const char *request,
                   const std::function<bool(int64_t, int64_t, double, double)> &on_step, const std::function<bool()> &is_cancelled);

  /** Answers as xpert_generate describes it. */
  Json generate(const std::vector<int64_t> &prompt, const char *request, const Decode &decode, const OnPiece &on_piece,
                const std::function<bool()> &is_cancelled);

  /** Merges as xpert_merge describes it. */
  Json merge(const char *request) const;

 private:
  /** A program as the manifest states it. */
  struct Stated {
    std::string file;
    int64_t rank = 0, batch = 1, length = 0, vocabulary_block = 0;
    int64_t n_virtual = 0;  // places of the prefix that it trains
  };

  static std::vector<Stated> parse_programs(const Json &programs, const char *kind);
  static void need_programs(const std::vector<Stated> &programs, const char *kind);
  /** The programs that train an adapter of this method; of a prefix those of its places, which 0 leaves to the bundle. */
  std::vector<Stated> training_programs(Method method, int64_t n_virtual) const;
  const Stated &choose(const std::vector<Stated> &programs, const char *kind, int64_t rank, int64_t length, int64_t batch) const;
  Program &load(const Stated &stated);

  const std::string folder_;
  const Json base_;
  const Geometry geometry_;
  const std::string digest_, name_;
  const std::vector<Stated> train_, prefix_, generate_;
  const int threads_;
  std::unique_ptr<Weights> weights_;
  std::string loaded_;
  std::unique_ptr<Program> program_;
};

}  // namespace xpert
