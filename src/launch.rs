//! One run from its row to its ending: the lock, the training thread, and its events into the store.

mod commit;
pub mod environment;
pub mod going_on;
pub mod keep;
pub mod panics;
pub mod record;
mod split_file;
mod system;
mod whole;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::mpsc::sync_channel;
use std::thread::{self, JoinHandle};

use serde_json::Value;
use tokio::runtime::Runtime;

use crate::data::feature_cache::FeatureCache;
use crate::launch::commit::now_ms;
use crate::launch::going_on::{
    GoingOn, Refusal, Wanted, has_unknown_stretches, recorded_stretches, refusal_under_lock,
};
use crate::launch::keep::Committed;
use crate::launch::panics::Quiet;
use crate::launch::record::Recorder;
use crate::report::curve::{self, RunSeries};
use crate::report::plot;
use crate::run::detail::{Artifact, RecordingCosts, RunDetail};
use crate::run::engine;
use crate::run::event::Event;
use crate::run::id::{RunId, made_up_name};
use crate::run::metric::{Measure, MetricKey, Point, Resolution, Split};
use crate::run::panic;
use crate::run::stop::StopFlag;
use crate::run::stretch::{self, STRETCHES, Stretch};
use crate::run::summary::RunError;
use crate::run::sweep::TrialKey;
use crate::settings::{Home, Resources, host};
use crate::spec::fingerprint;
use crate::spec::schema::Spec;
use crate::spec::schema::source::ImageSource;
use crate::spec::stretches;
use crate::store::StoreError;
use crate::store::connect::Store;
use crate::store::list::Observer;
use crate::store::lock::RunLock;
use crate::store::resume::Resumption;
use crate::store::runs::{Ending, NewRun, RunName};
use crate::train::channel::Events;
use crate::train::device::TrainDevice;
use crate::train::extract::folder;
use crate::train::history::EpochValues;
use crate::train::plan::Plan;
use crate::train::session::{Inputs, ResumePoint, Session};
use crate::train::{Completion, TrainError};

/// Events that may wait for the store; the training thread waits when there are more.
pub const QUEUE_LEN: usize = 256;

/// What is to be run, and where.
#[derive(Clone, Debug)]
pub struct Launch<'a> {
    pub home: &'a Home,
    pub plan: &'a Plan,
    /// Where the spec was read; its folders are relative to it.
    pub spec_path: &'a Path,
    /// The spec's text as the user wrote it.
    pub spec_yaml: &'a str,
    pub device: TrainDevice,
    pub resources: Resources,
    /// Made up when left out.
    pub name: Option<String>,
    pub tags: Vec<String>,
    /// What the user should know of the home before a run begins; recorded with it.
    pub warnings: Vec<String>,
    pub stop: StopFlag,
    /// The run whose record this repeats: the images and weights must be its.
    pub rerun_of: Option<&'a RunDetail>,
    /// The trial of a sweep that a new run is.
    pub trial: Option<TrialKey>,
    /// An epoch after which the run stops, to go on later, where the spec has more.
    pub until_epoch: Option<u32>,
    /// Whether the best epoch is measured on the test images at the end.
    pub measures_test: bool,
}

/// A run that was started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Started {
    pub id: RunId,
    pub name: String,
    pub run_dir: PathBuf,
}

/// Follows a run while it goes; called on the thread that launched it.
pub trait Watcher {
    fn started(&mut self, run: &Started);
    fn event(&mut self, event: &Event);
    /// An epoch or the test was recorded.
    fn committed(&mut self, points: &[(MetricKey, Point)]);
    fn ended(&mut self);
}

