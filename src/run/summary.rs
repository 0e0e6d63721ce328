//! A run as lists, comparisons and reports see it.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::run::id::RunId;
use crate::run::metric::SeriesSummary;

/// A run's state as it is recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    Queued,
    Running,
    Finished,
    Failed,
    /// Stopped because someone asked for it.
    Stopped,
}

impl State {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Finished => "finished",
            Self::Failed => "failed",
            Self::Stopped => "stopped",
        }
    }
}

impl FromStr for State {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        [Self::Queued, Self::Running, Self::Finished, Self::Failed, Self::Stopped]
            .into_iter()
            .find(|state| state.as_str() == text)
            .ok_or_else(|| format!("unknown run state {text:?}"))
    }
}

/// A run's state as it is shown: the recorded one, or `crashed` where the record says `running` and nobody runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShownState {
    Recorded(State),
    Crashed,
}

impl ShownState {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Recorded(state) => state.as_str(),
            Self::Crashed => "crashed",
        }
    }
}

impl fmt::Display for ShownState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why a run failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunError {
    pub message: String,
    pub cause: Option<String>,
    /// Source file and line of a panic, or the phase the run was in.
    pub place: Option<String>,
}

/// One run, from its summaries alone.
#[derive(Clone, Debug)]
pub struct RunSummary {
    pub id: RunId,
    pub name: String,
    pub experiment: String,
    pub state: ShownState,
    pub created_at_ms: i64,
    /// `None` until it ends.
    pub ended_at_ms: Option<i64>,
    /// Last sign of life.
    pub heartbeat_at_ms: i64,
    /// Equal for runs of the same spec, data, weights and device class.
    pub fingerprint: Option<String>,
    /// Equal for runs that are the same up to the seed.
    pub group: Option<String>,
    pub error: Option<RunError>,
    /// What [`crate::run::engine::ENGINE`] says; `None` of a run from before it was recorded.
    pub engine: Option<String>,
    /// The resolved spec, flattened with dots: `optimizer.sgd.learning_rate`.
    pub params: BTreeMap<String, Value>,
    /// Epoch series by name: `valid.accuracy`.
    pub metrics: BTreeMap<String, SeriesSummary>,
    pub tags: Vec<String>,
}

impl RunSummary {
    /// From creation to the end, or to the last sign of life while there is none.
    pub fn duration_ms(&self) -> i64 {
        self.ended_at_ms.unwrap_or(self.heartbeat_at_ms).saturating_sub(self.created_at_ms).max(0)
    }
}
