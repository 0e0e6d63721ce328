//! What frozen layers gave for images, on disk: computed once, found again by what it was computed from.
//!
//! A folder holds the rows that one network made in one way ([`Facts`]); a row is found by the hash of its image's
//! content, so that renaming files or adding some computes nothing twice. Rows lie in shards ([`shard`]), which are
//! whole or not there. Several processes may use a folder; one of them writes at a time. Where two locks meet, the one
//! on `in-use.lock` is shared by everyone who reads and exclusive to whoever deletes; `writing.lock` belongs to the writer.
//!
//! Rows are read by their place and not mapped into memory: that needs `unsafe`, and a file that is cut short under its
//! mapping ends the process. The kernel's page cache does the same work.

pub mod rows;
pub mod shard;

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::spec::schema::cache::{ByteSize, Cache, Precision};

/// The version of the folder's files, and of how rows are computed where nothing else tells: the decoders, the resizing
/// and the order of the additions.
pub const FORMAT: u32 = 2;

const FACTS: &str = "rows.json";
const IN_USE: &str = "in-use.lock";
const WRITING: &str = "writing.lock";

/// All that decides what a row is, but its image.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Facts {
    pub format: u32,
    pub backbone: String,
    /// The last row of the frozen part.
    pub cut: String,
    /// Hash of the backbone's weights.
    pub weights: String,
    /// What pixels went through.
    pub preprocessing: Value,
    /// Size, interpolation and orientation of the images.
    pub images: Value,
    /// Random changes, where a row is a view of an image.
    pub views: Option<Value>,
    pub precision: Precision,
    /// Channels, height and width of a row.
    pub shape: [usize; 3],
    /// Device class, instruction set and version of `xp`.
    pub kernel: String,
}

impl Facts {
    pub fn n_values(&self) -> usize {
        self.shape.iter().product()
    }

    /// Bytes of a row on disk.
    pub fn row_bytes(&self) -> usize {
        self.n_values() * self.precision.n_bytes()
    }

    /// The name of its folder.
    fn id(&self) -> String {
        let text = serde_json::to_string(self).expect("facts have string keys");
        blake3::hash(text.as_bytes()).to_hex()[..16].to_owned()
    }
}

/// Why rows on disk cannot be used; what is asked for can still be computed.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    #[error("use {}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },

    #[error("use {}: {reason}", path.display())]
    Damaged { path: PathBuf, reason: &'static str },

    #[error("keep {needed} more within `cache.budget`, which is {budget}")]
    NoRoom { needed: ByteSize, budget: ByteSize },

    #[error("stopped")]
    Stopped,
}

impl CacheError {
    fn at(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { path, source }
    }
}

/// The folder of all rows, and how large it may become.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeatureCache {
    pub dir: PathBuf,
    pub budget_bytes: u64,
}

/// One folder of rows, as `xp cache list` shows it.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    pub id: String,
    /// `None` where it cannot be read.
    pub facts: Option<Facts>,
    pub n_rows: u64,
    pub n_bytes: u64,
    pub last_used: Option<SystemTime>,
    pub is_in_use: bool,
}

impl FeatureCache {
    /// The cache that a spec asks for, if it does.
    pub fn of_spec(spec: &Cache, dir: PathBuf) -> Option<Self> {
        spec.enabled.then_some(Self { dir, budget_bytes: spec.budget.0 })
    }

    /// All folders, the least recently used first.
    pub fn entries(&self) -> Result<Vec<Entry>, CacheError> {
        let mut entries = Vec::new();
        for folder in folders(&self.dir)? {
            entries.push(entry(&folder)?);
        }
        entries.sort_by(|a, b| (a.last_used, &a.id).cmp(&(b.last_used, &b.id)));
        Ok(entries)
    }

    /// Deletes a folder; false where another process uses it.
    pub fn remove(&self, id: &str) -> Result<bool, CacheError> {
        let folder = self.dir.join(id);
        let Some(_lock) = unused(&folder)? else { return Ok(false) };
        // The facts go first: a folder without them is taken for empty.
        let facts = folder.join(FACTS);
        match fs::remove_file(&facts) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(CacheError::at(&facts)(error)),
            _ => {}
        }
        fs::remove_dir_all(&folder).map_err(CacheError::at(&folder))?;
        Ok(true)
    }

    /// Deletes what was not used for longest until so many bytes more fit in the budget. Errors: they cannot.
    ///
    /// Neither the folder of `facts` nor one that is in use is deleted.
    pub fn make_room(&self, facts: &Facts, n_bytes: u64) -> Result<(), CacheError> {
        let no_room = || CacheError::NoRoom { needed: ByteSize(n_bytes), budget: ByteSize(self.budget_bytes) };
        let entries = self.entries()?;
        let mut used: u64 = entries.iter().map(|entry| entry.n_bytes).sum();
        let own = facts.id();
        let kept: u64 = entries.iter().filter(|entry| entry.id == own).map(|entry| entry.n_bytes).sum();
        if kept.saturating_add(n_bytes) > self.budget_bytes {
            return Err(no_room());
        }
        for entry in entries.iter().filter(|entry| entry.id != own) {
            if used.saturating_add(n_bytes) <= self.budget_bytes {
                break;
            }
            if self.remove(&entry.id)? {
                used -= entry.n_bytes;
            }
        }
        if used.saturating_add(n_bytes) <= self.budget_bytes { Ok(()) } else { Err(no_room()) }
    }
}

fn folders(dir: &Path) -> Result<Vec<PathBuf>, CacheError> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(CacheError::at(dir)(error)),
    };
    let mut folders = Vec::new();
    for entry in entries {
        let path = entry.map_err(CacheError::at(dir))?.path();
        if path.is_dir() {
            folders.push(path);
        }
    }
    Ok(folders)
}

fn entry(folder: &Path) -> Result<Entry, CacheError> {
    let id = folder.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let mut entry = Entry { id, facts: read_facts(folder), n_rows: 0, n_bytes: 0, last_used: None, is_in_use: false };
    for file in fs::read_dir(folder).map_err(CacheError::at(folder))? {
        let path = file.map_err(CacheError::at(folder))?.path();
        // It may be deleted meanwhile.
        let Ok(metadata) = path.metadata() else { continue };
        entry.n_bytes += metadata.len();
        if path.file_name().is_some_and(|name| name == IN_USE) {
            entry.last_used = metadata.modified().ok();
        }
        if let (true, Some(facts)) = (shard::is_shard(&path), &entry.facts) {
            entry.n_rows += shard::Shard::open(&path, facts.row_bytes()).map_or(0, |shard| shard.n_rows());
        }
    }
    entry.is_in_use = unused(folder)?.is_none();
    Ok(entry)
}

fn read_facts(folder: &Path) -> Option<Facts> {
    serde_json::from_slice(&fs::read(folder.join(FACTS)).ok()?).ok()
}

/// The exclusive right to a folder, while nobody uses it.
fn unused(folder: &Path) -> Result<Option<File>, CacheError> {
    let path = folder.join(IN_USE);
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => lock_file(&path)?,
        Err(error) => return Err(CacheError::at(&path)(error)),
    };
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(CacheError::at(&path)(error)),
    }
}

fn lock_file(path: &Path) -> Result<File, CacheError> {
    File::options().create(true).truncate(false).write(true).open(path).map_err(CacheError::at(path))
}

#[cfg(test)]
mod tests;
