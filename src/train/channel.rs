//! The training side of the channel through which everything is told.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError};
use std::time::Instant;

use crate::run::event::{Event, Phase};

/// Sends events to the thread that records them.
///
/// Sending waits while that thread is behind, and every wait is counted. Metrics come from a thread of burn-train whose
/// own queue holds up to one split's updates meanwhile: the training thread waits when the next split begins. When the
/// receiver is gone the run is over anyway: it has raised the stop flag, so what is sent then is dropped.
#[derive(Clone, Debug)]
pub struct Events {
    sender: SyncSender<Event>,
    waits: Arc<Waits>,
}

/// How often and how long senders found the queue full.
#[derive(Debug, Default)]
pub struct Waits {
    n: AtomicU64,
    total_us: AtomicU64,
    longest_us: AtomicU64,
}

impl Waits {
    /// Waits so far, one that is going on included.
    pub fn n(&self) -> u64 {
        self.n.load(Ordering::Relaxed)
    }

    /// Microseconds of the waits that are over.
    pub fn total_us(&self) -> u64 {
        self.total_us.load(Ordering::Relaxed)
    }

    pub fn longest_us(&self) -> u64 {
        self.longest_us.load(Ordering::Relaxed)
    }
}

impl Events {
    pub fn new(sender: SyncSender<Event>) -> Self {
        Self { sender, waits: Arc::default() }
    }

    /// The waits of this sender and its clones.
    pub fn waits(&self) -> Arc<Waits> {
        Arc::clone(&self.waits)
    }

    pub fn send(&self, event: Event) {
        if let Err(TrySendError::Full(event)) = self.sender.try_send(event) {
            self.wait_and_send(event);
        }
    }

    fn wait_and_send(&self, event: Event) {
        let began = Instant::now();
        self.waits.n.fetch_add(1, Ordering::Relaxed);
        let _ = self.sender.send(event);
        let waited_us = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.waits.total_us.fetch_add(waited_us, Ordering::Relaxed);
        self.waits.longest_us.fetch_max(waited_us, Ordering::Relaxed);
    }

    /// Tells how far the current phase is, unless the queue is full: the next one tells more.
    pub fn progress(&self, n_done: u64) {
        let _ = self.sender.try_send(Event::Progress { n_done });
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

#[cfg(test)]
mod tests {
    use std::sync::mpsc::sync_channel;
    use std::thread;

    use super::*;

    #[test]
    fn a_full_queue_is_waited_for_and_the_wait_is_counted() {
        let (sender, receiver) = sync_channel(1);
        let events = Events::new(sender);
        let waits = events.waits();
        events.send(Event::Warning("first".to_owned()));
        assert_eq!(waits.n(), 0);
        let second = thread::spawn(move || events.send(Event::Warning("second".to_owned())));
        while waits.n() == 0 {
            thread::yield_now();
        }
        let began = Instant::now();
        while began.elapsed().as_millis() < 2 {
            thread::yield_now();
        }
        let told: Vec<Event> = receiver.iter().collect();
        second.join().unwrap();
        assert!(matches!(&told[..], [Event::Warning(a), Event::Warning(b)] if a == "first" && b == "second"));
        assert_eq!(waits.n(), 1);
        assert!(waits.longest_us() >= 2_000, "{}", waits.longest_us());
        assert_eq!(waits.total_us(), waits.longest_us());
    }

    #[test]
    fn progress_is_dropped_where_the_queue_is_full_and_nothing_waits_for_a_receiver_that_is_gone() {
        let (sender, receiver) = sync_channel(1);
        let events = Events::new(sender);
        events.progress(1);
        events.progress(2);
        assert!(matches!(receiver.try_recv(), Ok(Event::Progress { n_done: 1 })));
        assert!(receiver.try_recv().is_err());
        drop(receiver);
        for _ in 0..3 {
            events.send(Event::PhaseEnded);
        }
        assert_eq!(events.waits().n(), 0);
    }
}
