//! Where a thread panicked, remembered for the run's record instead of printed over its progress.

use std::collections::HashMap;
use std::panic::PanicHookInfo;
use std::sync::{LazyLock, Mutex, Once};
use std::thread::{self, ThreadId};

use crate::run::panic::text;

static PLACES: LazyLock<Mutex<HashMap<ThreadId, String>>> = LazyLock::new(Mutex::default);
static INSTALL: Once = Once::new();

/// Replaces the process' panic hook, once. Every panic is logged, and its place kept for [`take_place`].
pub fn install() {
    INSTALL.call_once(|| std::panic::set_hook(Box::new(remember)));
}

fn remember(info: &PanicHookInfo<'_>) {
    let place = info.location().map_or_else(|| "unknown".to_owned(), ToString::to_string);
    tracing::error!(place, "panic: {}", text(info.payload()));
    if let Ok(mut places) = PLACES.lock() {
        places.insert(thread::current().id(), place);
    }
}

/// Source file, line and column of a thread's last panic.
pub fn take_place(thread: ThreadId) -> Option<String> {
    PLACES.lock().ok()?.remove(&thread)
}
