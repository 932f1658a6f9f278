use std::ffi::{c_char, c_int};
use std::fs::File;
use std::io::Read;

use sha2::{Digest, Sha256};

use crate::face::{bytes, guarded, terminated};

const BLOCK: usize = 1 << 20;

unsafe fn write(hash: Sha256, digits: *mut c_char) {
    for (i, byte) in hash.finalize().iter().enumerate() {
        for (k, digit) in format!("{byte:02x}").bytes().enumerate() {
            *digits.add(2 * i + k) = digit as c_char;
        }
    }
    *digits.add(64) = 0;
}

/// # Safety
/// `data` points to `size` bytes, `digits` to 65.
#[no_mangle]
pub unsafe extern "C" fn xpert_lib_sha256(data: *const u8, size: usize, digits: *mut c_char) {
    write(Sha256::new_with_prefix(bytes(data, size)), digits);
}

/// # Safety
/// `path` ends with a zero, `digits` points to 65 bytes.
#[no_mangle]
pub unsafe extern "C" fn xpert_lib_sha256_file(path: *const c_char, digits: *mut c_char) -> c_int {
    guarded(|| {
        let mut file = File::open(terminated(path)?).map_err(|error| error.to_string())?;
        let mut hash = Sha256::new();
        let mut block = vec![0; BLOCK];
        loop {
            let n = file.read(&mut block).map_err(|error| error.to_string())?;
            if n == 0 {
                break;
            }
            hash.update(&block[..n]);
        }
        write(hash, digits);
        Ok(())
    })
}
