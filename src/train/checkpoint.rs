//! Checkpoints on disk: `epoch-0005/{model,optimizer,state,manifest}`, whole or not there.
//!
//! The three parts are written by burn-train's three threads into a folder with another name. The last of them
//! writes the manifest with everyone's hashes and gives the folder its name, so a folder with the name is whole.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use burn::tensor::Bytes;
use burn::train::checkpoint::{
    Checkpoint, Checkpointer, CheckpointerError, CheckpointingAction, CheckpointingStrategy,
};
use burn::train::metric::store::EventStoreClient;
use serde::{Deserialize, Serialize};

use crate::run::event::{Event, SavedCheckpoint};
use crate::train::bridge::wait_for_metrics;
use crate::train::channel::Events;

const FORMAT: u32 = 3;

/// The parts of a checkpoint: the trained part of the network, the optimizer, and the learning-rate schedule.
const PARTS: [&str; 3] = ["model", "optimizer", "state"];

/// What a checkpoint consists of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    pub format: u32,
    pub epoch: u32,
    /// Optimizer steps taken.
    pub step: u64,
    /// Each file's size and hash, by name.
    pub files: BTreeMap<String, FileHash>,
}

/// A file's size and blake3.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileHash {
    pub n_bytes: u64,
    pub blake3: String,
}

/// Why a checkpoint cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("{} is damaged: {reason}", path.display())]
    Damaged { path: PathBuf, reason: String },
}

/// The folder of an epoch's checkpoint, relative to the run's.
pub fn folder(epoch: u32) -> PathBuf {
    PathBuf::from(format!("checkpoints/epoch-{epoch:04}"))
}

/// Checks that a checkpoint's manifest is the one that was recorded.
pub fn verify_manifest(run_dir: &Path, saved: &SavedCheckpoint) -> Result<(), CheckpointError> {
    let path = run_dir.join(&saved.path).join("manifest");
    if blake3::hash(&read(&path)?).to_hex().as_str() == saved.manifest_hash {
        Ok(())
    } else {
        Err(CheckpointError::Damaged { path, reason: "it is not the one that was recorded".to_owned() })
    }
}

/// Checks that all parts of a checkpoint are there and whole.
pub fn verify(run_dir: &Path, epoch: u32) -> Result<(), CheckpointError> {
    PARTS.iter().try_for_each(|part| read_part(run_dir, epoch, part).map(drop))
}

/// Reads a part and checks it against the manifest.
pub fn read_part(run_dir: &Path, epoch: u32, part: &str) -> Result<Vec<u8>, CheckpointError> {
    let folder = run_dir.join(folder(epoch));
    let damaged = |path: &Path, reason: String| CheckpointError::Damaged { path: path.to_owned(), reason };
    let path = folder.join("manifest");
    let manifest: Manifest = serde_json::from_slice(&read(&path)?).map_err(|e| damaged(&path, e.to_string()))?;
    if manifest.format != FORMAT {
        return Err(damaged(&path, format!("format {} is not {FORMAT}, the one this xp reads", manifest.format)));
    }
    let expected = manifest.files.get(part).ok_or_else(|| damaged(&path, format!("it does not list {part}")))?;
    let path = folder.join(part);
    let bytes = read(&path)?;
    if blake3::hash(&bytes).to_hex().as_str() != expected.blake3 {
        return Err(damaged(&path, "its bytes are not those that were saved".into()));
    }
    Ok(bytes)
}

/// Writes checkpoints and tells of each once it is whole.
pub struct EpochWriter {
    run_dir: PathBuf,
    events: Events,
    steps_per_epoch: u64,
    /// Parts written so far, by epoch.
    written: Mutex<BTreeMap<u32, BTreeMap<String, FileHash>>>,
}

impl EpochWriter {
    pub fn new(run_dir: PathBuf, events: Events, steps_per_epoch: u64) -> Arc<Self> {
        Arc::new(Self { run_dir, events, steps_per_epoch, written: Mutex::new(BTreeMap::new()) })
    }