/// Why a run could not be recorded.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    #[error("{0}")]
    Store(#[from] StoreError),
    #[error(transparent)]
    CannotGoOn(#[from] Refusal),
    /// Found out before anything was recorded: the run is as it was.
    #[error("go on with the run {run}: {}", error.message)]
    Refused { run: String, error: RunError },
    #[error("record the run {run}: {source}")]
    Recording { run: String, source: StoreError },
    #[error("convert the checkpoints: {0}")]
    Convert(TrainError),
    #[error("write {}: {source}", path.display())]
    Io { path: PathBuf, source: std::io::Error },
    #[error("start the recording: {0}")]
    Runtime(std::io::Error),
}

/// Trains and records a run; returns how it ended.
///
/// An error means that the store or the run's folder failed, so the record ends before the run did.
pub fn run(launch: &Launch<'_>, watcher: &mut dyn Watcher) -> Result<(Started, Ending), LaunchError> {
    let runtime = runtime()?;
    let id = RunId::generate();
    let run_dir = launch.home.run_dir(&id);
    // The lock before the row: a reader who finds the row finds the lock held.
    let lock = RunLock::take(&run_dir).inspect_err(|_| drop(std::fs::remove_dir(&run_dir)))?;
    let (store, name) = match runtime.block_on(create(launch, &id, &run_dir)) {
        Ok(created) => created,
        Err(error) => {
            // Nothing refers to the folder; a lock file in an unknown folder would only confuse.
            let _ = std::fs::remove_dir_all(&run_dir);
            return Err(error);
        }
    };
    let started = Started { id, name, run_dir };
    let course = Course {
        expected: launch.rerun_of.map(Inputs::of).unwrap_or_default(),
        stretches: stretches_of_new(launch),
        resume: None,
        committed: Vec::new(),
        resumption: None,
        warnings: launch.warnings.clone(),
        device_class: launch.device.class.to_owned(),
    };
    conduct(&Conduct { launch, runtime, store, started, _lock: lock }, course, watcher)
}

/// One stretch, as the spec says, or those that make the repeated run what it is.
fn stretches_of_new(launch: &Launch<'_>) -> Vec<Stretch> {
    let spec = &launch.plan.spec;
    match launch.rerun_of.map(recorded_stretches) {
        Some(recorded) if !recorded.is_empty() => stretches::effective(spec, &recorded),
        _ => vec![Stretch::whole(spec.epochs, spec.schedule.value())],
    }
}

/// Goes on with a run from its last committed epoch; the lock keeps a second process out.
///
/// Nothing that the record says changes before the images, the weights and the checkpoint are known to be the run's; only
/// checkpoints of an older format are written anew, with the same tensors.
pub fn resume(
    launch: &Launch<'_>,
    wanted: &Wanted<'_>,
    watcher: &mut dyn Watcher,
) -> Result<(Started, Ending), LaunchError> {
    let runtime = runtime()?;
    let (id, name) = (&wanted.recorded.summary.id, &wanted.recorded.summary.name);
    let run_dir = launch.home.run_dir(id);
    let lock = RunLock::take(&run_dir).map_err(|error| match error {
        StoreError::LockHeld { .. } => Refusal::Running { name: name.clone() }.into(),
        error => LaunchError::from(error),
    })?;
    let store = runtime.block_on(Store::open(&launch.home.database()))?;
    let (spec, this_host) = (&launch.plan.spec, host());
    let observer = Observer { runs_dir: &launch.home.runs_dir(), this_host: &this_host, now_ms: now_ms() };
    // Another process may have had the run since it was looked at.
    let run = runtime.block_on(store.run_detail(id, &observer))?;
    refusal_under_lock(&run, &this_host, spec, wanted)?;
    let history = runtime.block_on(history(&store, id, spec))?;
    let mut going_on = GoingOn::from_record(&run, history, spec, wanted.restarts_schedule);
    // Before anything of the run is changed.
    going_on.verify(&run_dir).map_err(|error| refused(name, &TrainError::Checkpoint(error)))?;
    let converted = going_on.convert(&run_dir, &launch.home.objects_dir(), launch.plan)?;
    runtime.block_on(store.replace_checkpoints(id, &converted))?;
    going_on.sweep(&run_dir);
    let recorded_device = run.environment.get("device");
    let is_other = |device: &&String| !device.split(", ").any(|class| class == launch.device.class);
    let other_device = recorded_device.filter(is_other).map(|before| format!("{before}, {}", launch.device.class));
    let device_class = other_device.clone().or(recorded_device.cloned());
    let resumption = Resumption {
        id: id.clone(),
        host: this_host,
        pid: std::process::id(),
        at_ms: now_ms(),
        resolved_json: format!("{:#}\n", fingerprint::resolved(spec)),
        params: params(spec, &going_on.stretches),
        stretches: going_on.stretches.clone(),
        engine: match has_unknown_stretches(&run, spec) {
            true => Some(engine::after_unknown()),
            false => engine::after_going_on(run.summary.engine.as_deref(), &run.summary.params),
        },
        device: other_device,
        last_epoch: going_on.point.epoch(),
    };
    let started = Started { id: id.clone(), name: run.summary.name.clone(), run_dir };
    let conduct_of = Conduct { launch, runtime, store, started, _lock: lock };
    let course = Course {
        expected: Inputs::of(&run),
        stretches: going_on.stretches,
        resume: Some(going_on.point),
        committed: going_on.committed,
        resumption: Some(resumption),
        warnings: launch.warnings.iter().cloned().chain(going_on.warnings).collect(),
        device_class: device_class.unwrap_or_else(|| launch.device.class.to_owned()),
    };
    conduct(&conduct_of, course, watcher)
}

/// A run's parameters; where its stretches make another training of it they are one.
fn params(spec: &Spec, stretches: &[Stretch]) -> BTreeMap<String, Value> {
    let mut params = fingerprint::params(spec);
    let text = stretch::text(&stretches::effective(spec, stretches));
    params.extend(text.map(|text| (STRETCHES.to_owned(), Value::from(text))));
    params
}

/// The committed epochs' values of the metrics that decide what comes next.
async fn history(store: &Store, id: &RunId, spec: &Spec) -> Result<EpochValues, StoreError> {
    let mut history = EpochValues::new();
    for key in spec.monitored() {
        let points = store.points(id, key, Resolution::Epoch).await?;
        history.insert(key, points.iter().map(|point| (point.epoch, point.value)).collect());
    }
    Ok(history)
}

fn runtime() -> Result<Runtime, LaunchError> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(LaunchError::Runtime)
}

