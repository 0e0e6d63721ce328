//! Carries a sweep out: child processes for its trials, so many at a time, until nothing is left to do.
//!
//! A child reads its standard input and stops when that ends, so that it goes with its driver however the driver ends.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;

use tokio::runtime::Runtime;

use crate::run::metric::{MetricKey, Resolution};
use crate::run::stop::StopFlag;
use crate::run::summary::{RunSummary, ShownState, State as RunState};
use crate::run::sweep::{SweepRecord, TrialKey, TrialRecord};
use crate::settings::{Home, host};
use crate::spec::schema::sweep::Sweep;
use crate::store::StoreError;
use crate::store::connect::Store;
use crate::store::list::Observer;
use crate::store::lock::RunLock;
use crate::sweep::labels::Labels;
use crate::sweep::point::Point;
use crate::sweep::search::Space;
use crate::sweep::standing::{Standing, State, Step, Trial};

/// A look at the stop flag, and at trials that another driver's children still run.
const INTERVAL: Duration = Duration::from_millis(200);

/// Times that a trial is started by one driver when its process ends without an ending.
const MAX_STARTS: u32 = 3;

/// Last bytes of a child's messages that are kept where it could not start.
const MAX_MESSAGE: usize = 2000;

/// What is carried out, and with what.
#[derive(Debug)]
pub struct Driver<'a> {
    pub home: &'a Home,
    pub sweep: &'a SweepRecord,
    pub section: &'a Sweep,
    pub space: &'a Space,
    pub labels: &'a Labels,
    /// The spec's own seed, where the sweep names none.
    pub spec_seed: u64,
    /// Epochs of a whole trial, of the longest where they differ.
    pub epochs: u32,
    pub jobs: usize,
    /// Threads of each trial.
    pub threads: usize,
    /// Where trials run, in turn; the spec says it where there is none.
    pub devices: Vec<String>,
    /// The program that runs a trial.
    pub executable: PathBuf,
    /// Whether trials whose runs failed before are tried again.
    pub retry_failed: bool,
    pub stop: StopFlag,
}

/// Why a sweep could not go on; its trials' own failures are not among it.
#[derive(Debug, thiserror::Error)]
pub enum SweepError {
    #[error("{0}")]
    Store(#[from] StoreError),
    #[error("start a trial: {0}")]
    Start(io::Error),
    #[error("use {}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
}

/// Follows a sweep while it goes.
pub trait Watcher {
    fn started(&mut self, trial: &TrialRecord);
    /// A trial's process has ended, and this is where it stands.
    fn ended(&mut self, trial: &Trial, all: &Standing<'_>);
    /// Nothing happened for a moment; `n_running` trials run.
    fn waits(&mut self, n_running: usize);
}

/// A child that runs a trial; it stops when its standard input is dropped.
struct Running {
    device: Option<usize>,
    _stdin: Option<ChildStdin>,
}

/// How often a driver has started a trial, and what it said when it last ended without success.
#[derive(Debug, Default)]
struct Starts {
    n: u32,
    message: Option<String>,
}

impl Driver<'_> {
    /// Runs trials until nothing is left, or the stop flag is raised; then all children have ended.
    ///
    /// Errors: the store or the folder fails, or another driver has the sweep.
    pub fn drive(&self, watcher: &mut dyn Watcher) -> Result<(), SweepError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(SweepError::Start)?;
        let folder = self.home.sweep_dir(&self.sweep.id);
        let _lock = RunLock::take(&folder)?;
        let store = runtime.block_on(Store::open(&self.home.database()))?;
        if self.retry_failed {
            for trial in runtime.block_on(store.trials(&self.sweep.id))? {
                runtime.block_on(store.set_trial_error(&trial.key, None))?;
            }
        }
        let mut running: BTreeMap<TrialKey, Running> = BTreeMap::new();
        let mut starts: BTreeMap<TrialKey, Starts> = BTreeMap::new();
        let (sender, receiver) = channel();
        let outcome = self.turn(&runtime, &store, &folder, (&sender, &receiver), &mut running, &mut starts, watcher);
        // Children end by themselves once nobody holds their input.
        let mut left: Vec<TrialKey> = running.keys().cloned().collect();
        running.clear();
        while !left.is_empty() {
            let (key, _): Ended = receiver.recv().map_err(|error| SweepError::Start(io::Error::other(error)))?;
            left.retain(|other| *other != key);
        }
        runtime.block_on(store.close());
        outcome
    }

