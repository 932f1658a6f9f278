use std::ffi::{c_char, c_int};
use std::io::{Error as WriteError, Write};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use minijinja::{context, Environment, Error, ErrorKind, Value};
use sha2::{Digest, Sha256};

use crate::bounds::{within, Failure, Limits};
use crate::face::{give, guarded, terminated, text};

/// Templates of real models have at most some tens of thousands of bytes.
const LARGEST: usize = 1 << 16;
/// The library reads an expression by recursion, a level for a character at worst: the largest template takes a part of this.
const STACK: usize = 256 << 20;
/// Steps of the library beside sixteen for each byte of the prompt, whose characters a template may look at. A real one takes some
/// hundreds for a message.
const FUEL: u64 = 1_000_000;
/// One step may still work on a long text, so steps do not bound the time. A real template takes a thousandth of this.
const TIME: Duration = Duration::from_secs(30);
/// What a template may write beside four times the prompt.
const ADDED: usize = 1 << 18;
/// What it may have in memory beside sixteen times the prompt: thirty steps that double a text would fill any.
const MEMORY: usize = 64 << 20;

/// Digests of the templates that went beyond a limit: each left a thread behind, and shall not leave one for every prompt.
static STOPPED: Mutex<Vec<[u8; 32]>> = Mutex::new(Vec::new());

/// # Safety
/// All pointers are valid, `prompt` for `size` bytes; the other texts end with a zero.
#[no_mangle]
pub unsafe extern "C" fn xpert_lib_chat(
    chat_template: *const c_char,
    prompt: *const c_char,
    size: usize,
    specials: *const c_char,
    place: *mut *mut c_char,
    written: *mut usize,
) -> c_int {
    guarded(|| {
        let (source, prompt, specials) = (terminated(chat_template)?, text(prompt, size)?, terminated(specials)?);
        if source.len() > LARGEST {
            return Err(format!("it has {} bytes, expected at most {LARGEST}", source.len()));
        }
        let found = bounded(source, prompt, specials)?;
        give(found, place, written);
        Ok(())
    })
}

/// Renders within limits, and never again what went beyond them.
fn bounded(source: &str, prompt: &str, specials: &str) -> Result<String, String> {
    let digest: [u8; 32] = Sha256::digest(source).into();
    if STOPPED.lock().unwrap_or_else(PoisonError::into_inner).contains(&digest) {
        return Err("it took too much memory or time before".into());
    }
    let limits = Limits { memory: MEMORY + 16 * prompt.len(), stack: STACK, time: TIME };
    // Its own, as it may outlive this call.
    let (source, prompt, specials) = (source.to_owned(), prompt.to_owned(), specials.to_owned());
    within(&limits, move || render(&source, &prompt, &specials)).map_err(|failure| match failure {
        Failure::Told(message) => message,
        Failure::Stopped(message) => {
            STOPPED.lock().unwrap_or_else(PoisonError::into_inner).push(digest);
            message
        }
    })
}

/// Writes a prompt out as transformers does: trimmed blocks, Python's methods, `raise_exception`, one message by the user.
fn render(source: &str, prompt: &str, specials: &str) -> Result<String, String> {
    let mut environment = Environment::new();
    environment.set_trim_blocks(true);
    environment.set_lstrip_blocks(true);
    let fuel = FUEL + 16 * prompt.len() as u64;
    environment.set_fuel(Some(fuel)); // a template is a program: it shall end
    environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
    environment.add_function("raise_exception", |message: String| -> Result<Value, Error> {
        Err(Error::new(ErrorKind::InvalidOperation, message))
    });
    let specials: serde_json::Value = serde_json::from_str(specials).map_err(|error| error.to_string())?;
    let messages = vec![context! { role => "user", content => prompt }];
    let values = context! { messages, add_generation_prompt => true, ..Value::from_serialize(&specials) };
    let told = |error: Error| match error.kind() {
        ErrorKind::OutOfFuel => format!("it takes more than {fuel} steps"),
        _ => format!("{error:#}"),
    };
    let most = 4 * prompt.len() + ADDED;
    let mut written = Limited { text: Vec::new(), most, is_full: false };
    let ended = environment.template_from_str(source).map_err(told)?.render_captured_to(values, &mut written);
    if written.is_full {
        return Err(format!("it writes more than {most} bytes"));
    }
    ended.map_err(told)?;
    String::from_utf8(written.text).map_err(|error| error.to_string())
}

/// What is written out, up to a length: a line of template can stand for more than any memory holds.
struct Limited {
    text: Vec<u8>,
    most: usize,
    is_full: bool,
}

impl Write for Limited {
    fn write(&mut self, part: &[u8]) -> Result<usize, WriteError> {
        if part.len() > self.most - self.text.len() {
            self.is_full = true;
            return Err(WriteError::other("there is no more room"));
        }
        self.text.extend_from_slice(part);
        Ok(part.len())
    }

    fn flush(&mut self) -> Result<(), WriteError> {
        Ok(())
    }
}
