//! The training side of the channel through which everything is told.

use std::sync::mpsc::SyncSender;

use crate::run::event::{Event, Phase};

/// Sends events to the thread that records them.
///
/// Sending waits while that thread is behind. Metrics come from a thread of burn-train whose own queue holds up to one
/// split's updates meanwhile: the training thread waits when the next split begins. When the receiver is gone the run is
/// over anyway: it has raised the stop flag, so what is sent then is dropped.
#[derive(Clone, Debug)]
pub struct Events(SyncSender<Event>);

impl Events {
    pub fn new(sender: SyncSender<Event>) -> Self {
        Self(sender)
    }

    pub fn send(&self, event: Event) {
        let _ = self.0.send(event);
    }

    /// Tells how far the current phase is, unless the queue is full: the next one tells more.
    pub fn progress(&self, n_done: u64) {
        let _ = self.0.try_send(Event::Progress { n_done });
    }

    /// Tells that a phase begins, does it, and tells that it ended.
    pub fn phase<T>(&self, phase: Phase, n_items: u64, work: impl FnOnce() -> T) -> T {
        let _span = tracing::info_span!("phase", ?phase).entered();
        self.send(Event::PhaseStarted { phase, n_items });
        let result = work();
        self.send(Event::PhaseEnded);
        result
    }
}
