//! Tensors that do not train, kept once for all runs of a home: an object a row, named by its content.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

use burn::tensor::TensorData;

use crate::train::TrainError;
use crate::train::checkpoint::names::frozen_rows;
use crate::train::checkpoint::tensors::{self, Tensors};
use crate::train::checkpoint::{CheckpointError, at, damaged, remove, sync_folder, write_synced};
use crate::train::network::with_parameters;
use crate::train::plan::Plan;

/// The objects of a network's frozen rows, which are there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FrozenObjects {
    by_row: BTreeMap<String, String>,
}

impl FrozenObjects {
    /// Each row's object.
    pub fn rows(&self) -> &BTreeMap<String, String> {
        &self.by_row
    }

    /// Writes those that are not there yet, with the values that the weights have.
    pub fn of(plan: &Plan, objects_dir: &Path) -> Result<Self, TrainError> {
        let by_row = with_parameters(plan, |sources| {
            let mut by_row = BTreeMap::new();
            for row in frozen_rows(&plan.network) {
                let mut object = Tensors::new();
                for address in row.tensors {
                    let values = sources.backbone.values(&address)?;
                    object.insert(address.name, TensorData::new(values, address.shape));
                }
                match put(objects_dir, &object) {
                    Ok(hash) => by_row.insert(row.name, hash),
                    Err(error) => return Ok(Err(error)),
                };
            }
            Ok(Ok(by_row))
        })??;
        at(objects_dir, sync_if_there(objects_dir))?;
        Ok(Self { by_row })
    }
}

/// Keeps tensors under the hash of their file.
fn put(objects_dir: &Path, object: &Tensors) -> Result<String, CheckpointError> {
    let bytes = tensors::to_bytes(object).map_err(|reason| damaged(objects_dir, reason))?;
    let hash = blake3::hash(&bytes).to_hex().to_string();
    let path = objects_dir.join(&hash);
    if path.is_file() {
        return Ok(hash);
    }
    at(objects_dir, fs::create_dir_all(objects_dir))?;
    // Two processes may write the same object at once; each has a file of its own until it is whole.
    let partial = objects_dir.join(format!(".{hash}.{}.partial", std::process::id()));
    let written = write_synced(&partial, &bytes).and_then(|()| at(&path, fs::rename(&partial, &path)));
    if written.is_err() {
        let _ = remove(&partial);
    }
    written.map(|()| hash)
}

fn sync_if_there(objects_dir: &Path) -> io::Result<()> {
    if objects_dir.is_dir() { sync_folder(objects_dir) } else { Ok(()) }
}
