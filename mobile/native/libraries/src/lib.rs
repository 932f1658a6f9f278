//! C faces of the Rust libraries that the native core stands on; `include/xpert_libraries.h` says what each function does.

mod bounds;
mod digest;
mod face;
mod signature;
mod template;
mod tokenizer;
