//! Safetensors: a JSON header, then the values of one tensor after another.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{Cursor, Read, Seek, SeekFrom};
use std::path::Path;

use ::safetensors::Dtype as Stored;
use ::safetensors::tensor::Metadata;

use crate::weights::format::{Dtype, FormatError, Kind, StoredTensor, TensorFile, decoded};

/// As much as the format allows.
const MAX_HEADER_BYTES: u64 = 100_000_000;

/// What can be read from any place: a file, or bytes.
trait Content: Read + Seek {}

impl<T: Read + Seek> Content for T {}

pub struct Safetensors {
    content: RefCell<Box<dyn Content>>,
    tensors: Vec<StoredTensor>,
    /// Where each tensor's bytes begin and end.
    places: Vec<(u64, u64)>,
    metadata: BTreeMap<String, String>,
}

impl fmt::Debug for Safetensors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Safetensors").field("tensors", &self.tensors).finish()
    }
}

impl Safetensors {
    pub fn open(path: &Path) -> Result<Self, FormatError> {
        let file = File::open(path)?;
        let n_bytes = file.metadata()?.len();
        Self::of(Box::new(file), n_bytes)
    }

    /// A file that lies in memory.
    pub fn from_bytes(bytes: &'static [u8]) -> Result<Self, FormatError> {
        Self::of(Box::new(Cursor::new(bytes)), bytes.len() as u64)
    }

    fn of(mut file: Box<dyn Content>, n_bytes: u64) -> Result<Self, FormatError> {
        let mut length = [0; 8];
        file.read_exact(&mut length)?;
        let header_bytes = u64::from_le_bytes(length);
        if header_bytes > MAX_HEADER_BYTES.min(n_bytes.saturating_sub(8)) {
            return Err(FormatError::Damaged(format!("its header of {header_bytes} bytes is longer than the file")));
        }
        let mut header = Vec::new();
        (&mut file).take(header_bytes).read_to_end(&mut header)?;
        // Reading it checks that the tensors' places follow each other and have the size of their shapes.
        let metadata: Metadata =
            serde_json::from_slice(&header).map_err(|error| FormatError::Damaged(error.to_string()))?;
        let start = 8 + header_bytes;
        let mut tensors: Vec<_> = metadata.tensors().into_iter().collect();
        tensors.sort_by_key(|(_, info)| info.data_offsets);
        let end = tensors.last().map_or(0, |(_, info)| info.data_offsets.1 as u64);
        if start + end != n_bytes {
            return Err(FormatError::Damaged(format!("it has {n_bytes} bytes and should have {}", start + end)));
        }
        let places = tensors.iter().map(|(_, info)| info.data_offsets);
        let places = places.map(|(begin, end)| (start + begin as u64, start + end as u64)).collect();
        let stored = tensors.iter().map(|(name, info)| StoredTensor {
            group: String::new(),
            name: name.clone(),
            shape: info.shape.clone(),
            dtype: match info.dtype {
                Stored::F16 => Dtype::F16,
                Stored::BF16 => Dtype::Bf16,
                Stored::F32 => Dtype::F32,
                Stored::F64 => Dtype::F64,
                other => Dtype::Other(format!("{other:?}")),
            },
        });
        let extra = metadata.metadata().iter().flatten().map(|(key, value)| (key.clone(), value.clone()));
        Ok(Self { tensors: stored.collect(), places, metadata: extra.collect(), content: RefCell::new(file) })
    }
}

impl TensorFile for Safetensors {
    fn kind(&self) -> Kind {
        Kind::Safetensors
    }

    fn tensors(&self) -> &[StoredTensor] {
        &self.tensors
    }

    fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    fn values(&self, index: usize) -> Result<Vec<f32>, FormatError> {
        let (begin, end) = self.places[index];
        let mut file = self.content.borrow_mut();
        file.seek(SeekFrom::Start(begin))?;
        // The header was checked against the file's length, so this is as much as there is.
        let mut bytes = vec![0; (end - begin) as usize];
        file.read_exact(&mut bytes)?;
        decoded(&self.tensors[index], &bytes)
    }
}
