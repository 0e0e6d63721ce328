//! Files of weights: which tensors they hold, and their values as f32.
//!
//! What a file is, is told by its first bytes and never by its name. Nothing in a file is executed, and every size that a
//! file claims is held against its length before memory is taken.

mod archive;
mod keras;
mod safetensors;
mod sharded;
mod torch;

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

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
    /// Several files, and an index that says which tensor is in which.
    Sharded,
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

impl Dtype {
    /// Bytes of a value; 0 of those that are not read.
    fn n_bytes(&self) -> usize {
        match self {
            Self::F16 | Self::Bf16 => 2,
            Self::F32 => 4,
            Self::F64 => 8,
            Self::Other(_) => 0,
        }
    }
}

/// A tensor of a file, its values unread.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredTensor {
    /// What it stands in: the keys of nested dictionaries with dots between them, or of Keras' models with slashes; empty
    /// where the file has one level.
    pub group: String,
    /// As the file calls it there; of Keras' files layer and variable.
    pub name: String,
    /// In the file's own order of axes.
    pub shape: Vec<usize>,
    pub dtype: Dtype,
}

/// A layer of a Keras file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredLayer {
    /// The models that it lies in, the outermost first; none for those of the file's own model.
    pub models: Vec<ModelName>,
    /// What the file calls it: its name in older files, its class and number (`conv2d_3`) or an attribute in newer ones.
    pub group: String,
    /// Its own name, where the file tells.
    pub name: Option<String>,
    /// Its class in snake case, where its group is called so: `conv2d`.
    pub class: Option<String>,
    /// Its variables' tensors in their order.
    pub tensors: Vec<usize>,
}

/// A model within a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelName {
    /// `functional_1`.
    pub group: String,
    /// Its own name, where the file tells.
    pub name: Option<String>,
}

impl StoredLayer {
    pub fn called(&self) -> &str {
        self.name.as_deref().unwrap_or(&self.group)
    }
}

impl ModelName {
    fn of_group(group: &str) -> Self {
        Self { group: group.to_owned(), name: None }
    }

    pub fn called(&self) -> &str {
        self.name.as_deref().unwrap_or(&self.group)
    }
}

/// Why a file of weights cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum FormatError {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("it is no safetensors, PyTorch or Keras file")]
    Unknown,
    #[error("it is a pointer of Git LFS and not the file: `git lfs pull` brings it")]
    LfsPointer,
    #[error("it is a web page and not the file: what answered was not the download")]
    WebPage,
    #[error("{0}")]
    Unsupported(String),
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

    /// The layers of a Keras file, in its order; none of another.
    fn layers(&self) -> &[StoredLayer] {
        &[]
    }

    /// Whether two tensors are one under two names.
    fn are_one(&self, a: usize, b: usize) -> bool {
        a == b
    }

    /// What was stored beside the tensors.
    fn metadata(&self) -> &BTreeMap<String, String>;

    /// The values of a tensor by its index, row-major.
    fn values(&self, index: usize) -> Result<Vec<f32>, FormatError>;
}

impl Kind {
    /// Whether its layers stand in the order of the model.
    pub(super) fn lists_layers(self) -> bool {
        matches!(self, Self::KerasLegacyWeights | Self::KerasLegacyModel)
    }

    pub fn convention(self) -> Convention {
        match self {
            Self::Safetensors | Self::Sharded | Self::TorchZip | Self::TorchLegacy => Convention::Torch,
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
            Self::Sharded => "PyTorch in several files",
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
    let file = File::open(path)?;
    let file_bytes = file.metadata()?.len();
    file.take(64).read_to_end(&mut first)?;
    if first.starts_with(b"\x89HDF\r\n\x1a\n") {
        return Ok(Box::new(keras::Hdf5::open(path)?));
    }
    if first.starts_with(b"PK\x03\x04") {
        let archive = archive::Archive::open(path)?;
        return match archive.member("model.weights.h5") {
            Some(weights) => Ok(Box::new(keras::ModelFile::open(&archive, weights, file_bytes)?)),
            None => Ok(Box::new(torch::Checkpoint::open(path, Some(&archive))?)),
        };
    }
    if first.starts_with(b"version https://git-lfs") {
        return Err(FormatError::LfsPointer);
    }
    // A pickle's first bytes: protocol 2 to 5. A safetensors header has its length first, and then a brace.
    match first[..] {
        [] => Err(FormatError::Damaged("it is empty".to_owned())),
        [0x80, 2..=5, ..] => Ok(Box::new(torch::Checkpoint::open(path, None)?)),
        [_, _, _, _, _, _, _, _, b'{', ..] => Ok(Box::new(safetensors::Safetensors::open(path)?)),
        _ => match first.trim_ascii_start() {
            [b'{', ..] => Ok(match sharded::of(path)? {
                sharded::Of::Torch => Box::new(sharded::Sharded::open(path)?),
                sharded::Of::Keras => Box::new(keras::Hdf5::open_parts(&sharded::parts(path)?)?),
            }),
            [b'<', ..] => Err(FormatError::WebPage),
            _ => Err(FormatError::Unknown),
        },
    }
}

/// The other files that a file's tensors are in: those that an index names.
pub fn parts(path: &Path) -> Result<Vec<PathBuf>, FormatError> {
    let mut first = Vec::new();
    File::open(path)?.take(64).read_to_end(&mut first)?;
    if first.trim_ascii_start().first() == Some(&b'{') { sharded::parts(path) } else { Ok(Vec::new()) }
}

/// A safetensors file that lies in memory.
pub fn from_bytes(bytes: &'static [u8]) -> Result<Box<dyn TensorFile>, FormatError> {
    Ok(Box::new(safetensors::Safetensors::from_bytes(bytes)?))
}

/// The class of a layer as the groups of Keras' files spell it: `Conv2D` is `conv2d`.
pub fn keras_group(class: &str) -> String {
    keras::snake_case(class)
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
