use std::ffi::{c_char, c_int};

use tokenizers::{Tokenizer, TruncationParams};

use crate::face::{bytes, give, guarded, text};

/// # Safety
/// `json` points to `size` bytes, `tokenizer` may be written to.
#[no_mangle]
pub unsafe extern "C" fn xpert_lib_tokenizer_new(
    json: *const c_char,
    size: usize,
    max_length: usize,
    tokenizer: *mut *mut Tokenizer,
) -> c_int {
    guarded(|| {
        let mut made = Tokenizer::from_bytes(bytes(json.cast(), size)).map_err(|error| error.to_string())?;
        made.with_padding(None);
        let limits = (max_length > 0).then(|| TruncationParams { max_length, ..Default::default() });
        made.with_truncation(limits).map_err(|error| error.to_string())?;
        *tokenizer = Box::into_raw(Box::new(made));
        Ok(())
    })
}

/// # Safety
/// `tokenizer` came from `xpert_lib_tokenizer_new`, or is null.
#[no_mangle]
pub unsafe extern "C" fn xpert_lib_tokenizer_free(tokenizer: *mut Tokenizer) {
    if !tokenizer.is_null() {
        drop(Box::from_raw(tokenizer));
    }
}

/// # Safety
/// All pointers are valid, `data` for `size` bytes.
#[no_mangle]
pub unsafe extern "C" fn xpert_lib_tokenizer_encode(
    tokenizer: *const Tokenizer,
    data: *const c_char,
    size: usize,
    add_special: c_int,
    ids: *mut *mut u32,
    n: *mut usize,
) -> c_int {
    guarded(|| {
        let found = (*tokenizer).encode(text(data, size)?, add_special != 0).map_err(|error| error.to_string())?;
        let row: Box<[u32]> = found.get_ids().into();
        *n = row.len();
        *ids = Box::into_raw(row).cast();
        Ok(())
    })
}

/// # Safety
/// `ids` and `n` came from `xpert_lib_tokenizer_encode`.
#[no_mangle]
pub unsafe extern "C" fn xpert_lib_free_ids(ids: *mut u32, n: usize) {
    if !ids.is_null() {
        drop(Box::from_raw(std::ptr::slice_from_raw_parts_mut(ids, n)));
    }
}

/// # Safety
/// All pointers are valid, `ids` for `n` numbers.
#[no_mangle]
pub unsafe extern "C" fn xpert_lib_tokenizer_decode(
    tokenizer: *const Tokenizer,
    ids: *const u32,
    n: usize,
    skip_special: c_int,
    place: *mut *mut c_char,
    size: *mut usize,
) -> c_int {
    guarded(|| {
        let row = if n == 0 { &[] } else { std::slice::from_raw_parts(ids, n) };
        give((*tokenizer).decode(row, skip_special != 0).map_err(|error| error.to_string())?, place, size);
        Ok(())
    })
}
