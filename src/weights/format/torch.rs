//! PyTorch's files: a pickle that says what there is, and the values beside it.
//!
//! The pickle is interpreted for the few calls that a state dict needs; others are kept as they are and never made.

use std::collections::BTreeMap;
use std::path::Path;

use pytorch_reader::{DType as Stored, FileFormat, PytorchReader, Tensor};

use crate::weights::format::{Dtype, FormatError, Kind, StoredTensor, TensorFile, check_size, decoded};

/// Dictionaries that hold the weights where a file has more than those.
const CONTAINERS: [&str; 3] = ["state_dict.", "model_state_dict.", "model."];

pub struct Checkpoint {
    kind: Kind,
    tensors: Vec<StoredTensor>,
    sources: Vec<Tensor>,
    metadata: BTreeMap<String, String>,
}

impl std::fmt::Debug for Checkpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Checkpoint").field("kind", &self.kind).field("tensors", &self.tensors).finish()
    }
}

impl Checkpoint {
    pub fn open(path: &Path) -> Result<Self, FormatError> {
        let file_bytes = std::fs::metadata(path)?.len();
        let reader = PytorchReader::new(path).map_err(|error| FormatError::Damaged(error.to_string()))?;
        let kind = match reader.metadata().format_type {
            FileFormat::Zip => Kind::TorchZip,
            FileFormat::Legacy | FileFormat::Tar | FileFormat::Pickle => Kind::TorchLegacy,
        };
        let by_name: BTreeMap<String, Tensor> = reader.into_tensors().into_iter().collect();
        let prefix = prefix_of(by_name.keys());
        let (mut tensors, mut sources) = (Vec::new(), Vec::new());
        for (name, source) in by_name {
            let Some(name) = name.strip_prefix(&prefix) else { continue };
            let tensor = StoredTensor {
                name: name.to_owned(),
                shape: source.shape().to_vec(),
                dtype: match source.dtype() {
                    Stored::F16 => Dtype::F16,
                    Stored::BF16 => Dtype::Bf16,
                    Stored::F32 => Dtype::F32,
                    Stored::F64 => Dtype::F64,
                    other => Dtype::Other(format!("{other:?}")),
                },
            };
            // A view can repeat what is stored, so the file says nothing of its size but by this.
            check_size(&tensor, source.dtype().size(), file_bytes)?;
            tensors.push(tensor);
            sources.push(source);
        }
        Ok(Self { kind, tensors, sources, metadata: BTreeMap::new() })
    }
}

/// What stands before every name of the weights: the dictionary they are in, and the wrapper of parallel training.
fn prefix_of<'a>(names: impl Iterator<Item = &'a String> + Clone) -> String {
    let container = CONTAINERS.iter().find(|container| names.clone().any(|name| name.starts_with(**container)));
    let prefix = container.copied().unwrap_or_default();
    let mut within = names.filter_map(|name| name.strip_prefix(prefix));
    if within.all(|name| name.starts_with("module.")) { format!("{prefix}module.") } else { prefix.to_owned() }
}

impl TensorFile for Checkpoint {
    fn kind(&self) -> Kind {
        self.kind
    }

    fn tensors(&self) -> &[StoredTensor] {
        &self.tensors
    }

    fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    fn values(&self, index: usize) -> Result<Vec<f32>, FormatError> {
        decoded(&self.tensors[index], &self.sources[index].read()?)
    }
}
