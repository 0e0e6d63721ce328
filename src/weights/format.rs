//! Files of weights: which tensors they hold, and their values as f32.
//!
//! What a file is, is told by its first bytes and never by its name. Nothing in a file is executed, and every size that a
//! file claims is held against its length before memory is taken.

pub mod keras;
mod safetensors;
mod torch;

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// How a file names its tensors and orders their axes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Convention {
    /// `features.0.weight`: the keys of a state dict.
    Torch,
    /// `block1_conv1/kernel`: layer and variable.
    Keras,
}

/// What kind of file it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Safetensors,
    /// `torch.save` since 1.6.
    TorchZip,
    /// `torch.save` before.
    TorchLegacy,
    /// `model.save_weights("x.h5")` of Keras 2.
    KerasLegacyWeights,
    /// `model.save("x.h5")`.
    KerasLegacyModel,
    /// `model.save_weights("x.weights.h5")` of Keras 3.
    KerasV3Weights,
    /// `model.save("x.keras")`.
    KerasV3Model,
}

/// The type of a tensor's values in its file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Dtype {
    F16,
    Bf16,
    F32,
    F64,
    /// One that is not read.
    Other(String),
}

/// A tensor of a file, its values unread.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredTensor {
    pub name: String,
    /// In the file's own order of axes.
    pub shape: Vec<usize>,
    pub dtype: Dtype,
}

/// Why a file of weights cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum FormatError {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("it is no safetensors, PyTorch or Keras file")]
    Unknown,
    #[error("it is damaged: {0}")]
    Damaged(String),
    #[error("{name} holds {dtype} values, which are not read")]
    Type { name: String, dtype: String },
    #[error("{name} would take {n_bytes} bytes, more than a file of {file_bytes} can hold")]
    TooLarge { name: String, n_bytes: u128, file_bytes: u64 },
}

/// An opened file: its header is read and checked, its values are not.
pub trait TensorFile: fmt::Debug {
    fn kind(&self) -> Kind;

    /// In the file's order, or by name where it has none.
    fn tensors(&self) -> &[StoredTensor];

    /// What was stored beside the tensors.
    fn metadata(&self) -> &BTreeMap<String, String>;

    /// The values of a tensor by its index, row-major.
    fn values(&self, index: usize) -> Result<Vec<f32>, FormatError>;
}

impl Kind {
    pub fn convention(self) -> Convention {
        match self {
            Self::Safetensors | Self::TorchZip | Self::TorchLegacy => Convention::Torch,
            Self::KerasLegacyWeights | Self::KerasLegacyModel | Self::KerasV3Weights | Self::KerasV3Model => {
                Convention::Keras
            }
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Safetensors => "safetensors",
            Self::TorchZip => "PyTorch",
            Self::TorchLegacy => "PyTorch before 1.6",
            Self::KerasLegacyWeights => "Keras weights (HDF5)",
            Self::KerasLegacyModel => "Keras model (HDF5)",
            Self::KerasV3Weights => "Keras 3 weights",
            Self::KerasV3Model => "Keras 3 model",
        })
    }
}

/// Opens a file and reads its header.
pub fn open(path: &Path) -> Result<Box<dyn TensorFile>, FormatError> {
    let mut first = Vec::new();
    File::open(path)?.take(16).read_to_end(&mut first)?;
    if first.starts_with(b"\x89HDF\r\n\x1a\n") {
        return Ok(Box::new(keras::Hdf5::open(path)?));
    }
    if first.starts_with(b"PK\x03\x04") {
        return match keras::Archive::open(path)? {
            Some(archive) => Ok(Box::new(archive)),
            None => Ok(Box::new(torch::Checkpoint::open(path)?)),
        };
    }
    // A pickle's first bytes: protocol 2 to 5. A safetensors header has its length first, and then a brace.
    match first[..] {
        [0x80, 2..=5, ..] => Ok(Box::new(torch::Checkpoint::open(path)?)),
        [_, _, _, _, _, _, _, _, b'{', ..] => Ok(Box::new(safetensors::Safetensors::open(path)?)),
        _ => Err(FormatError::Unknown),
    }
}

/// A safetensors file that lies in memory.
pub fn from_bytes(bytes: &'static [u8]) -> Result<Box<dyn TensorFile>, FormatError> {
    Ok(Box::new(safetensors::Safetensors::from_bytes(bytes)?))
}

/// Checks that a tensor's bytes can be in a file of this length.
fn check_size(tensor: &StoredTensor, bytes_per_value: usize, file_bytes: u64) -> Result<(), FormatError> {
    let n_bytes = tensor.shape.iter().try_fold(bytes_per_value as u128, |n, &len| n.checked_mul(len as u128));
    match n_bytes {
        Some(n_bytes) if n_bytes <= u128::from(file_bytes) => Ok(()),
        n_bytes => {
            Err(FormatError::TooLarge { name: tensor.name.clone(), n_bytes: n_bytes.unwrap_or(u128::MAX), file_bytes })
        }
    }
}

/// Little-endian values as f32.
fn decoded(tensor: &StoredTensor, bytes: &[u8]) -> Result<Vec<f32>, FormatError> {
    Ok(match &tensor.dtype {
        Dtype::F32 => bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect(),
        Dtype::F64 => bytes.as_chunks().0.iter().map(|b| f64::from_le_bytes(*b) as f32).collect(),
        Dtype::F16 => bytes.as_chunks().0.iter().map(|b| half::f16::from_le_bytes(*b).to_f32()).collect(),
        Dtype::Bf16 => bytes.as_chunks().0.iter().map(|b| half::bf16::from_le_bytes(*b).to_f32()).collect(),
        Dtype::Other(dtype) => {
            return Err(FormatError::Type { name: tensor.name.clone(), dtype: dtype.clone() });
        }
    })
}
