//! The flag that asks a training thread to stop after the step it is in.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Shared between the thread that trains and the one that watches it.
#[derive(Clone, Debug, Default)]
pub struct StopFlag(Arc<AtomicBool>);

impl StopFlag {
    /// Uses a flag that something else raises, such as a signal handler.
    pub fn from_shared(flag: Arc<AtomicBool>) -> Self {
        Self(flag)
    }

    pub fn raise(&self) {
        self.0.store(true, Ordering::SeqCst);
    }

    pub fn is_raised(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}
