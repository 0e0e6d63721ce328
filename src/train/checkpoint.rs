//! Checkpoints on disk: `epoch-0005/{trained.safetensors,optimizer.safetensors,manifest.json}`, whole or not there.
//!
//! docs/formats.md describes them. A checkpoint is known by the hash of its manifest, which is recorded with the run, and
//! the manifest has the hashes of the other files; whoever reads one of them gets it through [`Checkpoint::open`].

pub mod format_3;
pub mod names;
pub mod objects;
mod records;
pub mod tensors;
pub mod writer;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use burn::optim::OptimizerRecord;
use burn::store::ModuleRecord;
use burn::tensor::Bytes;
use serde::{Deserialize, Serialize};

use crate::models::classifier::NetworkPlan;
use crate::run::event::SavedCheckpoint;
use crate::train::checkpoint::tensors::Tensors;

/// The format that is written.
pub const FORMAT: u32 = 4;

const MANIFEST: &str = "manifest.json";
const TRAINED: &str = "trained.safetensors";
const OPTIMIZER: &str = "optimizer.safetensors";

/// What a checkpoint consists of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    pub format: u32,
    pub epoch: u32,
    /// Optimizer steps taken.
    pub step: u64,
    /// The version of the xp that wrote it.
    #[serde(default)]
    pub xp: String,
    /// The network's rows below the head: `efficientnet_lite0`.
    #[serde(default)]
    pub backbone: String,
    /// Each file's size and hash, by name. All but the optimizer's stay as long as the checkpoint.
    pub files: BTreeMap<String, FileHash>,
    /// Each row of which something does not train, by name, with the object that holds its tensors.
    #[serde(default)]
    pub frozen: BTreeMap<String, String>,
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
    #[error(
        "{} is of format {found}, and this xp reads 3 and {FORMAT}: an xp of that time reads it, and `xp rerun` trains the run \
         anew",
        path.display()
    )]
    Format { path: PathBuf, found: u32 },
    #[error("no checkpoint of epoch {epoch} is recorded")]
    Unrecorded { epoch: u32 },
}

/// The folder of an epoch's checkpoint, relative to the run's.
pub fn folder(epoch: u32) -> PathBuf {
    PathBuf::from(format!("checkpoints/epoch-{epoch:04}"))
}

/// A run's checkpoints that count, by epoch: those of its record and those that it has written since.
#[derive(Clone, Debug)]
pub struct Checkpoints {
    run_dir: PathBuf,
    saved: Arc<Mutex<BTreeMap<u32, SavedCheckpoint>>>,
}

impl Checkpoints {
    pub fn new(run_dir: &Path, recorded: &[SavedCheckpoint]) -> Self {
        let saved = recorded.iter().map(|saved| (saved.epoch, saved.clone())).collect();
        Self { run_dir: run_dir.to_owned(), saved: Arc::new(Mutex::new(saved)) }
    }

    fn add(&self, saved: SavedCheckpoint) {
        self.saved.lock().expect("nothing panics while it holds this lock").insert(saved.epoch, saved);
    }

    /// Opens an epoch's checkpoint.
    pub fn open(&self, epoch: u32) -> Result<Checkpoint, CheckpointError> {
        let saved = self.saved.lock().expect("nothing panics while it holds this lock").get(&epoch).cloned();
        Checkpoint::open(&self.run_dir, &saved.ok_or(CheckpointError::Unrecorded { epoch })?)
    }
}

/// A checkpoint whose manifest is the one that was recorded.
#[derive(Clone, Debug)]
pub struct Checkpoint {
    folder: PathBuf,
    manifest: Manifest,
}