/// A run whose lock is held.
struct Conduct<'a> {
    launch: &'a Launch<'a>,
    runtime: Runtime,
    store: Store,
    started: Started,
    _lock: RunLock,
}

/// What a run is trained on and under, and what there is of it.
struct Course {
    expected: Inputs,
    stretches: Vec<Stretch>,
    resume: Option<ResumePoint>,
    committed: Vec<Committed>,
    /// How it is recorded that the run goes on; a new run is recorded already.
    resumption: Option<Resumption>,
    warnings: Vec<String>,
    /// The kinds of devices that its epochs are trained on, part of its fingerprint: a run may go on on another.
    device_class: String,
}

/// Trains, records and ends a run.
fn conduct(conduct: &Conduct<'_>, course: Course, watcher: &mut dyn Watcher) -> Result<(Started, Ending), LaunchError> {
    let Conduct { launch, runtime, store, started, .. } = conduct;
    let Course { expected, stretches, resume, committed, resumption, warnings, device_class } = course;
    let _quiet = Quiet::begin();
    watcher.started(started);
    let span = tracing::info_span!("run", id = %started.id, name = %started.name);
    let (sender, receiver) = sync_channel(QUEUE_LEN);
    let events = Events::new(sender);
    let waits = events.waits();
    let last = resume.as_ref().and_then(|resume| resume.checkpoints.last().cloned());
    let (recorded, ending) = span.in_scope(|| {
        let trainer = spawn(launch, &started.run_dir, (expected, resume, stretches.clone()), events, span.clone());
        let recorder = Recorder {
            store,
            run: started,
            spec: &launch.plan.spec,
            device_class: &device_class,
            stop: &launch.stop,
            stretches: &stretches,
            committed,
            last,
            resumption: resumption.as_ref(),
            warnings: &warnings,
        };
        let recorded = runtime.block_on(recorder.record(&receiver, watcher));
        drop(receiver);
        (recorded, ending(trainer))
    });
    watcher.ended();
    // Before anything else is written: they may be what fills the disk.
    remove_partial_checkpoints(&started.run_dir);
    let recording = |source| LaunchError::Recording { run: started.name.clone(), source };
    if !recorded.is_accepted {
        runtime.block_on(store.clone().close());
        recorded.outcome.map_err(recording)?;
        return match ending {
            Ending::Failed(error) => Err(LaunchError::Refused { run: started.name.clone(), error }),
            ending => Ok((started.clone(), ending)),
        };
    }
    let n_system_dropped = match recorded.outcome {
        Ok(n_system_dropped) => n_system_dropped,
        Err(error) => {
            // The store failed once, but the ending is worth another try: without it the run shows as crashed.
            let failed = Ending::Failed(recording_error(&error, &ending));
            let _ = runtime.block_on(store.finish_run(&started.id, &failed, now_ms()));
            runtime.block_on(store.clone().close());
            return Err(recording(error));
        }
    };
    if let Err(error) = runtime.block_on(draw_curves(store, started)) {
        tracing::warn!(%error, "the curves were not drawn");
    }
    let (n_waits, waited_us, longest_wait_us) = (waits.n(), waits.total_us(), waits.longest_us());
    let costs = RecordingCosts { n_waits, waited_us, longest_wait_us, n_system_dropped };
    let finished = runtime.block_on(async {
        store.add_recording_costs(&started.id, &costs).await?;
        store.finish_run(&started.id, &ending, now_ms()).await
    });
    runtime.block_on(store.clone().close());
    finished.map_err(recording)?;
    tracing::info!(?ending, "run ended");
    Ok((started.clone(), ending))
}

