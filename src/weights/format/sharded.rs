//! Weights in several files, as `model.safetensors.index.json` and `pytorch_model.bin.index.json` list them.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::weights::format::{self, Convention, FormatError, Kind, StoredTensor, TensorFile};

/// As long as an index may be.
const MAX_INDEX_BYTES: u64 = 64 << 20;

struct Index {
    /// The file of each tensor; of Keras' the files of each layer's variables.
    weight_map: BTreeMap<String, Vec<String>>,
}

/// What an index is one of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Of {
    Torch,
    Keras,
}

/// Whose files an index lists: Keras' are listed by the paths of groups.
pub(super) fn of(path: &Path) -> Result<Of, FormatError> {
    let is_path = |name: &String| name.starts_with('/');
    Ok(if Index::read(path)?.weight_map.keys().all(is_path) { Of::Keras } else { Of::Torch })
}

#[derive(Debug)]
pub(super) struct Sharded {
    tensors: Vec<StoredTensor>,
    /// Which file each is in, and which it is there.
    places: Vec<(usize, usize)>,
    shards: Vec<Box<dyn TensorFile>>,
    metadata: BTreeMap<String, String>,
}

/// The files of an index, which lie beside it.
pub(super) fn parts(path: &Path) -> Result<Vec<PathBuf>, FormatError> {
    let index = Index::read(path)?;
    let mut names: Vec<&String> = index.weight_map.values().flatten().collect();
    names.sort_unstable();
    names.dedup();
    let folder = path.parent().unwrap_or(Path::new(""));
    // A name that leads elsewhere is not one that a publisher writes.
    match names.iter().find(|name| Path::new(name).file_name().is_none_or(|own| own != name.as_str())) {
        Some(name) => Err(FormatError::Damaged(format!("it names {name}, which is no file beside it"))),
        None => Ok(names.into_iter().map(|name| folder.join(name)).collect()),
    }
}

impl Index {
    fn read(path: &Path) -> Result<Self, FormatError> {
        let mut text = Vec::new();
        File::open(path)?.take(MAX_INDEX_BYTES).read_to_end(&mut text)?;
        let json: Value = serde_json::from_slice(&text).unwrap_or_default();
        let map = json["weight_map"].as_object().filter(|map| !map.is_empty());
        let map = map.ok_or_else(|| FormatError::Unsupported("it is JSON, and no index of weights".to_owned()))?;
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let files = |value: &Value| match value.as_array() {
            Some(several) => several.iter().filter_map(text).collect(),
            None => text(value).into_iter().collect(),
        };
        Ok(Self { weight_map: map.iter().map(|(name, value)| (name.clone(), files(value))).collect() })
    }
}

impl Sharded {
    pub fn open(path: &Path) -> Result<Self, FormatError> {
        let index = Index::read(path)?;
        let (mut tensors, mut places, mut shards) = (Vec::new(), Vec::new(), Vec::new());
        for (n, part) in parts(path)?.iter().enumerate() {
            let name = part.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let opened = format::parts(part)
                .and_then(|inner| if inner.is_empty() { format::open(part) } else { Err(FormatError::Unknown) });
            let shard = opened.map_err(|error| match error {
                FormatError::Io(error) => {
                    FormatError::Unsupported(format!("it names {name}, which cannot be read: {error}"))
                }
                error => FormatError::Damaged(format!("{name}: {error}")),
            })?;
            if shard.kind().convention() != Convention::Torch {
                return Err(FormatError::Unsupported(format!("it names {name}, which is a file of {}", shard.kind())));
            }
            for (i, tensor) in shard.tensors().iter().enumerate() {
                if index.weight_map.get(&tensor.name).is_some_and(|files| files.contains(&name)) {
                    tensors.push(tensor.clone());
                    places.push((n, i));
                }
            }
            shards.push(shard);
        }
        if let Some(n_missing) = index.weight_map.len().checked_sub(tensors.len()).filter(|n| *n > 0) {
            return Err(FormatError::Damaged(format!("{n_missing} tensors that it lists are in none of its files")));
        }
        Ok(Self { tensors, places, shards, metadata: BTreeMap::new() })
    }
}

impl TensorFile for Sharded {
    fn kind(&self) -> Kind {
        Kind::Sharded
    }

    fn tensors(&self) -> &[StoredTensor] {
        &self.tensors
    }

    fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    fn values(&self, index: usize) -> Result<Vec<f32>, FormatError> {
        let (shard, tensor) = self.places[index];
        self.shards[shard].values(tensor)
    }
}
