// An opened bundle behind its number: who may work with it, when it ends, and its parts.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include "choice/chooser.h"
#include "engine/base_model.h"
#include "formats/bundle.h"
#include "text/chat.h"

namespace xpert {

struct EngineOptions {
  int threads = 2;
  BundleChecks checks;
};

/** Reads what xpert_open was given. */
EngineOptions parse_engine_options(const char *options);

class Engine {
 public:
  Engine(const std::string &bundle, const EngineOptions &options);

  const Bundle &bundle() const { return bundle_; }

  // The parts, made when they are asked for the first time, by the thread whose turn it is.
  const Chat &chat();
  BaseModel &base();
  const Chooser &chooser();

  bool is_cancelled() const { return cancelled_; }
  /** Throws where the running call shall end. */
  void pause() const;

  /** Makes the running call end soon; without one nothing happens. */
  void cancel();

  /** Refuses what comes later, cancels what runs, waits for it and frees the parts. */
  void close();

 private:
  friend class Turn;
  const Bundle bundle_;
  const int threads_;
  std::unique_ptr<Chat> chat_;
  std::unique_ptr<BaseModel> base_;
  std::unique_ptr<Chooser> chooser_;

  std::mutex turn_;   // held by the call that works
  std::mutex state_;  // of what follows
  std::thread::id worker_;
  std::atomic<bool> cancelled_{false};
  bool closed_ = false;
};

/** A call's time with an engine: it waits for those before it, and throws where the engine is closed. */
class Turn {
 public:
  explicit Turn(xpert_engine number);
  ~Turn();
  Turn(const Turn &) = delete;
  Turn &operator=(const Turn &) = delete;
  Engine &operator*() const { return *engine_; }
  Engine *operator->() const { return engine_.get(); }

 private:
  std::shared_ptr<Engine> engine_;
  std::unique_lock<std::mutex> turn_;
};

/** Keeps an engine under a new number. */
xpert_engine keep(std::shared_ptr<Engine> engine);
/** The engine of a number; throws where there is none. */
std::shared_ptr<Engine> find(xpert_engine number);
/** Takes an engine out, so that nobody finds it any more; null where there is none. */
std::shared_ptr<Engine> take(xpert_engine number);

}  // namespace xpert