/// Opens the store and writes the run's folder and its row; returns the name it got.
async fn create(launch: &Launch<'_>, id: &RunId, run_dir: &Path) -> Result<(Store, String), LaunchError> {
    let store = Store::open(&launch.home.database()).await?;
    let spec = &launch.plan.spec;
    let resolved_json = format!("{:#}\n", fingerprint::resolved(spec));
    write(&run_dir.join("spec.yaml"), launch.spec_yaml.as_bytes())?;
    write(&run_dir.join("resolved.json"), resolved_json.as_bytes())?;
    let splits = split_file::write(launch.plan, run_dir)?;
    let working_dir = std::env::current_dir().unwrap_or_default();
    let name = match &launch.name {
        Some(name) => RunName::Chosen(name.clone()),
        None => RunName::MadeUp(made_up_name(&spec.name, id)),
    };
    let mut environment = environment::collect(&launch.device, launch.resources.loader_threads, &working_dir);
    let spec_path = std::path::absolute(launch.spec_path).unwrap_or_else(|_| launch.spec_path.to_owned());
    if let Some(repeated) = launch.rerun_of {
        environment.insert(environment::RERUN_OF.to_owned(), repeated.summary.id.to_string());
    }
    if let ImageSource::Features(source) = &spec.data.train {
        let features = spec_path.parent().unwrap_or(Path::new("")).join(&source.features);
        if let Some(record) = features.parent().and_then(folder::finished) {
            environment.insert(environment::FEATURES_MADE_OF.to_owned(), serde_json::json!(record.made_of).to_string());
        }
    }
    environment.insert(environment::SPEC_PATH.to_owned(), spec_path.display().to_string());
    let stretches = stretches_of_new(launch);
    let run = NewRun {
        id: id.clone(),
        name,
        experiment: spec.name.clone(),
        host: host(),
        pid: std::process::id(),
        created_at_ms: now_ms(),
        spec_yaml: launch.spec_yaml.to_owned(),
        resolved_json,
        params: params(spec, &stretches),
        tags: launch.tags.clone(),
        environment,
        stretches,
        trial: launch.trial.clone(),
    };
    let name = store.create_run(&run).await?;
    if let Some(splits) = splits {
        store.add_artifact(id, &splits).await?;
    }
    Ok((store, name))
}

type Trainer = JoinHandle<Result<Completion<()>, RunError>>;