    fn write_part(&self, epoch: u32, part: &str, bytes: &[u8]) -> Result<(), CheckpointError> {
        let partial = self.run_dir.join(format!("checkpoints/.epoch-{epoch:04}.partial"));
        at(&partial, fs::create_dir_all(&partial))?;
        write_synced(&partial.join(part), bytes)?;
        let hash = FileHash { n_bytes: bytes.len() as u64, blake3: blake3::hash(bytes).to_hex().to_string() };
        let mut written = self.written.lock().expect("nothing panics while it holds this lock");
        let files = written.entry(epoch).or_default();
        files.insert(part.to_owned(), hash);
        if files.len() == PARTS.len() {
            let files = written.remove(&epoch).unwrap_or_default();
            self.complete(epoch, files, &partial)?;
        }
        Ok(())
    }

    fn complete(&self, epoch: u32, files: BTreeMap<String, FileHash>, partial: &Path) -> Result<(), CheckpointError> {
        let step = u64::from(epoch) * self.steps_per_epoch;
        let n_bytes = files.values().map(|file| file.n_bytes).sum();
        let manifest = Manifest { format: FORMAT, epoch, step, files };
        let text = serde_json::to_vec_pretty(&manifest).expect("a manifest has string keys");
        write_synced(&partial.join("manifest"), &text)?;
        at(partial, sync_folder(partial))?;
        let whole = self.run_dir.join(folder(epoch));
        at(&whole, fs::rename(partial, &whole))?;
        at(&whole, sync_folder(&self.run_dir.join("checkpoints")))?;
        let manifest_hash = blake3::hash(&text).to_hex().to_string();
        self.events.send(Event::CheckpointSaved(SavedCheckpoint {
            epoch,
            step,
            path: folder(epoch),
            n_bytes,
            manifest_hash,
        }));
        Ok(())
    }
}

/// One of the three checkpointers that burn-train drives.
pub struct PartWriter {
    writer: Arc<EpochWriter>,
    part: &'static str,
    /// What the training goes on from, where that is not the file.
    restored: Option<Vec<u8>>,
}

impl PartWriter {
    /// The writers of model, optimizer and learning-rate schedule.
    pub fn all(writer: &Arc<EpochWriter>) -> [Self; 3] {
        PARTS.map(|part| Self { writer: Arc::clone(writer), part, restored: None })
    }

    /// Restores these bytes in place of the file's.
    pub fn restoring(self, bytes: Option<Vec<u8>>) -> Self {
        Self { restored: bytes, ..self }
    }
}

impl<R: Checkpoint> Checkpointer<R> for PartWriter {
    fn save(&self, epoch: usize, record: R) -> Result<(), CheckpointerError> {
        let bytes = record.checkpoint_into_bytes().map_err(CheckpointerError::Record)?;
        self.writer.write_part(epoch as u32, self.part, &bytes).map_err(|e| CheckpointerError::Unknown(e.to_string()))
    }

    /// Old checkpoints are removed by whoever commits the newer ones.
    fn delete(&self, _: usize) -> Result<(), CheckpointerError> {
        Ok(())
    }

    fn restore(&self, epoch: usize) -> Result<R, CheckpointerError> {
        let bytes = match &self.restored {
            Some(bytes) => bytes.clone(),
            None => read_part(&self.writer.run_dir, epoch as u32, self.part)
                .map_err(|e| CheckpointerError::Unknown(e.to_string()))?,
        };
        R::checkpoint_from_bytes(Bytes::from_bytes_vec(bytes)).map_err(CheckpointerError::Record)
    }
}

/// Saves after every epoch: which checkpoints stay is decided once an epoch is committed.
pub struct EveryEpoch;

impl CheckpointingStrategy for EveryEpoch {
    fn checkpointing(&mut self, epoch: usize, store: &EventStoreClient) -> Vec<CheckpointingAction> {
        // The next epoch's learning rate may depend on what this one measured.
        wait_for_metrics(epoch, store);
        vec![CheckpointingAction::Save]
    }
}

fn at<T>(path: &Path, result: io::Result<T>) -> Result<T, CheckpointError> {
    result.map_err(|source| CheckpointError::Io { path: path.to_owned(), source })
}

fn read(path: &Path) -> Result<Vec<u8>, CheckpointError> {
    at(path, fs::read(path))
}

fn write_synced(path: &Path, bytes: &[u8]) -> Result<(), CheckpointError> {
    let write = || {
        let mut file = File::create(path)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    at(path, write())
}

/// Makes new names in a folder survive a power cut; where folders cannot be opened there is nothing to do.
fn sync_folder(path: &Path) -> io::Result<()> {
    if cfg!(unix) { File::open(path)?.sync_all() } else { Ok(()) }
}
