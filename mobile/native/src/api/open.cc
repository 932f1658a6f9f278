// Bundles: checked, opened, described, closed.
#include "api/boundary.h"
#include "api/engine.h"
#include "base/error.h"
#include "base/files.h"

namespace xpert {

namespace {

constexpr size_t kLargestSignature = size_t{64} << 10;

Json described(Engine &engine) {
  const Json &manifest = engine.bundle().manifest;
  Json found = {{"name", manifest.value("name", "")}, {"base_digest", nullptr}, {"space_digest", nullptr}, {"words", Json::array()},
                {"dim", 0},      {"n_axes", 0},     {"vocabulary", 0},           {"context", 0},
                {"precision", nullptr}, {"lengths", Json::array()}};
  if (engine.bundle().has_base()) {
    const Json &base = manifest["base"];
    found["base_digest"] = base.at("digest");
    found["precision"] = base.at("precision");
    found["vocabulary"] = base.at("geometry").at("vocabulary");
    found["context"] = base.at("geometry").at("context");
    for (const Json &program : manifest["programs"].at("train")) found["lengths"].push_back(program.at("length"));
  }
  if (engine.bundle().has_encoder()) {
    const StyleSpace &space = engine.chooser().space();
    found["space_digest"] = space.digest();
    found["words"] = space.words();
    found["dim"] = space.dim();
    found["n_axes"] = space.n_axes();
  }
  return found;
}

Json verified(const char *bundle, const char *public_key) {
  EngineOptions options = parse_engine_options(nullptr);
  if (public_key) options.checks.public_key = public_key;
  if (public_key && !*public_key) bad_input("The public key is empty. Give a minisign public key, or NULL for none.");
  const Engine engine(bundle, options);
  const Json &manifest = engine.bundle().manifest;
  return {{"name", manifest.value("name", "")},
          {"version", manifest.at("version")},
          {"base_digest", engine.bundle().has_base() ? manifest["base"].at("digest") : Json()},
          {"bytes", engine.bundle().bytes},
          {"n_files", manifest.at("files").size()},
          {"signed", engine.bundle().is_signed}};
}

}  // namespace

}  // namespace xpert

using xpert::guarded;
using xpert::need;
using xpert::Turn;

extern "C" {

xpert_status xpert_verify(const char *bundle, const char *public_key, char **report) {
  return guarded([&] {
    need(bundle, "bundle");
    need(report, "report");
    xpert::give(xpert::verified(bundle, public_key), report);
  });
}

xpert_status xpert_verify_file(const char *file, const char *signature, const char *public_key) {
  return guarded([&] {
    need(file, "file");
    need(signature, "signature");
    need(public_key, "public_key");
    const std::string data = xpert::read_file(file);
    std::string text;
    try {
      text = xpert::read_file(signature, xpert::kLargestSignature);
    } catch (const xpert::Error &error) {
      if (error.status() != XPERT_NOT_FOUND) throw;
      throw xpert::Error(XPERT_UNTRUSTED, std::string("'") + file + "' is not signed: there is no '" + signature +
                                              "'. Get it from its publisher, signed.");
    }
    xpert::check_signature(data, text, public_key, std::string("'") + file + "'");
  });
}

xpert_status xpert_open(const char *bundle, const char *options, xpert_engine *engine) {
  return guarded([&] {
    need(bundle, "bundle");
    need(engine, "engine");
    *engine = xpert::keep(std::make_shared<xpert::Engine>(bundle, xpert::parse_engine_options(options)));
  });
}

xpert_status xpert_describe(xpert_engine engine, char **description) {
  return guarded([&] {
    need(description, "description");
    Turn turn(engine);
    xpert::give(xpert::described(*turn), description);
  });
}

xpert_status xpert_cancel(xpert_engine engine) {
  return guarded([&] { xpert::find(engine)->cancel(); });
}

xpert_status xpert_close(xpert_engine engine) {
  return guarded([&] {
    if (auto found = xpert::take(engine)) found->close();
  });
}

xpert_status xpert_tokenize(xpert_engine engine, xpert_text text, int32_t add_special, char **ids) {
  return guarded([&] {
    need(ids, "ids");
    Turn turn(engine);
    xpert::give({{"ids", turn->chat().tokenizer().ids(xpert::view(text), add_special != 0)}}, ids);
  });
}

}  // extern "C"
