//! What a training thread tells the thread that records it.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::run::bill::Bill;
use crate::run::detail::Artifact;
use crate::run::freezing::Moment;
use crate::run::metric::{MetricKey, Point, Split};

/// A stretch of work that takes long enough to show progress for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Reading, hashing and decoding every image once.
    Index(Split),
    /// Computing the frozen prefix's output once.
    Prefix(Split),
    /// Optimizer steps of one epoch (1-based).
    Train { epoch: u32, epochs: u32 },
    /// Measuring after one epoch.
    Valid { epoch: u32, epochs: u32 },
    /// Asking the best checkpoint about every validation image.
    Predictions,
    /// The single measurement on the test split.
    Test,
}

/// An image that was left out, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SkippedInput {
    pub split: Split,
    pub path: PathBuf,
    pub reason: String,
}

/// What the data turned out to be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataFacts {
    /// Class names; the index is the label.
    pub classes: Vec<String>,
    pub splits: Vec<SplitFacts>,
}

impl DataFacts {
    /// What is known of a split, where there is one.
    pub fn of(&self, split: Split) -> Option<&SplitFacts> {
        self.splits.iter().find(|facts| facts.split == split)
    }
}

/// One split of the data.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SplitFacts {
    pub split: Split,
    pub n_images: u64,
    /// Hash over the labels, relative paths and bytes of the images used.
    pub hash: String,
}

/// What the network turned out to be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelFacts {
    /// Hash of the pretrained weights, or of the rule that made random ones.
    pub weights_hash: String,
    pub n_parameters: u64,
    pub n_trained_parameters: u64,
    /// Backbone rows, the input included, that do not train.
    pub n_frozen_layers: u64,
    /// The last row of the prefix that runs outside autodiff.
    pub cut: String,
    /// Hash of every frozen tensor, running statistics included, before training.
    pub frozen_hash: String,
}

/// A step of a plan that begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlanStepFacts {
    /// From 1.
    pub step: usize,
    pub n_steps: usize,
    pub first_epoch: u32,
    pub n_frozen_layers: u64,
    pub n_trained_parameters: u64,
}

/// What the network's tensors were after the last epoch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrainedFacts {
    /// Must equal [`ModelFacts::frozen_hash`].
    pub frozen_hash: String,
    /// Hash of every tensor that trained.
    pub trained_hash: String,
}

/// A checkpoint that is whole on disk: its manifest was written last.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SavedCheckpoint {
    pub epoch: u32,
    pub step: u64,
    /// Folder, relative to the run's own.
    pub path: PathBuf,
    pub n_bytes: u64,
    /// blake3 of the manifest, which holds the hashes of the other files.
    pub manifest_hash: String,
}

/// A message from the training thread, in the order things happened.
#[derive(Clone, Debug)]
pub enum Event {
    PhaseStarted {
        phase: Phase,
        n_items: u64,
    },
    /// Items done in the current phase; may be dropped when the reader is slow.
    Progress {
        n_done: u64,
    },
    PhaseEnded,
    /// The images, the weights and the checkpoint are those that the training needs: from here on it is recorded.
    Accepted,
    Data(DataFacts),
    Model(ModelFacts),
    /// A step of the plan, where it has several.
    StepOfPlan(PlanStepFacts),
    /// The network's tensors before the first step.
    TensorsBefore(Moment),
    /// And after the last.
    TensorsAfter(Moment),
    /// What the frozen layers will cost.
    Bill(Bill),
    Skipped(SkippedInput),
    /// An image that another split has too, which ends the run; recorded as those that are left out.
    Shared(SkippedInput),
    /// Something the user should know and that does not stop the run.
    Warning(String),
    /// Points of single optimizer steps, stored as they come.
    StepPoints(Vec<(MetricKey, Point)>),
    /// All metrics of one epoch; committed together with its checkpoint.
    EpochMeasured {
        epoch: u32,
        points: Vec<(MetricKey, Point)>,
    },
    CheckpointSaved(SavedCheckpoint),
    /// This epoch is the last: nothing has improved for long enough.
    StoppedEarly {
        epoch: u32,
        best_epoch: Option<u32>,
        /// The metric that was watched: `valid.loss`.
        monitor: String,
    },
    /// All epochs are done.
    Trained(TrainedFacts),
    /// A file in the run's folder that is whole.
    Written(Artifact),
    /// The test metrics of the best checkpoint.
    Tested {
        points: Vec<(MetricKey, Point)>,
    },
}
