#include "api/engine.h"

#include <map>

#include "base/error.h"

namespace xpert {

namespace {

constexpr int kMostThreads = 64;

struct Registry {
  std::mutex mutex;
  std::map<xpert_engine, std::shared_ptr<Engine>> engines;
  xpert_engine last = 0;
};

Registry &registry() {
  // Never freed: a thread of the app may still call while the process ends.
  static Registry *const kept = new Registry;
  return *kept;
}

[[noreturn]] void closed(xpert_engine number) {
  throw Error(XPERT_CLOSED, "There is no engine " + std::to_string(number) + ": it was closed, or never opened. Open the bundle again.");
}

std::string text_option(const Json &options, const char *name) {
  const Json value = options.value(name, Json());
  if (value.is_null()) return "";
  if (!value.is_string()) bad_input(std::string("The option '") + name + "' is " + value.dump() + ", expected a text. Correct it.");
  return value;
}

}  // namespace

EngineOptions parse_engine_options(const char *text) {
  const Json options = parse_options(text, {"threads", "public_key", "work"});
  EngineOptions parsed;
  const Json threads = options.value("threads", Json(parsed.threads));
  if (!threads.is_number_integer() || threads < 1 || threads > kMostThreads) {
    bad_input("The option 'threads' is " + threads.dump() + ", expected a whole number from 1 to " + std::to_string(kMostThreads) + ".");
  }
  parsed.threads = threads;
  parsed.checks = {XPERT_VERSION, text_option(options, "public_key"), text_option(options, "work")};
  return parsed;
}

Engine::Engine(const std::string &bundle, const EngineOptions &options)
    : bundle_(open_bundle(bundle, options.checks)), threads_(options.threads) {
  if (bundle_.has_base()) base();  // sizes of the weights are compared with the geometry
}

const Chat &Engine::chat() {
  if (!bundle_.has_base()) mismatch("The bundle '" + bundle_.folder + "' has no base. Open one that was exported with it.");
  if (!chat_) chat_ = std::make_unique<Chat>(bundle_.folder, bundle_.manifest["base"]);
  return *chat_;
}

BaseModel &Engine::base() {
  if (!bundle_.has_base()) mismatch("The bundle '" + bundle_.folder + "' has no base. Open one that was exported with it.");
  if (!base_) base_ = std::make_unique<BaseModel>(bundle_.folder, bundle_.manifest["base"], bundle_.manifest["programs"], threads_);
  return *base_;
}

const Chooser &Engine::chooser() {
  if (!bundle_.has_encoder()) {
    mismatch("The bundle '" + bundle_.folder + "' has no encoder and no style space. Open one that was exported with them.");
  }
  if (!chooser_) chooser_ = open_chooser(bundle_.folder, bundle_.manifest, threads_);
  return *chooser_;
}

void Engine::pause() const {
  if (cancelled_) throw Error(XPERT_CANCELLED, "The call was cancelled before it was done. Call again to go on.");
}

void Engine::cancel() {
  std::lock_guard<std::mutex> lock(state_);
  if (worker_ != std::thread::id()) cancelled_ = true;
}

void Engine::close() {
  {
    std::lock_guard<std::mutex> lock(state_);
    closed_ = cancelled_ = true;
    // Closed by its own callback: waiting would never end. The parts go with the last user.
    if (worker_ == std::this_thread::get_id()) return;
  }
  std::lock_guard<std::mutex> wait(turn_);
  chooser_.reset();
  base_.reset();
  chat_.reset();
}

Turn::Turn(xpert_engine number) : engine_(find(number)) {
  {
    std::lock_guard<std::mutex> lock(engine_->state_);
    if (engine_->worker_ == std::this_thread::get_id()) {
      bad_input("A callback called the engine that it is called by. Call it after the running call has returned.");
    }
  }
  turn_ = std::unique_lock<std::mutex>(engine_->turn_);
  std::lock_guard<std::mutex> lock(engine_->state_);
  if (engine_->closed_) closed(number);
  engine_->cancelled_ = false;
  engine_->worker_ = std::this_thread::get_id();
}

Turn::~Turn() {
  std::lock_guard<std::mutex> lock(engine_->state_);
  engine_->worker_ = std::thread::id();
}

xpert_engine keep(std::shared_ptr<Engine> engine) {
  std::lock_guard<std::mutex> lock(registry().mutex);
  registry().engines.emplace(++registry().last, std::move(engine));
  return registry().last;
}

std::shared_ptr<Engine> find(xpert_engine number) {
  std::lock_guard<std::mutex> lock(registry().mutex);
  auto found = registry().engines.find(number);
  if (found == registry().engines.end()) closed(number);
  return found->second;
}

std::shared_ptr<Engine> take(xpert_engine number) {
  std::lock_guard<std::mutex> lock(registry().mutex);
  auto found = registry().engines.find(number);
  if (found == registry().engines.end()) return nullptr;
  std::shared_ptr<Engine> engine = std::move(found->second);
  registry().engines.erase(found);
  return engine;
}

}  // namespace xpert