    #[expect(clippy::too_many_arguments, reason = "they are one loop's variables")]
    fn turn(
        &self,
        runtime: &Runtime,
        store: &Store,
        folder: &Path,
        (sender, receiver): (&Sender<Ended>, &Receiver<Ended>),
        running: &mut BTreeMap<TrialKey, Running>,
        starts: &mut BTreeMap<TrialKey, Starts>,
        watcher: &mut dyn Watcher,
    ) -> Result<(), SweepError> {
        loop {
            if self.stop.is_raised() {
                return Ok(());
            }
            let mut standing = runtime.block_on(self.standing(store))?;
            for trial in &mut standing.trials {
                if running.contains_key(&trial.record.key) {
                    trial.state = State::Running;
                } else if matches!(trial.state, State::Failed(_))
                    && self.retry_failed
                    && !starts.contains_key(&trial.record.key)
                {
                    trial.state = State::Interrupted;
                } else if let Some(Starts { n: MAX_STARTS.., message }) = starts.get(&trial.record.key)
                    && trial.state == State::Interrupted
                {
                    let said = message.as_ref().map_or(String::new(), |message| format!(": {message}"));
                    let error = format!("its process ended {MAX_STARTS} times before the run did{said}");
                    runtime.block_on(store.set_trial_error(&trial.record.key, Some(&error)))?;
                    trial.state = State::Failed(error);
                }
            }
            let is_elsewhere =
                |trial: &Trial| trial.state == State::Running && !running.contains_key(&trial.record.key);
            let is_busy =
                running.len() + standing.trials.iter().filter(|trial| is_elsewhere(trial)).count() >= self.jobs;
            match if is_busy { Step::Wait } else { standing.next() } {
                Step::Start(key) => {
                    let trial =
                        standing.trials.iter().find(|trial| trial.record.key == key).expect("it is one of them");
                    let device = self.free_device(running);
                    let child = self.start(folder, &key, device, sender)?;
                    running.insert(key.clone(), Running { device, _stdin: child });
                    starts.entry(key).or_default().n += 1;
                    watcher.started(&trial.record);
                }
                Step::Promote { point, until_epoch } => {
                    runtime.block_on(store.promote_point(&self.sweep.id, point, until_epoch))?;
                }
                Step::Add { point, values, until_epoch } => {
                    runtime.block_on(store.add_trials(&self.trials_of(point, &values, until_epoch)))?;
                }
                Step::Wait => match receiver.recv_timeout(INTERVAL) {
                    Ok((key, message)) => {
                        running.remove(&key);
                        starts.entry(key.clone()).or_default().message.clone_from(&message);
                        if self.ended(runtime, store, &key, message, watcher)? {
                            // At its rung: that it is started again is no failure.
                            starts.remove(&key);
                        }
                    }
                    Err(RecvTimeoutError::Timeout) => {
                        watcher.waits(running.len());
                        if running.is_empty() && !standing.trials.iter().any(is_elsewhere) {
                            return Ok(());
                        }
                    }
                    Err(RecvTimeoutError::Disconnected) => return Ok(()),
                },
            }
        }
    }

