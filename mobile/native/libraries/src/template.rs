use std::ffi::{c_char, c_int};
use std::io::{Error as WriteError, Write};
use std::thread;

use minijinja::{context, Environment, Error, ErrorKind, Value};

use crate::face::{give, guarded, terminated, text};

/// Templates of real models have at most some tens of thousands of bytes.
const LARGEST: usize = 1 << 16;
/// The library reads an expression by recursion, a level for a character at worst: the largest template takes a part of this. Only
/// what is used of it becomes memory.
const STACK: usize = 256 << 20;
/// What a template may write beside four times the prompt.
const ADDED: usize = 1 << 18;

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
        let found = thread::scope(|scope| {
            let work = || render(source, prompt, specials);
            let started = thread::Builder::new().stack_size(STACK).spawn_scoped(scope, work);
            let ended = started.map_err(|error| format!("no thread could be started: {error}"))?.join();
            ended.unwrap_or_else(|_| Err("the library gave up".into()))
        })?;
        give(found, place, written);
        Ok(())
    })
}

/// Writes a prompt out as transformers does: trimmed blocks, Python's methods, `raise_exception`, one message by the user.
fn render(source: &str, prompt: &str, specials: &str) -> Result<String, String> {
    let mut environment = Environment::new();
    environment.set_trim_blocks(true);
    environment.set_lstrip_blocks(true);
    environment.set_fuel(Some(10_000_000)); // a template is a program: it shall end
    environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
    environment.add_function("raise_exception", |message: String| -> Result<Value, Error> {
        Err(Error::new(ErrorKind::InvalidOperation, message))
    });
    let specials: serde_json::Value = serde_json::from_str(specials).map_err(|error| error.to_string())?;
    let messages = vec![context! { role => "user", content => prompt }];
    let values = context! { messages, add_generation_prompt => true, ..Value::from_serialize(&specials) };
    let told = |error: Error| format!("{error:#}");
    let mut written = Limited { text: Vec::new(), room: 4 * prompt.len() + ADDED };
    environment.template_from_str(source).map_err(told)?.render_captured_to(values, &mut written).map_err(told)?;
    String::from_utf8(written.text).map_err(|error| error.to_string())
}

/// What is written out, up to a length: a line of template can stand for more than any memory holds.
struct Limited {
    text: Vec<u8>,
    room: usize,
}

impl Write for Limited {
    fn write(&mut self, part: &[u8]) -> Result<usize, WriteError> {
        if part.len() > self.room {
            return Err(WriteError::other(format!("it writes more than {} bytes", self.text.len())));
        }
        self.room -= part.len();
        self.text.extend_from_slice(part);
        Ok(part.len())
    }

    fn flush(&mut self) -> Result<(), WriteError> {
        Ok(())
    }
}
