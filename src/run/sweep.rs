//! Sweeps as they are stored: the words that the store, the driver and the report share.

use serde_json::{Map, Value};

use crate::run::id::RunId;

/// A sweep's row.
#[derive(Clone, Debug, PartialEq)]
pub struct SweepRecord {
    pub id: RunId,
    pub name: String,
    pub created_at_ms: i64,
    /// Where the spec was read; its folders are relative to it.
    pub spec_path: String,
    pub spec_yaml: String,
    /// The `--set` arguments that every trial has.
    pub sets: Vec<String>,
    /// The section as JSON, defaults filled in.
    pub section: Value,
    /// Whether finished runs of the same fingerprint stand for trials.
    pub is_needed_only: bool,
}

/// A trial by its place.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TrialKey {
    pub sweep: RunId,
    /// The point's place in the order in which points were chosen.
    pub point: u32,
    /// The `data.split_seed` of a sweep that tries several; the spec's own where there is none.
    pub split_seed: Option<u64>,
    pub seed: u64,
}

/// A point with one seed, of one split.
#[derive(Clone, Debug, PartialEq)]
pub struct TrialRecord {
    pub key: TrialKey,
    /// Values by dotted key.
    pub values: Map<String, Value>,
    /// The epoch that it trains to before its point is judged.
    pub until_epoch: u32,
    /// `None` until it is started.
    pub run: Option<RunId>,
    /// Whether the run was there before.
    pub is_reused: bool,
    /// Why it could not be started.
    pub error: Option<String>,
}