    /// A point's trials: every split with every seed.
    pub fn keys_of(&self, point: u32) -> Vec<TrialKey> {
        let own = [self.spec_seed];
        let seeds = if self.section.seeds.is_empty() { &own[..] } else { &self.section.seeds };
        let splits: Vec<Option<u64>> = match self.section.split_seeds[..] {
            [] => vec![None],
            ref seeds => seeds.iter().copied().map(Some).collect(),
        };
        let key = |split_seed, seed| TrialKey { sweep: self.sweep.id.clone(), point, split_seed, seed };
        splits.into_iter().flat_map(|split_seed| seeds.iter().map(move |seed| key(split_seed, *seed))).collect()
    }

    fn trials_of(&self, point: u32, values: &Point, until_epoch: u32) -> Vec<TrialRecord> {
        let trial = |key| TrialRecord {
            key,
            values: values.values.clone().into_iter().collect(),
            until_epoch,
            run: None,
            is_reused: false,
            error: None,
        };
        self.keys_of(point).into_iter().map(trial).collect()
    }

    /// How far every trial is.
    pub async fn standing(&self, store: &Store) -> Result<Standing<'_>, StoreError> {
        let trials = standing_of(self.home, store, self.sweep, self.section).await?;
        Ok(Standing { section: self.section, space: self.space, labels: self.labels, epochs: self.epochs, trials })
    }

    /// Tells of a trial whose process has ended; whether it got as far as it should.
    fn ended(
        &self,
        runtime: &Runtime,
        store: &Store,
        key: &TrialKey,
        message: Option<String>,
        watcher: &mut dyn Watcher,
    ) -> Result<bool, SweepError> {
        let mut standing = runtime.block_on(self.standing(store))?;
        let find = |standing: &Standing<'_>| {
            standing.trials.iter().position(|trial| trial.record.key == *key).expect("trials are not deleted")
        };
        let place = find(&standing);
        if let (State::Waiting, Some(message)) = (&standing.trials[place].state, message) {
            runtime.block_on(store.set_trial_error(key, Some(&message)))?;
            standing = runtime.block_on(self.standing(store))?;
        }
        let trial = &standing.trials[find(&standing)];
        watcher.ended(trial, &standing);
        Ok(matches!(trial.state, State::Paused | State::Finished))
    }

    /// The device with the fewest trials.
    fn free_device(&self, running: &BTreeMap<TrialKey, Running>) -> Option<usize> {
        (0..self.devices.len())
            .min_by_key(|device| running.values().filter(|trial| trial.device == Some(*device)).count())
    }

    /// Starts a trial; its ending comes through the channel.
    fn start(
        &self,
        folder: &Path,
        key: &TrialKey,
        device: Option<usize>,
        sender: &Sender<Ended>,
    ) -> Result<Option<ChildStdin>, SweepError> {
        let split = key.split_seed.map_or_else(String::new, |seed| format!("-split-{seed}"));
        let log = folder.join(format!("trial-{}{split}-{}.log", key.point, key.seed));
        let messages = File::create(&log).map_err(|source| SweepError::Io { path: log.clone(), source })?;
        let mut command = Command::new(&self.executable);
        command.arg("--home").arg(&self.home.path).args(["sweep", "trial", self.sweep.id.as_str()]);
        command.args([key.point.to_string(), key.seed.to_string()]);
        if let Some(split_seed) = key.split_seed {
            command.arg("--split-seed").arg(split_seed.to_string());
        }
        if let Some(device) = device {
            command.arg("--device").arg(&self.devices[device]);
        }
        let threads = self.threads.to_string();
        command.env("RAYON_NUM_THREADS", &threads).env("XP_LOADER_THREADS", &threads);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(messages);
        let mut child = command.spawn().map_err(SweepError::Start)?;
        let stdin = child.stdin.take();
        let (key, sender) = (key.clone(), sender.clone());
        thread::spawn(move || sender.send((key, wait(child, &log))));
        Ok(stdin)
    }
}

