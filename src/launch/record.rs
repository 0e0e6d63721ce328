//! The recording side of a run: its events into the store until the training has ended, and signs of life in between.

use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use crate::launch::commit::{Committer, now_ms};
use crate::launch::keep::Committed;
use crate::launch::system::SystemMonitor;
use crate::launch::{Started, Watcher, whole};
use crate::run::event::{Event, SavedCheckpoint};
use crate::run::metric::{MetricKey, Point};
use crate::run::stop::StopFlag;
use crate::run::stretch::Stretch;
use crate::spec::schema::Spec;
use crate::store::StoreError;
use crate::store::connect::Store;
use crate::store::resume::Resumption;

/// A sign of life this often; readers on other hosts call a run crashed after 15 s without one.
const HEARTBEAT: Duration = Duration::from_secs(2);

/// A run that is to be recorded, and where.
#[derive(Clone, Debug)]
pub struct Recorder<'a> {
    pub store: &'a Store,
    pub run: &'a Started,
    pub spec: &'a Spec,
    /// `cpu`, `cuda`, or both: part of the run's fingerprint.
    pub device_class: &'a str,
    /// Raised when a write fails.
    pub stop: &'a StopFlag,
    /// What the epochs are trained under.
    pub stretches: &'a [Stretch],
    /// Checkpoints that are there already, by epoch.
    pub committed: Vec<Committed>,
    /// The last of them.
    pub last: Option<SavedCheckpoint>,
    /// That a run goes on, which is recorded once its images, weights and checkpoint are accepted, and nothing before.
    pub resumption: Option<&'a Resumption>,
    /// What was known before the run began.
    pub warnings: &'a [String],
}

/// What became of a recording.
#[derive(Debug)]
pub struct Recorded {
    /// Whether anything was to be recorded: a run that does not go on after all is left as it was.
    pub is_accepted: bool,
    /// How many looks at the machine were dropped.
    pub outcome: Result<u64, StoreError>,
}

impl Recorder<'_> {
    /// Drains the events into the store until the training thread has ended.
    ///
    /// A failing write raises the stop flag; what the training still tells is then dropped.
    pub async fn record(self, events: &Receiver<Event>, watcher: &mut dyn Watcher) -> Recorded {
        let mut recording = Recording {
            committer: Committer::new(&self),
            waiting: self.resumption.map(Waiting::new),
            system: None,
            last_beat: Instant::now(),
        };
        recording.committer.committed = self.committed;
        recording.committer.last = self.last;
        let mut failed = recording.begin(self.warnings, watcher).await.err();
        if failed.is_some() {
            self.stop.raise();
        }
        loop {
            let received = events.recv_timeout(HEARTBEAT / 2);
            let ended = matches!(received, Err(RecvTimeoutError::Disconnected));
            if failed.is_none() {
                failed = recording.turn(received.ok(), watcher).await.err();
                if failed.is_some() {
                    self.stop.raise();
                }
            }
            if ended {
                break;
            }
        }
        let is_accepted = recording.waiting.is_none();
        let outcome = match failed {
            Some(error) => Err(error),
            None if is_accepted => recording.finish().await,
            None => Ok(0),
        };
        Recorded { is_accepted, outcome }
    }
}

/// A resumption that is not accepted yet, and what was told meanwhile.
struct Waiting<'a> {
    resumption: &'a Resumption,
    told: Vec<Event>,
}

impl<'a> Waiting<'a> {
    fn new(resumption: &'a Resumption) -> Self {
        Self { resumption, told: Vec::new() }
    }

    fn hold(&mut self, event: Event) {
        if matches!(event, Event::Skipped(_) | Event::Shared(_) | Event::Warning(_)) {
            self.told.push(event);
        }
    }
}

/// A recording that goes on.
struct Recording<'a> {
    committer: Committer<'a>,
    waiting: Option<Waiting<'a>>,
    /// Looks at the machine, once there is a run to record them with.
    system: Option<SystemMonitor>,
    last_beat: Instant,
}

impl Recording<'_> {
    async fn begin(&mut self, warnings: &[String], watcher: &mut dyn Watcher) -> Result<(), StoreError> {
        for text in warnings {
            self.take(Event::Warning(text.clone()), watcher).await?;
        }
        if self.waiting.is_none() {
            self.system = Some(SystemMonitor::start());
        }
        Ok(())
    }

    /// Records what was received, if anything, and gives signs of life.
    async fn turn(&mut self, received: Option<Event>, watcher: &mut dyn Watcher) -> Result<(), StoreError> {
        if let Some(event) = received {
            self.take(event, watcher).await?;
        }
        if let Some(system) = self.system.as_ref().filter(|_| self.last_beat.elapsed() >= HEARTBEAT) {
            beat(&mut self.committer, system).await?;
            self.last_beat = Instant::now();
        }
        Ok(())
    }

    async fn take(&mut self, event: Event, watcher: &mut dyn Watcher) -> Result<(), StoreError> {
        watcher.event(&event);
        match &mut self.waiting {
            Some(_) if matches!(event, Event::Accepted) => self.accept().await?,
            Some(waiting) => waiting.hold(event),
            None => {
                if let Some(points) = self.committer.take(event).await? {
                    watcher.committed(&points);
                    log_points(&points);
                }
            }
        }
        Ok(())
    }

    /// Records that the run goes on, and what was told before that was sure.
    async fn accept(&mut self) -> Result<(), StoreError> {
        let Some(Waiting { resumption, told }) = &mut self.waiting else { return Ok(()) };
        let told = std::mem::take(told);
        let resumption = *resumption;
        self.committer.store.resume_run(resumption).await?;
        // From here on a failure is the run's, and is recorded as such.
        self.waiting = None;
        let path = self.committer.run_dir.join("resolved.json");
        whole::write(&path, resumption.resolved_json.as_bytes()).map_err(|source| StoreError::Io { path, source })?;
        self.system = Some(SystemMonitor::start());
        for event in told {
            self.committer.take(event).await?;
        }
        Ok(())
    }

    /// Writes what is left; returns how many looks at the machine were dropped.
    async fn finish(mut self) -> Result<u64, StoreError> {
        self.committer.flush().await?;
        let Some(system) = self.system else { return Ok(0) };
        let (samples, n_dropped) = system.stop();
        if !samples.is_empty() {
            self.committer.store.append_system_samples(self.committer.id, &samples).await?;
        }
        Ok(n_dropped)
    }
}

/// Writes a sign of life, and what was held back meanwhile.
async fn beat(committer: &mut Committer<'_>, system: &SystemMonitor) -> Result<(), StoreError> {
    committer.store.heartbeat(committer.id, now_ms()).await?;
    committer.flush().await?;
    let samples = system.take();
    if samples.is_empty() { Ok(()) } else { committer.store.append_system_samples(committer.id, &samples).await }
}

fn log_points(points: &[(MetricKey, Point)]) {
    let epoch = points.first().map_or(0, |(_, point)| point.epoch);
    let _span = tracing::info_span!("epoch", epoch).entered();
    for (key, point) in points {
        tracing::info!(metric = %key, value = point.value, n = point.n_samples, step = point.step, "measured");
    }
}
