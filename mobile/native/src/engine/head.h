// The final norm and the loss of a batch, by blocks of the vocabulary.
#pragma once

#include <vector>

#include "engine/program.h"
#include "engine/weights.h"

namespace xpert {

/** The output layer by blocks of rows; the last one is filled up with rows of zeros. */
class OutputBlocks {
 public:
  OutputBlocks(const Weights &weights, int64_t block);

  int64_t block() const { return block_; }
  int64_t vocabulary() const { return vocabulary_; }
  /** Whether the block that begins at this row is filled up. */
  bool is_cut(int64_t begin) const { return begin + block_ > vocabulary_; }
  /** The rows from begin on, (block, hidden). */
  Buffer rows(int64_t begin) const;

  /** Lets the system drop a block's pages: all blocks together are the largest weight that there is. */
  void release(int64_t begin) const { weights_.release_output(begin, block_); }

 private:
  const Weights &weights_;
  int64_t vocabulary_, block_, hidden_;
  std::vector<float> last_;
};

/** Loss of a batch by a training program: one pass over the output layer, whose blocks are added up as they come. */
class Head {
 public:
  /** block: rows of the output layer a run, as the manifest states it. */
  Head(Program &program, const Weights &weights, int64_t block);

  /**
   * Returns the loss of a batch, and writes the gradient of its hidden states where dh is not null.
   *
   * h, dh (batch, length, hidden); target and weight (batch, length): the next token of every position and its weight in the loss.
   */
  double run(const float *h, const int64_t *target, const float *weight, float *dh);

 private:
  /** What is added up over the blocks, as docs/bundle.md describes it. */
  struct Sums {
    std::vector<float> maximum, total, pulled;
  };

  std::vector<Buffer> buffers(Sums &sums, size_t n) const;

  Program &program_;
  const Weights &weights_;
  const std::vector<int32_t> shape_, column_, matrix_;  // (batch, length, hidden), (batch length, 1), (batch length, hidden)
  const OutputBlocks blocks_;
  Sums sums_, next_;
  std::vector<float> bias_, last_bias_, own_, unused_;
};

}  // namespace xpert
