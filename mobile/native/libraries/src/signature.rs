use std::ffi::{c_char, c_int};

use minisign_verify::{PublicKey, Signature};

use crate::face::{bytes, guarded, terminated};

/// # Safety
/// The texts end with a zero, `data` points to `size` bytes.
#[no_mangle]
pub unsafe extern "C" fn xpert_lib_verify(
    public_key: *const c_char,
    signature: *const c_char,
    data: *const u8,
    size: usize,
) -> c_int {
    guarded(|| {
        let key = terminated(public_key)?.trim();
        let key = if key.contains('\n') { PublicKey::decode(key) } else { PublicKey::from_base64(key) };
        let key = key.map_err(|error| format!("the public key cannot be read: {error}"))?;
        let signature = Signature::decode(terminated(signature)?).map_err(|error| format!("the signature cannot be read: {error}"))?;
        key.verify(bytes(data, size), &signature, false).map_err(|error| error.to_string())
    })
}