impl Checkpoint {
    /// Reads the manifest and checks it against its recorded hash.
    pub fn open(run_dir: &Path, saved: &SavedCheckpoint) -> Result<Self, CheckpointError> {
        let folder = run_dir.join(&saved.path);
        // While a checkpoint is converted both manifests are there, and the record says which one counts.
        for name in [MANIFEST, format_3::MANIFEST] {
            let path = folder.join(name);
            match read(&path) {
                Ok(bytes) if blake3::hash(&bytes).to_hex().as_str() == saved.manifest_hash => {
                    return Self::of_manifest(folder, &path, &bytes);
                }
                Ok(_) => {}
                Err(CheckpointError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        let there = [format_3::MANIFEST, MANIFEST].map(|name| folder.join(name)).into_iter().find(|path| path.exists());
        match there {
            Some(path) => Err(damaged(&path, "it is not the one that was recorded".to_owned())),
            None => at(&folder.join(MANIFEST), Err(io::ErrorKind::NotFound.into())),
        }
    }

    fn of_manifest(folder: PathBuf, path: &Path, bytes: &[u8]) -> Result<Self, CheckpointError> {
        #[derive(Deserialize)]
        struct Version {
            format: u32,
        }
        let unreadable = |error: serde_json::Error| damaged(path, error.to_string());
        let Version { format } = serde_json::from_slice(bytes).map_err(unreadable)?;
        if format != FORMAT && format != format_3::FORMAT {
            return Err(CheckpointError::Format { path: path.to_owned(), found: format });
        }
        Ok(Self { folder, manifest: serde_json::from_slice(bytes).map_err(unreadable)? })
    }

    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Whether it is of the format that is written now.
    pub fn is_current(&self) -> bool {
        self.manifest.format == FORMAT
    }

    /// Checks that a training can go on from it: every file is there and whole.
    pub fn verify(&self) -> Result<(), CheckpointError> {
        self.manifest.files.keys().try_for_each(|name| self.read(name).map(drop))
    }

    /// Checks that the network can be had from it.
    pub fn verify_trained(&self) -> Result<(), CheckpointError> {
        self.read(if self.is_current() { TRAINED } else { format_3::MODEL }).map(drop)
    }

    /// The tensors that train; `network` is that of the epoch.
    pub fn trained(&self, network: &NetworkPlan) -> Result<Tensors, CheckpointError> {
        match self.is_current() {
            true => self.tensors(TRAINED),
            false => self.translated(format_3::MODEL, |record| records::trained(record, network)),
        }
    }

    /// The optimizer's state as `<tensor>.<slot>`.
    pub fn optimizer_state(&self, network: &NetworkPlan) -> Result<Tensors, CheckpointError> {
        match self.is_current() {
            true => self.tensors(OPTIMIZER),
            false => self.translated(format_3::OPTIMIZER, |record| records::optimizer_state(record, network)),
        }
    }

    /// A record for a network of the epoch that has its frozen tensors already.
    pub fn module_record(&self, network: &NetworkPlan) -> Result<ModuleRecord, CheckpointError> {
        let tensors = self.trained(network)?;
        records::module_record(tensors, network).map_err(|reason| damaged(&self.folder.join(TRAINED), reason))
    }

    /// A record for the optimizer of a network in which at least that train which train in the epoch's.
    pub fn optimizer_record(&self, network: &NetworkPlan) -> Result<OptimizerRecord, CheckpointError> {
        let state = self.optimizer_state(network)?;
        records::optimizer_record(state, network).map_err(|reason| damaged(&self.folder.join(OPTIMIZER), reason))
    }

    fn tensors(&self, name: &str) -> Result<Tensors, CheckpointError> {
        tensors::from_bytes(&self.read(name)?).map_err(|reason| damaged(&self.folder.join(name), reason))
    }

    fn translated(
        &self,
        name: &str,
        translate: impl FnOnce(Bytes) -> Result<Tensors, String>,
    ) -> Result<Tensors, CheckpointError> {
        let record = Bytes::from_bytes_vec(self.read(name)?);
        translate(record).map_err(|reason| damaged(&self.folder.join(name), reason))
    }

    /// Reads a file and checks it against the manifest.
    fn read(&self, name: &str) -> Result<Vec<u8>, CheckpointError> {
        let path = self.folder.join(name);
        let expected =
            self.manifest.files.get(name).ok_or_else(|| damaged(&path, "the manifest lists no such file".into()))?;
        let bytes = read(&path)?;
        match blake3::hash(&bytes).to_hex().as_str() == expected.blake3 {
            true => Ok(bytes),
            false => Err(damaged(&path, "its bytes are not those that were saved".into())),
        }
    }

    /// Removes what no training goes on from: the optimizer's state, once a later epoch is committed. Tells how many bytes
    /// the files have that stay; `None` where there was nothing to remove.
    pub fn without_optimizer(&self) -> io::Result<Option<u64>> {
        match self.is_current() && remove(&self.folder.join(OPTIMIZER))? {
            true => Ok(Some(self.n_bytes(|name| name != OPTIMIZER))),
            false => Ok(None),
        }
    }

    /// Removes what an earlier format left here.
    pub fn sweep(&self) -> io::Result<()> {
        if self.is_current() {
            for name in format_3::FILES {
                remove(&self.folder.join(name))?;
            }
        }
        Ok(())
    }

    fn n_bytes(&self, counts: impl Fn(&str) -> bool) -> u64 {
        self.manifest.files.iter().filter(|(name, _)| counts(name)).map(|(_, file)| file.n_bytes).sum()
    }
}

impl Manifest {
    /// Writes it beside the files that it lists; tells what is recorded of the checkpoint in this folder.
    fn write(&self, folder: &Path, path: PathBuf) -> Result<SavedCheckpoint, CheckpointError> {
        let text = serde_json::to_vec_pretty(self).expect("a manifest has string keys");
        write_synced(&folder.join(MANIFEST), &text)?;
        at(folder, sync_folder(folder))?;
        Ok(SavedCheckpoint {
            epoch: self.epoch,
            step: self.step,
            path,
            n_bytes: self.files.values().map(|file| file.n_bytes).sum(),
            manifest_hash: blake3::hash(&text).to_hex().to_string(),
        })
    }
}

/// Writes a file of tensors; tells what the manifest says of it.
fn write_tensors(path: &Path, tensors: &Tensors) -> Result<FileHash, CheckpointError> {
    let bytes = tensors::to_bytes(tensors).map_err(|reason| damaged(path, reason))?;
    write_synced(path, &bytes)?;
    Ok(FileHash { n_bytes: bytes.len() as u64, blake3: blake3::hash(&bytes).to_hex().to_string() })
}

fn damaged(path: &Path, reason: String) -> CheckpointError {
    CheckpointError::Damaged { path: path.to_owned(), reason }
}

fn at<T>(path: &Path, result: io::Result<T>) -> Result<T, CheckpointError> {
    result.map_err(|source| CheckpointError::Io { path: path.to_owned(), source })
}

fn read(path: &Path) -> Result<Vec<u8>, CheckpointError> {
    at(path, fs::read(path))
}

/// Removes a file; whether there was one.
fn remove(path: &Path) -> io::Result<bool> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
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
