//! Training: a spec, a device and folders of images go in; checkpoints, metrics and an outcome come out.
//!
//! Tells everything through [`channel::Events`]; who listens, and what is stored, is not known here.

pub mod ahead;
pub mod batches;
pub mod bill;
pub mod bridge;
pub mod channel;
pub mod checkpoint;
pub mod class_weights;
pub mod clip;
pub mod device;
pub mod effect;
pub mod evaluate;
pub mod extract;
pub mod features;
pub mod feed;
pub mod history;
pub mod identity;
pub mod keeping;
pub mod listings;
pub mod loss;
pub mod metric;
pub mod network;
pub mod optimizer;
pub mod plan;
pub mod predict;
pub mod predictions;
pub mod predictions_file;
mod pretrained;
pub mod probe;
pub mod proof;
pub mod rate_finder;
pub mod rate_groups;
pub mod schedule;
pub mod session;
pub mod shared_prefix;
pub mod splits;
pub mod step;
pub mod sweep_bill;
pub mod update;
pub mod values;

use crate::data::duplicates::SharedImages;
use crate::data::images::ReadError;
use crate::models::parameters::ParametersError;
use crate::train::checkpoint::CheckpointError;
use crate::train::device::DeviceError;
use crate::train::extract::ExtractError;
use crate::train::features::FeatureError;

/// Why a training or an evaluation could not go on.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    #[error("{source}")]
    Data { split: crate::run::metric::Split, source: ReadError },
    #[error(transparent)]
    SharedImages(#[from] SharedImages),
    #[error("load the weights: {0}")]
    Parameters(#[from] ParametersError),
    #[error("use the device: {0}")]
    Device(#[from] DeviceError),
    #[error("compute the frozen layers' output: {0}")]
    Features(#[from] FeatureError),
    #[error(transparent)]
    Extract(#[from] ExtractError),
    #[error("use the checkpoint: {0}")]
    Checkpoint(#[from] CheckpointError),
    #[error("read the checkpoint of epoch {epoch}: {reason}")]
    Record { epoch: u32, reason: String },
    #[error("train: the {} images are not those that the run was trained on", splits.join(" and "))]
    OtherData { splits: Vec<String> },
    #[error("use the run: it was trained with the weights {trained_with}, and this xp has {here}")]
    OtherWeights { trained_with: String, here: String },
    #[error(
        "train: the loss is {loss} at step {step}, in epoch {epoch}; a lower learning rate or `clip_global_norm` may help"
    )]
    NotFinite { epoch: u32, step: u64, loss: f64 },
    #[error("freeze: {} moved while training, which is a fault of xp: do not trust this run", first_few(moved))]
    FrozenMoved { moved: Vec<String> },
    #[error(
        "freeze: the frozen layers make something else of an image after training, which is a fault of xp: do not trust this run"
    )]
    ProbeMoved,
    #[error("train: no tensor that trains has moved: no gradient reached any, or the learning rate is too small")]
    NothingMoved,
    #[error("train: {0}")]
    Engine(String),
    #[error("measure: {0}")]
    Measure(String),
}

/// Whether work was done to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Completion<T> {
    Done(T),
    /// The stop flag was raised.
    Stopped,
}

/// The first names of a list, and how many more there are.
fn first_few(names: &[String]) -> String {
    const SHOWN: usize = 3;
    let shown = names.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(SHOWN) {
        0 => shown,
        n => format!("{shown} and {n} more"),
    }
}
