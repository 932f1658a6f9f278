/**
 * @file
 * XPerT on the device: choose a personal LLM, fine-tune it, answer with it. The one public header (docs/adr/0013-native.md).
 *
 * Every function may be called from any thread. Calls on one engine run one after another. A function that fails returns its
 * status, leaves its outputs as they were, and leaves a message for xpert_last_error. No call throws.
 *
 * Texts are UTF-8. They are read during the call only, and neither written to disk nor logged, but for the samples of a
 * training run, whose token ids are hashed, not kept. Options and results are JSON objects; unknown options are refused.
 */
#ifndef XPERT_XPERT_H
#define XPERT_XPERT_H

#include <stddef.h>
#include <stdint.h>

#if defined(__GNUC__)
#define XPERT_API __attribute__((visibility("default")))
#else
#define XPERT_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

/** How a call ended; the numbers are the exit codes of the SDK's error tree (xpert.core.errors). */
typedef enum xpert_status {
  XPERT_OK = 0,         /**< the call did what it was asked for */
  XPERT_INTERNAL = 1,   /**< a fault of this library: please report it */
  XPERT_BAD_INPUT = 3,  /**< texts or options that cannot be used */
  XPERT_BAD_FILE = 4,   /**< truncated, tampered, foreign or newer file */
  XPERT_MISMATCH = 5,   /**< parts made for different bases, spaces or encoders */
  XPERT_NOT_FOUND = 6,  /**< a path or name that is not there */
  XPERT_STORAGE = 8,    /**< the disk is full or not writable; nothing half-written stays */
  XPERT_TRAINING = 9,   /**< the run diverged, or its checkpoint belongs to another run */
  XPERT_UNTRUSTED = 14, /**< a signature is missing or wrong */
  XPERT_CANCELLED = 15, /**< xpert_cancel, xpert_close or a callback ended the call */
  XPERT_CLOSED = 16     /**< the engine was closed before */
} xpert_status;

/** An opened bundle. A number, so that use after xpert_close is an error and not a crash. 0 is none. */
typedef uint64_t xpert_engine;

/** A UTF-8 text; need not end with a zero. */
typedef struct xpert_text {
  const char *data; /**< its first byte; NULL where a text may be missing */
  size_t size;      /**< its bytes, a closing zero not among them */
} xpert_text;

/**
 * Called after every optimizer step, on the calling thread.
 *
 * step counts from 1; loss is the step's training loss in nats a token; held_out is the last measured held-out loss, NaN before
 * the first. Return 0 to go on, anything else to stop: a checkpoint is written and the call returns XPERT_CANCELLED.
 */
typedef int (*xpert_on_step)(void *user, int32_t step, int32_t n_steps, double loss, double held_out);

/** Called with every whole piece of UTF-8 that generation has finished. Return 0 to go on, anything else to stop. */
typedef int (*xpert_on_piece)(void *user, xpert_text piece);

/** This library's version, as in "0.1.0". */
XPERT_API const char *xpert_version(void);

/** What went wrong in this thread's last failed call, what was expected and what to do; "" before any. Valid until the next call. */
XPERT_API const char *xpert_last_error(void);

/** Frees what a call returned. NULL is fine. */
XPERT_API void xpert_free(char *text);

/**
 * Checks a bundle whole: manifest, digests of all files, and, with a public key (minisign, base64 or the key file's text), its signature.
 *
 * report: {"name", "version", "base_digest", "bytes", "n_files", "signed"}. public_key may be NULL.
 */
XPERT_API xpert_status xpert_verify(const char *bundle, const char *public_key, char **report);

/**
 * Checks a file by itself, such as one of an adapter: signature is its .minisig file's path, public_key as in xpert_verify.
 *
 * XPERT_UNTRUSTED where the signature is missing or not this key's over these bytes.
 */
XPERT_API xpert_status xpert_verify_file(const char *file, const char *signature, const char *public_key);

/**
 * Opens a bundle after checking it (docs/adr/0012-bundle.md).
 *
 * options, may be NULL: {"threads": 2, "public_key": "…", "work": "folder for what can be made again"}.
 */
XPERT_API xpert_status xpert_open(const char *bundle, const char *options, xpert_engine *engine);

/** {"name", "base_digest", "space_digest", "words", "dim", "n_axes", "vocabulary", "context", "precision", "lengths"}. */
XPERT_API xpert_status xpert_describe(xpert_engine engine, char **description);

/** Makes the running call of the engine, if any, return XPERT_CANCELLED soon: after a step, a token or a text. */
XPERT_API xpert_status xpert_cancel(xpert_engine engine);

/** Cancels what runs, waits for it, and frees the engine. Closing twice, or 0, is fine. */
XPERT_API xpert_status xpert_close(xpert_engine engine);

/** Token ids of a text by the base's tokenizer, {"ids": […]}; special tokens where add_special is not 0. */
XPERT_API xpert_status xpert_tokenize(xpert_engine engine, xpert_text text, int32_t add_special, char **ids);