/// A metric in the epoch that a run keeps, where that is not the metric's best: runs that were there before a sweep, or whose
/// sweep was begun when `checkpoint.monitor` was their own.
async fn kept(store: &Store, run: &RunSummary, metric: MetricKey) -> Result<Option<f64>, StoreError> {
    let monitor = run.params.get("checkpoint.monitor").and_then(|monitor| MetricKey::parse(monitor.as_str()?));
    let Some(monitor) = monitor.filter(|monitor| *monitor != metric) else { return Ok(None) };
    let Some(epoch) = run.metrics.get(&monitor.to_string()).and_then(|series| series.best_epoch) else {
        return Ok(None);
    };
    let points = store.points(&run.id, metric, Resolution::Epoch).await?;
    let at_epoch = points.iter().find(|point| point.epoch == epoch);
    Ok(Some(at_epoch.map_or(f64::NAN, |point| point.value)))
}

/// A trial whose process has ended, and what it said where that was no success.
type Ended = (TrialKey, Option<String>);

fn wait(mut child: Child, log: &Path) -> Option<String> {
    match child.wait() {
        Ok(status) if status.success() => None,
        Ok(status) => {
            let text = std::fs::read(log).unwrap_or_default();
            let text = String::from_utf8_lossy(&text[text.len().saturating_sub(MAX_MESSAGE)..]).trim().to_owned();
            Some(if text.is_empty() { format!("its process ended with {status}") } else { text })
        }
        Err(error) => Some(error.to_string()),
    }
}

/// How far every trial of a sweep is.
pub async fn standing_of(
    home: &Home,
    store: &Store,
    sweep: &SweepRecord,
    section: &Sweep,
) -> Result<Vec<Trial>, StoreError> {
    let records = store.trials(&sweep.id).await?;
    let (runs_dir, this_host) = (home.runs_dir(), host());
    let now_ms = jiff::Timestamp::now().as_millisecond();
    let observer = Observer { runs_dir: &runs_dir, this_host: &this_host, now_ms };
    let ids: Vec<_> = records.iter().filter_map(|record| record.run.clone()).collect();
    let runs = store.run_summaries(&ids, &observer).await?;
    let metric = section.metric.key().to_string();
    let mut trials = Vec::new();
    for record in records {
        let run = record.run.as_ref().and_then(|id| runs.iter().find(|run| run.id == *id));
        let series = run.and_then(|run| run.metrics.get(&metric));
        let values: Vec<(u32, f64)> = match series {
            // Best and last are all that is asked for, but at the rungs.
            Some(series) if section.asha.is_none() => {
                let best = series.best_epoch.zip(series.best);
                let n_epochs = u32::try_from(series.n_points).unwrap_or(u32::MAX);
                let last = series.last.map(|last| (n_epochs, last));
                best.into_iter().filter(|(epoch, _)| *epoch < n_epochs).chain(last).collect()
            }
            Some(_) => {
                let id = &run.expect("it has a series").id;
                let points = store.points(id, section.metric.key(), Resolution::Epoch).await?;
                points.iter().map(|point| (point.epoch, point.value)).collect()
            }
            None => Vec::new(),
        };
        let has_reached = values.last().is_some_and(|(epoch, _)| *epoch >= record.until_epoch);
        let state = match (run.map(|run| run.state), &record.error) {
            (None, Some(error)) => State::Failed(error.clone()),
            (None, None) => State::Waiting,
            (Some(ShownState::Recorded(RunState::Finished)), _) => State::Finished,
            (Some(ShownState::Recorded(RunState::Running | RunState::Queued)), _) => State::Running,
            (Some(ShownState::Recorded(RunState::Failed)), _) => {
                let error = run.and_then(|run| run.error.as_ref());
                State::Failed(error.map_or_else(String::new, |error| error.message.clone()))
            }
            (Some(_), _) if has_reached => State::Paused,
            (Some(_), Some(error)) => State::Failed(error.clone()),
            (Some(_), _) => State::Interrupted,
        };
        let kept = match run {
            Some(run) => kept(store, run, section.metric.key()).await?,
            None => None,
        };
        trials.push(Trial { record, state, values, kept });
    }
    Ok(trials)
}
