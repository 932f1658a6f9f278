#include "runtime/prepare.h"

#include <executorch/runtime/platform/platform.h>

#include <cstdint>
#include <mutex>

// ExecuTorch's wheel exports the pool, but ships no header for it.
namespace executorch::extension::threadpool {
class ThreadPool {
 public:
  bool _unsafe_reset_threadpool(uint32_t threads);
};
ThreadPool *get_threadpool();
}  // namespace executorch::extension::threadpool

namespace xpert {

namespace {

/** A library does not write to its app's standard error; what fails is said by the error that a call ends with. */
void keep_quiet(et_timestamp_t, et_pal_log_level_t, const char *, const char *, size_t, const char *, size_t) {}

void silence() {
  using namespace executorch::runtime;
  // In a process that shares its runtime, another may have said already what is to be logged.
  if (get_pal_impl()->emit_log_message == et_pal_emit_log_message) register_pal(PalImpl::create(keep_quiet, __FILE__));
}

}  // namespace

void prepare_runtime(int threads) {
  static std::once_flag once;
  std::call_once(once, [threads] {
    silence();
    executorch::extension::threadpool::get_threadpool()->_unsafe_reset_threadpool(static_cast<uint32_t>(threads < 1 ? 1 : threads));
  });
}

}  // namespace xpert
