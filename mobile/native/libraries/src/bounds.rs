//! Work within limits of memory and time, for a library that has none of its own.
//!
//! Memory is counted where all of it is asked for, and from there is no way back: an allocator must not unwind, and a text that
//! grows and is told that there is no memory ends the process. So a thread that goes beyond its limit stops right there for good, with
//! what it had, while the one that waits for it goes on with an error. Whoever runs it does not run the same again.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{channel, RecvTimeoutError, Sender};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

/// What a piece of work may take.
pub struct Limits {
    /// Bytes of memory, the stack apart.
    pub memory: usize,
    /// Bytes of the stack; only what is used of it becomes memory.
    pub stack: usize,
    pub time: Duration,
}

/// Why there is no result.
pub enum Failure {
    /// It ended with this message.
    Told(String),
    /// It went beyond a limit: its thread, and what it had of its memory, stay until the process ends.
    Stopped(String),
}

/// Runs `work` in a thread of its own.
pub fn within<F>(limits: &Limits, work: F) -> Result<String, Failure>
where
    F: FnOnce() -> Result<String, String> + Send + 'static,
{
    let (told, ended) = channel();
    let late = Arc::new(AtomicBool::new(false));
    let account = Account { left: Cell::new(limits.memory), late: late.clone(), told };
    let run = move || {
        ACCOUNT.set(&account);
        let done = catch_unwind(AssertUnwindSafe(work));
        ACCOUNT.set(ptr::null());
        let _ = account.told.send(End::Done(done.unwrap_or_else(|_| Err("the library gave up".into()))));
    };
    let started = thread::Builder::new().stack_size(limits.stack).spawn(run);
    let thread = started.map_err(|error| Failure::Told(format!("no thread could be started: {error}")))?;
    match ended.recv_timeout(limits.time) {
        Ok(End::Done(done)) => {
            let _ = thread.join();
            done.map_err(Failure::Told)
        }
        Ok(End::Stopped) => Err(Failure::Stopped(format!("it takes more than {} MiB of memory", limits.memory >> 20))),
        Err(RecvTimeoutError::Timeout) => {
            late.store(true, Ordering::Relaxed); // it stops when it next asks for memory
            Err(Failure::Stopped(format!("it takes more than {} seconds", limits.time.as_secs())))
        }
        Err(RecvTimeoutError::Disconnected) => Err(Failure::Told("the library gave up".into())),
    }
}

enum End {
    Done(Result<String, String>),
    Stopped,
}

/// Of a thread with limits.
struct Account {
    left: Cell<usize>,
    late: Arc<AtomicBool>,
    told: Sender<End>,
}

thread_local! {
    // Without a destructor, so that it is there whenever memory is asked for.
    static ACCOUNT: Cell<*const Account> = const { Cell::new(ptr::null()) };
}

/// The system's memory, counted in threads that have limits.
struct Counted;

#[global_allocator]
static COUNTED: Counted = Counted;

unsafe impl GlobalAlloc for Counted {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        take(layout.size());
        System.alloc(layout)
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        take(layout.size());
        System.alloc_zeroed(layout)
    }

    unsafe fn realloc(&self, data: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        take(size.saturating_sub(layout.size()));
        give_back(layout.size().saturating_sub(size));
        System.realloc(data, layout, size)
    }

    unsafe fn dealloc(&self, data: *mut u8, layout: Layout) {
        give_back(layout.size());
        System.dealloc(data, layout)
    }
}

fn account<'a>() -> Option<&'a Account> {
    // Set by `within` only, for as long as what it points to lives.
    unsafe { ACCOUNT.get().as_ref() }
}

fn take(size: usize) {
    let Some(account) = account() else { return };
    match account.left.get().checked_sub(size) {
        Some(left) if !account.late.load(Ordering::Relaxed) => account.left.set(left),
        // What prints a panic holds locks that others need.
        _ if thread::panicking() => {}
        _ => stop(account),
    }
}

fn give_back(size: usize) {
    if let Some(account) = account() {
        account.left.set(account.left.get().saturating_add(size));
    }
}

fn stop(account: &Account) -> ! {
    ACCOUNT.set(ptr::null()); // telling takes memory itself
    let _ = account.told.send(End::Stopped);
    loop {
        thread::park();
    }
}
