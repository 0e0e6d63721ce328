//! One folder of rows, open for reading, and for writing by one process at a time.

use std::collections::HashMap;
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, SystemTime};

use half::f16;
use half::slice::HalfFloatSliceExt;

use crate::data::feature_cache::shard::{self, RowKey, Shard};
use crate::data::feature_cache::{CacheError, FACTS, Facts, FeatureCache, IN_USE, WRITING, lock_file};
use crate::run::stop::StopFlag;
use crate::spec::schema::cache::Precision;

/// Between two looks whether another writer is done.
const WAIT: Duration = Duration::from_millis(50);

/// The rows of one folder; while it is open, nobody deletes them.
#[derive(Debug)]
pub struct Rows {
    folder: PathBuf,
    facts: Facts,
    shards: Vec<Shard>,
    places: HashMap<RowKey, Place>,
    damaged: Vec<PathBuf>,
    _in_use: File,
}

/// Where a row lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    shard: u32,
    row: u32,
}

/// The right to add rows to a folder.
#[derive(Debug)]
pub struct RowWriter {
    folder: PathBuf,
    precision: Precision,
    row_bytes: usize,
    shard: Option<shard::Writer>,
    _writing: File,
}

impl Rows {
    /// Opens the folder of these facts, which is made where it is missing.
    pub fn open(cache: &FeatureCache, facts: &Facts) -> Result<Self, CacheError> {
        let folder = cache.dir.join(facts.id());
        let in_use = claim(&folder)?;
        // Says when it was used last; that it does not work on some file system costs nothing but order.
        let _ = in_use.set_modified(SystemTime::now());
        let path = folder.join(FACTS);
        if !path.exists() {
            let text = format!("{:#}\n", serde_json::to_value(facts).expect("facts have string keys"));
            let file = tempfile::NamedTempFile::new_in(&folder).map_err(CacheError::at(&folder))?;
            fs::write(file.path(), text).map_err(CacheError::at(&path))?;
            file.persist(&path).map_err(|error| CacheError::at(&path)(error.error))?;
        }
        let mut rows = Self {
            folder,
            facts: facts.clone(),
            shards: Vec::new(),
            places: HashMap::new(),
            damaged: Vec::new(),
            _in_use: in_use,
        };
        rows.look_again()?;
        Ok(rows)
    }