/** Raw vectors of texts, row by row: n x dim floats (sentence embedding, then surface statistics). */
XPERT_API xpert_status xpert_encode(xpert_engine engine, const xpert_text *texts, size_t n, float *vectors);

/** Coefficients of texts in the bundle's style space, row by row: n x n_axes doubles. */
XPERT_API xpert_status xpert_coefficients(xpert_engine engine, const xpert_text *texts, size_t n, double *coefficients);

/**
 * Chooses the pLLM nearest to the texts from a compact catalogue or a cell, or abstains (xpert.core.selection.choose).
 *
 * base_answers: NULL, or the base's answers to the texts' prompts, n of them.
 * options, may be NULL: {"min_confidence": 0.5, "seed": 0, "index": "path of the cell's index", "merge": true,
 * "max_sources": 2, "top": 100}; top is how many matches are listed, 0 for all; a merge is tried of up to max_sources pLLMs, which too
 * many pLLMs refuse: "merge": "if_few" leaves it null then.
 * selection: {"choice": name or null, "abstain", "reason", "confidence", "margin", "similarity", "expected_saving", "misfit",
 * "novelty", "paired", "n_texts", "matches": [{"name", "probability", "similarity", "adapter_bytes"}],
 * "words": [{"word", "coefficient", "lower", "upper", "held_up"}],
 * "merge": {"sources": [{"name", "adapter_digest", "weight"}], "distance", "single", "single_distance", "wins"}}.
 */
XPERT_API xpert_status xpert_select(xpert_engine engine, const char *catalogue, const xpert_text *texts,
                                    const xpert_text *base_answers, size_t n, const char *options, char **selection);

/**
 * What an index of cells says (docs/adr/0009-cells.md), once it is whole.
 *
 * request, may be NULL: {"centres": [numbers of cells], "places": [[coefficients, as differences to the base's]], "cell": {"file",
 * "number"}}; the file is checked to be that cell of this index. description: {"digest", "base_digest", "space_digest", "n_pllms",
 * "n_cells", "centres": [[coefficients]], "nearest": [number of the cell of each place]}.
 */
XPERT_API xpert_status xpert_describe_cells(const char *index, const char *request, char **description);

/** The cell of an index to fetch for these texts: {"cells": [{"name", "number", "share"}]}, that of their mean, then those of most. */
XPERT_API xpert_status xpert_nearest_cells(xpert_engine engine, const char *index, const xpert_text *texts, size_t n, char **cells);

/**
 * Merges adapters exactly, base + sum of weight x (pLLM - base), into one adapter folder, written whole or not at all.
 *
 * request: {"sources": [{"adapter": "folder", "weight": 0.6}], "out": "folder"}. report: {"rank", "bytes"}.
 */
XPERT_API xpert_status xpert_merge(xpert_engine engine, const char *request, char **report);

/**
 * Fine-tunes an adapter on n texts; prompts[i] with NULL data means that texts[i] answers an open prompt.
 *
 * request: {"out": "folder", "start": "adapter folder or null", "method": "lora" | "prompt" | "prefix", "max_steps": 100, "batch_size": 4,
 * "accumulate": 1, "learning_rate": 5e-4, "rank": 8, "alpha": 16.0, "n_virtual": 16, "held_out": 0.2, "eval_every": 5, "patience": 4,
 * "target_loss": null, "seed": 0, "checkpoint_every": 5, "groups": null, "activations_mb": null}. groups has a number for each text:
 * texts of one number, such as the pieces of a longer one, are held out together, or learnt from. A prefix is trained by bundles that
 * were exported for it; without n_virtual it has the places that they state. Of what layers compute, activations_mb MB are kept for the
 * backward pass (null: half of what the system says is available); layers that find no room compute it once more. The adapter is the
 * same to the bit.
 * A checkpoint stands beside out, in ".{name}.checkpoint.safetensors", until the run ends; a run that was cut off goes on from it to
 * the same bits. result: {"adapter", "losses", "held_out": [[step, loss]], "steps", "seconds", "n_train", "n_held_out", "n_cut",
 * "resumed_from", "digest"}.
 */
XPERT_API xpert_status xpert_personalize(xpert_engine engine, const xpert_text *prompts, const xpert_text *texts, size_t n,
                                         const char *request, xpert_on_step on_step, void *user, char **result);

/**
 * Answers a prompt, piece by piece; on_piece may be NULL.
 *
 * request, may be NULL: {"adapter": "folder or null", "max_new_tokens": 100, "temperature": 0, "top_k": 0, "top_p": 1.0, "seed": 0,
 * "stop": ["…"], "resident_mb": null}; a temperature of 0 takes the likeliest token. Weights of at most resident_mb MB stay in memory
 * until the answer is there (null: half of what the system says is available), larger ones are read a layer at a time, token by token.
 * result: {"text", "n_prompt", "n_new", "ended": "end" | "stop" | "length", "seconds"}.
 */
XPERT_API xpert_status xpert_generate(xpert_engine engine, xpert_text prompt, const char *request, xpert_on_piece on_piece,
                                      void *user, char **result);

#ifdef __cplusplus
}
#endif

#endif
