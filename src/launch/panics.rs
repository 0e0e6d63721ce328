//! Where a thread panicked, remembered for the run's record instead of printed over its progress.

use std::cell::Cell;
use std::collections::HashMap;
use std::panic::PanicHookInfo;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{LazyLock, Mutex, Once};

use crate::run::panic::text;

/// By message: a panic may reach the thread that reports it through others, such as those of burn-train and rayon.
static PLACES: LazyLock<Mutex<HashMap<String, String>>> = LazyLock::new(Mutex::default);
static INSTALL: Once = Once::new();

/// Runs that are under way in this process.
static N_RUNS: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    /// Whether this thread conducts a run: nobody catches its panics.
    static CONDUCTS: Cell<bool> = const { Cell::new(false) };
}

/// While this is there, panics of other threads are logged and remembered, and not printed.
#[derive(Debug)]
pub struct Quiet(());

impl Quiet {
    /// Begins on the thread that conducts a run.
    pub fn begin() -> Self {
        INSTALL.call_once(|| {
            let before = std::panic::take_hook();
            std::panic::set_hook(Box::new(move |info| {
                remember(info);
                if CONDUCTS.get() || N_RUNS.load(Ordering::SeqCst) == 0 {
                    before(info);
                }
            }));
        });
        N_RUNS.fetch_add(1, Ordering::SeqCst);
        CONDUCTS.set(true);
        Self(())
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        N_RUNS.fetch_sub(1, Ordering::SeqCst);
        CONDUCTS.set(false);
    }
}

fn remember(info: &PanicHookInfo<'_>) {
    let place = info.location().map_or_else(|| "unknown".to_owned(), ToString::to_string);
    let text = text(info.payload());
    tracing::error!(place, "panic: {text}");
    if let Ok(mut places) = PLACES.lock() {
        places.insert(text, place);
    }
}

/// Source file, line and column of the last panic with this message.
pub fn take_place(text: &str) -> Option<String> {
    PLACES.lock().ok()?.remove(text)
}
