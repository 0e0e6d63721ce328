//! A trained network as files that other programs open.
//!
//! Gets tensors and shapes, not runs: where they come from is not known here. Every file is written to the path that is
//! given; who calls makes it appear whole.

pub mod architecture;
pub mod framework;
pub mod keras;
pub mod npz;
pub mod safetensors;
pub mod sidecar;

use std::io;

use crate::models::classifier::NetworkPlan;
use crate::models::parameters::TensorAddress;

/// A network with its numbers.
#[derive(Clone, Debug)]
pub struct Trained {
    pub plan: NetworkPlan,
    /// Channels, height and width of an image.
    pub input_chw: [usize; 3],
    /// Every tensor of the backbone, in its order, then those of the head; values as they are here.
    pub tensors: Vec<(TensorAddress, Vec<f32>)>,
}

/// Why a file could not be written.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    #[error("write the export: {0}")]
    Io(#[from] io::Error),
    #[error("write the export as HDF5: {0}")]
    Hdf5(String),
    #[error("write the export as safetensors: {0}")]
    Safetensors(String),
    #[error("pack the export: {0}")]
    Zip(#[from] zip::result::ZipError),
}