/// Starts the training on its own thread; a panic there becomes an error.
fn spawn(
    launch: &Launch<'_>,
    run_dir: &Path,
    (expected, resume, stretches): (Inputs, Option<ResumePoint>, Vec<Stretch>),
    events: Events,
    span: tracing::Span,
) -> Trainer {
    let (plan, device, run_dir) = (launch.plan.clone(), launch.device.clone(), run_dir.to_owned());
    let (resources, stop) = (launch.resources, launch.stop.clone());
    let (until_epoch, measures_test) = (launch.until_epoch, launch.measures_test);
    let cache = FeatureCache::of_spec(&launch.plan.spec.cache, launch.home.feature_cache_dir());
    let objects_dir = launch.home.objects_dir();
    thread::spawn(move || {
        let _span = span.entered();
        let session = Session {
            plan: &plan,
            device: &device,
            run_dir: &run_dir,
            objects_dir: &objects_dir,
            resources,
            cache,
            events,
            stop,
            expected,
            resume,
            until_epoch,
            measures_test,
            stretches,
        };
        match catch_unwind(AssertUnwindSafe(|| session.train())) {
            Ok(result) => result.map_err(|error| run_error(&error)),
            Err(payload) => Err(panicked(&panic::text(&*payload))),
        }
    })
}

fn refused(run: &str, error: &TrainError) -> LaunchError {
    LaunchError::Refused { run: run.to_owned(), error: run_error(error) }
}

fn run_error(error: &TrainError) -> RunError {
    let message = error.to_string();
    let cause = std::error::Error::source(error).map(ToString::to_string).filter(|cause| !message.contains(cause));
    RunError { message, cause, place: None }
}

fn panicked(text: &str) -> RunError {
    RunError { message: format!("panicked: {text}"), cause: None, place: panics::take_place(text) }
}

/// A failing store, and what the training said in the end.
fn recording_error(error: &StoreError, ending: &Ending) -> RunError {
    let cause = match ending {
        Ending::Failed(error) => Some(error.message.clone()),
        Ending::Finished | Ending::Stopped => None,
    };
    RunError { message: error.to_string(), cause, place: Some("recording".to_owned()) }
}

fn ending(trainer: Trainer) -> Ending {
    match trainer.join() {
        Ok(Ok(Completion::Done(()))) => Ending::Finished,
        Ok(Ok(Completion::Stopped)) => Ending::Stopped,
        Ok(Err(error)) => Ending::Failed(error),
        Err(payload) => Ending::Failed(panicked(&panic::text(&*payload))),
    }
}

/// Draws loss and accuracy by epoch into the run's folder; nothing to draw is no error.
async fn draw_curves(store: &Store, started: &Started) -> Result<(), String> {
    let mut series = Vec::new();
    for split in [Split::Train, Split::Valid] {
        for measure in [Measure::Loss, Measure::Accuracy] {
            let key = MetricKey::new(split, measure);
            let points = store.points(&started.id, key, Resolution::Epoch).await.map_err(|e| e.to_string())?;
            if !points.is_empty() {
                series.push((key, points));
            }
        }
    }
    if series.is_empty() {
        return Ok(());
    }
    let panels = curve::panels(&[RunSeries { name: started.name.clone(), series }]);
    let png = plot::curves(&started.name, &panels).map_err(|e| e.to_string())?;
    whole::write(&started.run_dir.join("curves.png"), &png).map_err(|e| e.to_string())?;
    let artifact = Artifact {
        kind: "plot".to_owned(),
        path: PathBuf::from("curves.png"),
        n_bytes: png.len() as u64,
        hash: blake3::hash(&png).to_hex().to_string(),
    };
    store.add_artifact(&started.id, &artifact).await.map_err(|e| e.to_string())
}

/// Removes checkpoints that were being written when the training ended.
fn remove_partial_checkpoints(run_dir: &Path) {
    let Ok(entries) = std::fs::read_dir(run_dir.join("checkpoints")) else { return };
    for entry in entries.flatten() {
        if entry.file_name().to_string_lossy().ends_with(".partial") {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), LaunchError> {
    whole::write(path, bytes).map_err(|source| LaunchError::Io { path: path.to_owned(), source })
}
