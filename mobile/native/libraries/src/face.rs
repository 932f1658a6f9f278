//! What every C face shares: errors by thread, panics caught, texts handed over.

use std::cell::RefCell;
use std::ffi::{c_char, c_int, CStr, CString};
use std::panic::{catch_unwind, AssertUnwindSafe};

thread_local! {
    static ERROR: RefCell<CString> = RefCell::new(CString::default());
}

/// Runs `body`; an error or a panic becomes this thread's message and a status that is not 0.
pub fn guarded(body: impl FnOnce() -> Result<(), String>) -> c_int {
    let message = match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(())) => return 0,
        Ok(Err(message)) => message,
        Err(panic) => panic
            .downcast_ref::<String>()
            .cloned()
            .or_else(|| panic.downcast_ref::<&str>().map(|text| text.to_string()))
            .unwrap_or_else(|| "the library gave up".into()),
    };
    let whole = CString::new(message.replace('\0', " ")).unwrap_or_default();
    ERROR.with(|place| *place.borrow_mut() = whole);
    1
}

/// # Safety
/// `data` points to `size` readable bytes, or `size` is 0.
pub unsafe fn bytes<'a>(data: *const u8, size: usize) -> &'a [u8] {
    if size == 0 {
        return &[];
    }
    std::slice::from_raw_parts(data, size)
}

/// # Safety
/// As `bytes`.
pub unsafe fn text<'a>(data: *const c_char, size: usize) -> Result<&'a str, String> {
    std::str::from_utf8(bytes(data.cast(), size)).map_err(|error| format!("it is no UTF-8: {error}"))
}

/// # Safety
/// `data` is a text that ends with a zero.
pub unsafe fn terminated<'a>(data: *const c_char) -> Result<&'a str, String> {
    CStr::from_ptr(data).to_str().map_err(|error| format!("it is no UTF-8: {error}"))
}

/// Hands a text over, with a zero behind it; zeros inside it stay, so the size counts.
///
/// # Safety
/// `place` and `size` may be written to.
pub unsafe fn give(found: String, place: *mut *mut c_char, size: *mut usize) {
    let data = libc::malloc(found.len() + 1).cast::<u8>();
    if data.is_null() {
        std::alloc::handle_alloc_error(std::alloc::Layout::for_value(found.as_bytes()));
    }
    std::ptr::copy_nonoverlapping(found.as_ptr(), data, found.len());
    *data.add(found.len()) = 0;
    *size = found.len();
    *place = data.cast();
}

/// # Safety
/// `text` came from `give`, or is null.
#[no_mangle]
pub unsafe extern "C" fn xpert_lib_free_text(text: *mut c_char) {
    libc::free(text.cast());
}

#[no_mangle]
pub extern "C" fn xpert_lib_error() -> *const c_char {
    ERROR.with(|place| place.borrow().as_ptr())
}
