//! The recording side of a run: its events into the store until the training has ended, and signs of life in between.

use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use crate::launch::commit::{Committer, now_ms};
use crate::launch::keep::Committed;
use crate::launch::system::SystemMonitor;
use crate::launch::{Started, Watcher};
use crate::run::event::{Event, SavedCheckpoint};
use crate::run::metric::{MetricKey, Point};
use crate::run::stop::StopFlag;
use crate::spec::schema::Spec;
use crate::store::StoreError;
use crate::store::connect::Store;

/// A sign of life this often; readers on other hosts call a run crashed after 15 s without one.
const HEARTBEAT: Duration = Duration::from_secs(2);

/// A run that is to be recorded, and where.
#[derive(Clone, Debug)]
pub struct Recorder<'a> {
    pub store: &'a Store,
    pub run: &'a Started,
    pub spec: &'a Spec,
    /// `cpu` or `cuda`: part of the run's fingerprint.
    pub device_class: &'static str,
    /// Raised when a write fails.
    pub stop: &'a StopFlag,
    /// Checkpoints that are there already, by epoch.
    pub committed: Vec<Committed>,
    /// The last of them.
    pub last: Option<SavedCheckpoint>,
    /// What was known before the run began.
    pub warnings: &'a [String],
}

impl Recorder<'_> {
    /// Drains the events into the store until the training thread has ended; returns how many looks at the machine were
    /// dropped.
    ///
    /// A failing write raises the stop flag; what the training still tells is then dropped.
    pub async fn record(self, events: &Receiver<Event>, watcher: &mut dyn Watcher) -> Result<u64, StoreError> {
        let mut committer = Committer::new(self.store, self.run, self.spec, self.device_class);
        committer.committed = self.committed;
        committer.last = self.last;
        let mut failed = warn(self.warnings, &mut committer, watcher).await.err();
        if failed.is_some() {
            self.stop.raise();
        }
        let system = SystemMonitor::start();
        let mut last_beat = Instant::now();
        loop {
            let received = events.recv_timeout(HEARTBEAT / 2);
            let ended = matches!(received, Err(RecvTimeoutError::Disconnected));
            if failed.is_none() {
                let written = async {
                    if let Ok(event) = received {
                        take(event, &mut committer, watcher).await?;
                    }
                    if last_beat.elapsed() >= HEARTBEAT {
                        beat(&mut committer, &system).await?;
                        last_beat = Instant::now();
                    }
                    Ok(())
                };
                failed = written.await.err();
                if failed.is_some() {
                    self.stop.raise();
                }
            }
            if ended {
                break;
            }
        }
        match failed {
            Some(error) => Err(error),
            None => finish(&mut committer, system).await,
        }
    }
}

async fn warn(warnings: &[String], committer: &mut Committer<'_>, watcher: &mut dyn Watcher) -> Result<(), StoreError> {
    for text in warnings {
        take(Event::Warning(text.clone()), committer, watcher).await?;
    }
    Ok(())
}

async fn take(event: Event, committer: &mut Committer<'_>, watcher: &mut dyn Watcher) -> Result<(), StoreError> {
    watcher.event(&event);
    if let Some(points) = committer.take(event).await? {
        watcher.committed(&points);
        log_points(&points);
    }
    Ok(())
}

/// Writes a sign of life, and what was held back meanwhile.
async fn beat(committer: &mut Committer<'_>, system: &SystemMonitor) -> Result<(), StoreError> {
    committer.store.heartbeat(committer.id, now_ms()).await?;
    committer.flush().await?;
    let samples = system.take();
    if samples.is_empty() { Ok(()) } else { committer.store.append_system_samples(committer.id, &samples).await }
}

/// Writes what is left; returns how many looks at the machine were dropped.
async fn finish(committer: &mut Committer<'_>, system: SystemMonitor) -> Result<u64, StoreError> {
    committer.flush().await?;
    let (samples, n_dropped) = system.stop();
    if !samples.is_empty() {
        committer.store.append_system_samples(committer.id, &samples).await?;
    }
    Ok(n_dropped)
}

fn log_points(points: &[(MetricKey, Point)]) {
    let epoch = points.first().map_or(0, |(_, point)| point.epoch);
    let _span = tracing::info_span!("epoch", epoch).entered();
    for (key, point) in points {
        tracing::info!(metric = %key, value = point.value, n = point.n_samples, step = point.step, "measured");
    }
}
