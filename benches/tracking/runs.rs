//! Homes, runs and points as a fast training would make them, and copies of this process to write them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;
use xp::run::draw::{Address, Draws, Purpose};
use xp::run::event::SavedCheckpoint;
use xp::run::id::RunId;
use xp::run::metric::{Measure, MetricKey, Point, Resolution, Split};
use xp::store::connect::{Durability, Store};
use xp::store::runs::{NewRun, RunName};

/// Points of each series in a batch.
pub const N_STEPS: u64 = 256;

/// Series in a batch.
pub const SERIES: [MetricKey; 4] = [
    MetricKey::new(Split::Train, Measure::Loss),
    MetricKey::new(Split::Train, Measure::Accuracy),
    MetricKey::new(Split::Valid, Measure::Loss),
    MetricKey::new(Split::Valid, Measure::Accuracy),
];

pub const N_BATCH: u64 = N_STEPS * SERIES.len() as u64;

const CHILD: &str = "XP_BENCH_CHILD";
const CHILD_HOME: &str = "XP_BENCH_HOME";
const CHILD_DURABILITY: &str = "XP_BENCH_DURABILITY";

/// A folder on the disk that the target folder is on.
pub fn folder() -> TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("the target folder is writable")
}

pub fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime starts")
}

pub fn database(home: &Path) -> PathBuf {
    home.join("xp.db")
}

/// Starts this program again, as the child that writes into `home`.
pub fn spawn(child: &str, home: &Path, durability: Durability) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("this program has a path"));
    command.env(CHILD, child).env(CHILD_HOME, home).env(CHILD_DURABILITY, durability_text(durability));
    command.stdout(Stdio::piped());
    command
}

/// Which child this process is, if it is one.
pub fn child() -> Option<String> {
    std::env::var(CHILD).ok()
}

/// The store that a child writes to.
pub async fn child_store() -> Store {
    let home = PathBuf::from(std::env::var_os(CHILD_HOME).expect("a child has a home"));
    let text = std::env::var(CHILD_DURABILITY).expect("a child has a durability");
    let durability = DURABILITIES.into_iter().find(|durability| durability_text(*durability) == text);
    open(&home, durability.expect("a durability is known")).await
}

pub const DURABILITIES: [Durability; 3] = [Durability::Normal, Durability::Full, Durability::Records];

pub fn durability_text(durability: Durability) -> &'static str {
    match durability {
        Durability::Normal => "normal",
        Durability::Full => "full",
        Durability::Records => "records",
    }
}

pub async fn open(home: &Path, durability: Durability) -> Store {
    Store::open_with(&database(home), durability).await.expect("the store opens")
}

/// A run with thirty parameters.
pub fn new_run(created_at_ms: i64) -> NewRun {
    let mut params: BTreeMap<String, Value> =
        (0..27).map(|i| (format!("model.part{}.key{i}", i % 5), json!(i % 4))).collect();
    params.insert("seed".to_owned(), json!(created_at_ms % 10));
    params.insert("optimizer.adam.learning_rate".to_owned(), json!(1e-3 / (1 + created_at_ms % 7) as f64));
    params.insert("data.train".to_owned(), json!("data/fashion/train"));
    NewRun {
        id: RunId::generate(),
        name: RunName::MadeUp("fashion-calm-fern".to_owned()),
        experiment: "fashion".to_owned(),
        host: xp::settings::host(),
        pid: std::process::id(),
        created_at_ms,
        spec_yaml: "name: fashion\n".repeat(40),
        resolved_json: "{}".to_owned(),
        params,
        tags: vec!["bench".to_owned()],
        environment: BTreeMap::from([("xp".to_owned(), "bench".to_owned())]),
        stretches: Vec::new(),
        trial: None,
    }
}

/// The value of a series at a step, the same in every process.
pub fn value(series: usize, step: u64) -> f64 {
    let at = Address { seed: 1, epoch: 0, sample: step, purpose: Purpose::Order, name: SERIES_NAMES[series] };
    Draws::at(at).unit()
}

const SERIES_NAMES: [&str; 4] = ["a", "b", "c", "d"];

/// The points of the `index`th batch.
pub fn batch(index: u64) -> Vec<(MetricKey, Point)> {
    let steps = index * N_STEPS + 1..=(index + 1) * N_STEPS;
    steps.flat_map(|step| SERIES.into_iter().enumerate().map(move |(i, key)| (key, point(i, step)))).collect()
}

fn point(series: usize, step: u64) -> Point {
    let at_ms = 1_795_517_527_250 + step as i64;
    Point { epoch: 1 + (step / 10_000) as u32, step, at_ms, value: value(series, step), n_samples: 32 }
}

pub fn epoch_points(epoch: u32) -> Vec<(MetricKey, Point)> {
    let keys = [Split::Train, Split::Valid]
        .into_iter()
        .flat_map(|split| [Measure::Loss, Measure::Accuracy, Measure::TopK(5)].map(|of| MetricKey::new(split, of)));
    keys.enumerate().map(|(i, key)| (key, Point { epoch, ..point(i % 4, u64::from(epoch) * 100) })).collect()
}

pub fn checkpoint(epoch: u32) -> SavedCheckpoint {
    SavedCheckpoint {
        epoch,
        step: u64::from(epoch) * 100,
        path: format!("checkpoints/epoch-{epoch:04}").into(),
        n_bytes: 9_700_000,
        manifest_hash: "0123456789abcdef".repeat(4),
    }
}

/// Panics unless the run has the points of at least so many batches, whole and in order; returns how many it has.
pub async fn check_batches(store: &Store, id: &RunId, at_least: u64) -> u64 {
    let mut n_batches = None;
    for (i, key) in SERIES.into_iter().enumerate() {
        let points = store.points(id, key, Resolution::Step).await.expect("points are readable");
        for (step, point) in (1..).zip(&points) {
            assert!(point.step == step && point.value == value(i, step), "step {step} of {key} is {point:?}");
        }
        assert_eq!(points.len() as u64 % N_STEPS, 0, "a batch of {key} is there in part");
        let n = points.len() as u64 / N_STEPS;
        assert_eq!(*n_batches.get_or_insert(n), n, "a batch is there without its {key}");
    }
    let n_batches = n_batches.unwrap_or(0);
    assert!(n_batches >= at_least, "{n_batches} batches are there, {at_least} were committed");
    n_batches
}

pub fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}
