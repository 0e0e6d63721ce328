//! What a training's frozen layers cost, and what of that is paid once.

use serde::Serialize;

use crate::run::metric::Split;

/// The cost of a network's layers for one image, and what is kept of them for each split.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Bill {
    /// Multiply-adds of a forward pass of one image through the backbone.
    pub multiply_adds: u64,
    /// Those of the layers that run outside autodiff.
    pub frozen_multiply_adds: u64,
    /// Bytes that what they give for one image takes on disk.
    pub row_bytes: u64,
    pub splits: Vec<SplitBill>,
}

/// What happens with the frozen layers' output for one split.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SplitBill {
    pub split: Split,
    pub n_images: u64,
    /// Views of all images.
    pub n_rows: u64,
    pub keeping: Keeping,
}

/// Whether the frozen layers' output is kept, and where.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Keeping {
    /// The frozen layers run whenever an image is used; with a reason where one would expect otherwise.
    EveryTime {
        reason: Option<String>,
    },
    InMemory,
    /// Computed once and written; held in memory too where that is small enough.
    OnDisk {
        into_memory: bool,
    },
}

/// The work of a sweep in multiply-adds, a training step counting thrice for what trains.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct SweepBill {
    pub n_trials: u64,
    /// With the frozen layers run in every epoch of every trial.
    pub every_time: u64,
    /// With each trial running them once an image.
    pub once_a_trial: u64,
    /// With all trials sharing what they give: the deepest frozen part once an image.
    pub shared: u64,
}

impl Bill {
    /// The part of the backbone's multiply-adds that are frozen, 0 to 1.
    pub fn frozen_share(&self) -> f64 {
        self.frozen_multiply_adds as f64 / self.multiply_adds.max(1) as f64
    }

    /// Bytes on disk of all rows that go there.
    pub fn disk_bytes(&self) -> u64 {
        let on_disk = self.splits.iter().filter(|split| matches!(split.keeping, Keeping::OnDisk { .. }));
        on_disk.map(|split| split.n_rows * self.row_bytes).sum()
    }
}
