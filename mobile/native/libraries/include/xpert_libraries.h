// C faces of the Rust libraries in this crate. Used by the core only, not part of the public API.
//
// Functions that return int give 0 on success; after a failure xpert_lib_error gives this thread's message. Texts that are returned
// are freed with xpert_lib_free_text.
#pragma once

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct xpert_lib_tokenizer xpert_lib_tokenizer;

const char *xpert_lib_error(void);
void xpert_lib_free_text(char *text);

/** SHA-256 as 64 hexadecimal digits and a zero. */
void xpert_lib_sha256(const uint8_t *data, size_t size, char digits[65]);
/** Of a file, read in blocks; not 0 and errno where it cannot be read. */
int xpert_lib_sha256_file(const char *path, char digits[65]);

/** A tokenizer from the text of a tokenizer.json. max_length 0: no truncation. */
int xpert_lib_tokenizer_new(const char *json, size_t size, size_t max_length, xpert_lib_tokenizer **tokenizer);
void xpert_lib_tokenizer_free(xpert_lib_tokenizer *tokenizer);
/** Ids of a text; freed with xpert_lib_free_ids. */
int xpert_lib_tokenizer_encode(const xpert_lib_tokenizer *tokenizer, const char *text, size_t size, int add_special, uint32_t **ids,
                               size_t *n);
void xpert_lib_free_ids(uint32_t *ids, size_t n);
/** Text of ids. */
int xpert_lib_tokenizer_decode(const xpert_lib_tokenizer *tokenizer, const uint32_t *ids, size_t n, int skip_special, char **text,
                               size_t *size);

/**
 * Renders a Hugging Face chat template for one user's message; specials is a JSON object (bos_token, eos_token, …).
 *
 * Within limits of steps, time, memory and output; a template that went beyond its time or memory is refused from then on.
 */
int xpert_lib_chat(const char *chat_template, const char *prompt, size_t size, const char *specials, char **text, size_t *text_size);

/** 0 where signature (a .minisig file's text) over data is of the public key (base64, or a key file's text). */
int xpert_lib_verify(const char *public_key, const char *signature, const uint8_t *data, size_t size);

#ifdef __cplusplus
}
#endif
