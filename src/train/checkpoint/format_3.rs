//! The format before this one: `epoch-0005/{model,optimizer,state,manifest}` with burn 0.22's own records.
//!
//! It is read wherever a checkpoint is, and what a run goes on from is converted first.

use std::path::Path;

use crate::models::classifier::NetworkPlan;
use crate::run::event::SavedCheckpoint;
use crate::train::TrainError;
use crate::train::checkpoint::objects::FrozenObjects;
use crate::train::checkpoint::{
    Checkpoint, CheckpointError, OPTIMIZER as OPTIMIZER_FILE, TRAINED, damaged, write_tensors,
};
use crate::train::plan::Plan;

pub(super) const FORMAT: u32 = 3;

pub(super) const MANIFEST: &str = "manifest";
pub(super) const MODEL: &str = "model";
pub(super) const OPTIMIZER: &str = "optimizer";
/// The learning-rate schedule's, which is a function of the epoch and is not read.
const STATE: &str = "state";

pub(super) const FILES: [&str; 4] = [MANIFEST, MODEL, OPTIMIZER, STATE];

/// Whose checkpoint it is, as far as training goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Training goes on from it.
    Last,
    Earlier,
}

/// Writes a checkpoint of this format anew beside what it is, in the same folder, and reads it back; `None` where it is of a
/// later one. It counts once what this returns is recorded: until then the record names the manifest that was there before,
/// and that one's files are as they were.
pub fn convert_if_old(
    run_dir: &Path,
    saved: &SavedCheckpoint,
    standing: Standing,
    (plan, objects_dir): (&Plan, &Path),
) -> Result<Option<SavedCheckpoint>, TrainError> {
    let old = Checkpoint::open(run_dir, saved)?;
    if old.is_current() {
        return Ok(None);
    }
    let plan = plan.in_epoch(saved.epoch);
    let frozen = FrozenObjects::of(&plan, objects_dir)?;
    Ok(Some(convert(run_dir, saved, standing, old, (&plan.network, &frozen))?))
}

fn convert(
    run_dir: &Path,
    saved: &SavedCheckpoint,
    standing: Standing,
    old: Checkpoint,
    (network, frozen): (&NetworkPlan, &FrozenObjects),
) -> Result<SavedCheckpoint, CheckpointError> {
    let folder = run_dir.join(&saved.path);
    let trained = old.trained(network)?;
    let mut files = vec![(TRAINED, trained)];
    if standing == Standing::Last {
        files.push((OPTIMIZER_FILE, old.optimizer_state(network)?));
    }
    let mut manifest = old.manifest;
    manifest.format = super::FORMAT;
    manifest.xp = env!("CARGO_PKG_VERSION").to_owned();
    manifest.backbone = network.layout.name.to_owned();
    manifest.frozen = frozen.rows().clone();
    manifest.files.clear();
    for (name, tensors) in &files {
        manifest.files.insert((*name).to_owned(), write_tensors(&folder.join(name), tensors)?);
    }
    let new = manifest.write(&folder, saved.path.clone())?;
    let read_back = Checkpoint::open(run_dir, &new)?;
    for (name, tensors) in &files {
        if read_back.tensors(name)? != *tensors {
            return Err(damaged(&folder.join(name), "it does not come back as it was written".to_owned()));
        }
    }
    Ok(new)
}
