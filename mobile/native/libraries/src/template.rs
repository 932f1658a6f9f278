use std::ffi::{c_char, c_int};

use minijinja::{context, Environment, Error, ErrorKind, Value};

use crate::face::{give, guarded, terminated, text};

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
        let found = render(terminated(chat_template)?, text(prompt, size)?, terminated(specials)?)?;
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
    environment
        .render_str(source, context! { messages, add_generation_prompt => true, ..Value::from_serialize(&specials) })
        .map_err(|error| format!("{error:#}"))
}
