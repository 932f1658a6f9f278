// What all programs of the process share: ExecuTorch's threads and its log.
#pragma once

namespace xpert {

/** Sizes the pool and silences the log; the first call decides, for the pool must not change under a loaded program. Called before every
 * load. */
void prepare_runtime(int threads);

}  // namespace xpert
