//! Everything recorded about one run, as `xp show` tells it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::run::event::{DataFacts, ModelFacts, SavedCheckpoint, SkippedInput, TrainedFacts};
use crate::run::metric::SeriesSummary;
use crate::run::stretch::Stretch;
use crate::run::summary::{RunSummary, State};

/// A run with all that its summary leaves out, its points aside.
#[derive(Clone, Debug)]
pub struct RunDetail {
    pub summary: RunSummary,
    /// The machine it ran on.
    pub host: String,
    pub pid: u32,
    /// The spec's text as the user wrote it.
    pub spec_yaml: String,
    /// The complete spec that the text and the overrides came to.
    pub resolved_json: String,
    pub environment: BTreeMap<String, String>,
    /// Every change of state, oldest first.
    pub events: Vec<StateChange>,
    /// What its epochs were trained under; none of a run from before that was recorded.
    pub stretches: Vec<Stretch>,
    pub data: Option<DataFacts>,
    /// Looks of all runs, sweeps and evaluations at this run's test images.
    pub n_test_looks: usize,
    pub model: Option<ModelFacts>,
    /// `None` until the last epoch is done.
    pub trained: Option<TrainedFacts>,
    /// By epoch, those since deleted included.
    pub checkpoints: Vec<CheckpointRecord>,
    pub skipped: Vec<SkippedInput>,
    pub warnings: Vec<RunWarning>,
    pub artifacts: Vec<Artifact>,
    /// What the machine was doing meanwhile, by [`crate::run::system`]'s names.
    pub system: BTreeMap<String, SystemSeries>,
    /// `None` until it ends.
    pub recording: Option<RecordingCosts>,
}

impl RunDetail {
    /// The last epoch that was committed; 0 while none was.
    pub fn last_epoch(&self) -> u32 {
        self.checkpoints.last().map_or(0, |checkpoint| checkpoint.saved.epoch)
    }
}

/// A run entered this state at this time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StateChange {
    pub at_ms: i64,
    pub state: State,
}

/// A checkpoint and what became of it.
#[derive(Clone, Debug, PartialEq)]
pub struct CheckpointRecord {
    pub saved: SavedCheckpoint,
    /// The monitored metric at that epoch; `None` when it was not measured or is NaN.
    pub monitor_value: Option<f64>,
    /// Whether its files were removed to keep only the best and the last.
    pub deleted: bool,
}

/// Something the user should know and that did not stop the run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunWarning {
    pub at_ms: i64,
    pub text: String,
}

/// A file that a run left behind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Artifact {
    /// What it is: `plot`, `export`, ….
    pub kind: String,
    /// Relative to the run's folder.
    pub path: PathBuf,
    pub n_bytes: u64,
    /// blake3 of its bytes.
    pub hash: String,
}

/// What one measure of the machine came to over a run.
#[derive(Clone, Debug, PartialEq)]
pub struct SystemSeries {
    pub summary: SeriesSummary,
    /// Of the values that are numbers; `None` while there is none.
    pub mean: Option<f64>,
}

/// What recording a run cost its training, and what was lost on the way; added up over its resumptions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RecordingCosts {
    /// Events that found the queue full, so that the training waited for the store.
    pub n_waits: u64,
    pub waited_us: u64,
    pub longest_wait_us: u64,
    /// Looks at the machine that found their queue full and were dropped.
    pub n_system_dropped: u64,
}
