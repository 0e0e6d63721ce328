//! PyTorch's files: a pickle that says what there is, and the values beside it.

mod pickle;
mod storage;
mod tree;

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use crate::weights::format::{FormatError, Kind, StoredTensor, TensorFile, check_size, decoded};

use storage::{Endian, Storages};
use tree::Found;

/// A file of `torch.save` or `torch.jit.save`, of any age but the first (before 0.1.10, an archive of tar).
pub(super) struct Checkpoint {
    kind: Kind,
    tensors: Vec<StoredTensor>,
    found: Vec<Found>,
    storages: Storages,
    metadata: BTreeMap<String, String>,
}

impl fmt::Debug for Checkpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Checkpoint").field("kind", &self.kind).field("tensors", &self.tensors).finish()
    }
}

impl Checkpoint {
    /// `archive` is the file where it is a zip archive.
    pub fn open(path: &Path, archive: Option<&super::archive::Archive>) -> Result<Self, FormatError> {
        let file_bytes = std::fs::metadata(path)?.len();
        let (kind, found, storages) = match archive {
            Some(archive) => {
                let (found, storages) = storage::of_archive(path, archive)?;
                (Kind::TorchZip, found, storages)
            }
            None => {
                let (found, storages) = storage::of_legacy(path)?;
                (Kind::TorchLegacy, found, storages)
            }
        };
        let mut tensors = Vec::new();
        for found in &found {
            let tensor = StoredTensor {
                group: found.group.clone(),
                name: found.name.clone(),
                shape: found.shape.clone(),
                dtype: found.dtype.clone(),
            };
            // A view can repeat what is stored, so the file says nothing of its size but by this.
            check_size(&tensor, found.dtype.n_bytes(), file_bytes)?;
            tensors.push(tensor);
        }
        if tensors.is_empty() {
            return Err(FormatError::Unsupported(
                "it holds no tensors of PyTorch; arrays of NumPy in it are not read".to_owned(),
            ));
        }
        Ok(Self { kind, tensors, found, storages, metadata: BTreeMap::new() })
    }
}

impl TensorFile for Checkpoint {
    fn kind(&self) -> Kind {
        self.kind
    }

    fn tensors(&self) -> &[StoredTensor] {
        &self.tensors
    }

    fn are_one(&self, a: usize, b: usize) -> bool {
        self.found[a].is_view_of(&self.found[b])
    }

    fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    fn values(&self, index: usize) -> Result<Vec<f32>, FormatError> {
        let (tensor, found) = (&self.tensors[index], &self.found[index]);
        let size = found.dtype.n_bytes();
        let (begin, n_stored) = self.storages.place(&found.storage, &tensor.name)?;
        let n_values: usize = tensor.shape.iter().product();
        let (first, last) = found.span().ok_or_else(|| outside(tensor))?;
        if n_values == 0 {
            return Ok(Vec::new());
        }
        let n_reached = last.checked_add(1).and_then(|n| n.checked_mul(size as u64));
        if n_reached.is_none_or(|n_reached| n_reached > n_stored) {
            return Err(outside(tensor));
        }
        let mut file = File::open(&self.storages.path)?;
        file.seek(SeekFrom::Start(begin + first * size as u64))?;
        let mut bytes = vec![0; (last + 1 - first) as usize * size];
        file.read_exact(&mut bytes)?;
        if self.storages.endian == Endian::Big {
            bytes.chunks_exact_mut(size).for_each(<[u8]>::reverse);
        }
        let is_in_order = found.is_contiguous();
        let bytes = if is_in_order { bytes } else { gathered(&bytes, found, size) };
        decoded(tensor, &bytes)
    }
}

fn outside(tensor: &StoredTensor) -> FormatError {
    FormatError::Damaged(format!("{} reaches beyond what is stored of it", tensor.name))
}

/// The values of a view in row-major order, from those between its first and its last.
fn gathered(bytes: &[u8], found: &Found, size: usize) -> Vec<u8> {
    let n_values: usize = found.shape.iter().product();
    let mut out = Vec::with_capacity(n_values * size);
    let mut at = vec![0_usize; found.shape.len()];
    for _ in 0..n_values {
        let place: usize = at.iter().zip(&found.strides).map(|(index, stride)| index * *stride as usize).sum();
        out.extend_from_slice(&bytes[place * size..(place + 1) * size]);
        for axis in (0..at.len()).rev() {
            at[axis] += 1;
            if at[axis] < found.shape[axis] {
                break;
            }
            at[axis] = 0;
        }
    }
    out
}