    /// Takes in what was written since.
    pub fn look_again(&mut self) -> Result<(), CacheError> {
        let mut paths = Vec::new();
        for entry in fs::read_dir(&self.folder).map_err(CacheError::at(&self.folder))? {
            paths.push(entry.map_err(CacheError::at(&self.folder))?.path());
        }
        paths.sort();
        for path in paths.into_iter().filter(|path| shard::is_shard(path)) {
            let is_known = self.shards.iter().any(|shard| shard.path == path) || self.damaged.contains(&path);
            if is_known {
                continue;
            }
            match Shard::open(&path, self.facts.row_bytes()) {
                Ok(shard) => self.add(shard),
                Err(CacheError::Damaged { path, .. }) => self.damaged.push(path),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn add(&mut self, shard: Shard) {
        let number = u32::try_from(self.shards.len()).expect("a folder has fewer shards");
        for (row, entry) in (0..).zip(&shard.entries) {
            self.places.entry(entry.key).or_insert(Place { shard: number, row });
        }
        self.shards.push(shard);
    }

    pub fn find(&self, key: &RowKey) -> Option<Place> {
        self.places.get(key).copied()
    }

    /// Whether a row's image is stored turned or mirrored and says so.
    pub fn is_turned(&self, place: Place) -> bool {
        self.shards[place.shard as usize].entries[place.row as usize].is_turned
    }

    /// Shards that cannot be used; the next writer deletes them.
    pub fn damaged(&self) -> &[PathBuf] {
        &self.damaged
    }

    /// Gives up the shard that a row lies in, and all of its rows.
    pub fn give_up(&mut self, place: Place) {
        let path = self.shards[place.shard as usize].path.clone();
        self.places.retain(|_, other| other.shard != place.shard);
        if !self.damaged.contains(&path) {
            self.damaged.push(path);
        }
    }

    /// Reads a row and checks it against its checksum. Errors: it is not what was written.
    pub fn read(&self, place: Place, values: &mut [f32]) -> Result<(), CacheError> {
        let shard = &self.shards[place.shard as usize];
        match self.facts.precision {
            Precision::F32 => shard.read(place.row as usize, bytemuck::cast_slice_mut(values)),
            Precision::F16 => {
                let mut halves = vec![f16::ZERO; values.len()];
                shard.read(place.row as usize, bytemuck::cast_slice_mut(&mut halves))?;
                halves.convert_to_f32_slice(values);
                Ok(())
            }
        }
    }

    /// Waits until no other process adds rows, and takes in what it has added; `on_wait` is called where it must wait.
    pub fn writer(&mut self, stop: &StopFlag, on_wait: impl FnOnce()) -> Result<RowWriter, CacheError> {
        let path = self.folder.join(WRITING);
        let writing = lock_file(&path)?;
        let mut on_wait = Some(on_wait);
        loop {
            match writing.try_lock() {
                Ok(()) => break,
                Err(TryLockError::Error(error)) => return Err(CacheError::at(&path)(error)),
                Err(TryLockError::WouldBlock) if stop.is_raised() => return Err(CacheError::Stopped),
                Err(TryLockError::WouldBlock) => {
                    if let Some(tell) = on_wait.take() {
                        tell();
                    }
                    thread::sleep(WAIT);
                }
            }
        }
        shard::remove_partial(&self.folder).map_err(CacheError::at(&self.folder))?;
        for path in std::mem::take(&mut self.damaged) {
            if let Some(shard) = self.shards.iter().position(|shard| shard.path == path) {
                self.forget(shard);
            }
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(CacheError::at(&path)(error)),
                _ => {}
            }
        }
        self.look_again()?;
        Ok(RowWriter {
            folder: self.folder.clone(),
            precision: self.facts.precision,
            row_bytes: self.facts.row_bytes(),
            shard: None,
            _writing: writing,
        })
    }

    /// A shard that was given up keeps its number, so that places stay what they are.
    fn forget(&mut self, shard: usize) {
        self.shards[shard].path = PathBuf::new();
        self.shards[shard].entries.clear();
    }
}

impl RowWriter {
    /// Adds a row.
    pub fn append(&mut self, key: &RowKey, is_turned: bool, values: &[f32]) -> Result<(), CacheError> {
        let at = || CacheError::at(&self.folder);
        let mut shard = match self.shard.take() {
            Some(shard) => shard,
            None => shard::Writer::begin(&self.folder, self.row_bytes).map_err(at())?,
        };
        let appended = match self.precision {
            Precision::F32 => shard.append(key, is_turned, bytemuck::cast_slice(values)),
            Precision::F16 => {
                let halves: Vec<f16> = values.iter().map(|value| f16::from_f32(*value)).collect();
                shard.append(key, is_turned, bytemuck::cast_slice(&halves))
            }
        };
        appended.map_err(at())?;
        match shard.is_full() {
            true => shard.finish(&self.folder).map_err(at())?,
            false => self.shard = Some(shard),
        }
        Ok(())
    }

    /// Writes what there is; rows that were added before an interruption stay too.
    pub fn finish(mut self) -> Result<(), CacheError> {
        match self.shard.take() {
            Some(shard) => shard.finish(&self.folder).map_err(CacheError::at(&self.folder)),
            None => Ok(()),
        }
    }
}

/// A shared lock on a folder that is there: one may be deleted between its making and its locking.
fn claim(folder: &std::path::Path) -> Result<File, CacheError> {
    let path = folder.join(IN_USE);
    loop {
        fs::create_dir_all(folder).map_err(CacheError::at(folder))?;
        let file = match lock_file(&path) {
            Err(CacheError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => continue,
            file => file?,
        };
        file.lock_shared().map_err(CacheError::at(&path))?;
        if path.exists() {
            return Ok(file);
        }
    }
}
