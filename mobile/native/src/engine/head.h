// The final norm and the loss of one text, over the whole vocabulary or by blocks of it.
#pragma once

#include <memory>
#include <vector>

#include "engine/program.h"
#include "engine/weights.h"

namespace xpert {

/** The output layer by blocks of rows; the last one is filled up with rows of zeros. */
class OutputBlocks {
 public:
  /** block: rows a block; 0 for the whole layer in one. */
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

class Head {
 public:
  virtual ~Head() = default;

  /**
   * Adds up a text's loss and writes the gradient of its hidden states.
   *
   * h, dh (1, length, hidden); target and weight (length): the next token of every position and its weight in the loss.
   */
  virtual double run(const float *h, const int64_t *target, const float *weight, float *dh) = 0;
};

/** vocabulary_block: 0 where the program's loss takes the whole vocabulary. */
std::unique_ptr<Head> make_head(Program &program, const Weights &weights, int32_t length, int32_t hidden, int64_t vocabulary_block);

}  // namespace xpert
