//! The folder that features are written to: its files, what they were made of, and how an interrupted one goes on.
//!
//! A file is written under a name that ends in `.part`, with the hash of every row beside it, and gets its own name when
//! it is whole. Rows whose hashes still agree are kept, so that neither a kill nor a lost write leaves a wrong row.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::data::features::FeatureShape;
use crate::data::images::Images;
use crate::data::npy::Header;
use crate::run::event::{SkippedInput, SplitFacts};
use crate::run::metric::Split;
use crate::spec::fingerprint;
use crate::train::plan::Plan;

/// The version of the folder's layout.
const FORMAT: u32 = 1;

/// What says what the files were made of.
pub const MANIFEST: &str = "manifest.json";

/// What the manifest is called while there is work to do.
const UNFINISHED: &str = "manifest.part.json";

const CLASSES: &str = "classes.json";

/// Bytes of a row's hash.
const HASH_BYTES: usize = 32;

/// Why a folder of features cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    #[error("write {}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("write into {}: it is not a folder that `xp features` made, and it is not empty", path.display())]
    Foreign { path: PathBuf },
    #[error("write into {}: another process is writing into it", path.display())]
    InUse { path: PathBuf },
    #[error(
        "go on in {}: its features were made with another {}; name another folder, or replace them with `--force`",
        path.display(), differing.join(", ")
    )]
    MadeOfOther { path: PathBuf, differing: Vec<&'static str> },
    #[error("keep {}: it has changed since it was written; `--force` writes all files anew", path.display())]
    Changed { path: PathBuf },
}

/// Whether features that lie in the folder may be replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overwrite {
    Never,
    Always,
}

/// All that decides the numbers in the files.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MadeOf {
    /// The version of xp.
    pub xp: String,
    /// `cpu` or `cuda`, whose sums differ in their last digits.
    pub device: String,
    pub backbone: String,
    /// The row whose output the features are.
    pub layer: String,
    pub weights_hash: String,
    /// Which of the file's tensors were meant, where the spec says so.
    #[serde(default)]
    pub selection: Value,
    pub preprocessing: Value,
    pub images: Value,
    /// Height, width and channels of a row.
    pub shape: [u32; 3],
    pub classes: Vec<String>,
    pub data: Vec<SplitFacts>,
}

impl MadeOf {
    /// What differs of the networks that two sets of features were made by, and of what those saw of an image.
    pub fn differs_from(&self, other: &Self) -> Vec<&'static str> {
        let pairs = [
            ("backbone", self.backbone != other.backbone),
            ("layer", self.layer != other.layer),
            ("weights", self.weights_hash != other.weights_hash || self.selection != other.selection),
            ("preprocessing", self.preprocessing != other.preprocessing),
            ("image size, filter or orientation", self.images != other.images),
            ("shape", self.shape != other.shape),
        ];
        pairs.into_iter().filter(|(_, differs)| *differs).map(|(name, _)| name).collect()
    }
}

/// What a folder of features says of itself, once it is whole.
pub fn finished(folder: &Path) -> Option<Record> {
    parsed(&folder.join(MANIFEST))
}

/// The manifest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    pub format: u32,
    pub made_of: MadeOf,
    /// The whole spec; keys that say nothing about features may differ.
    pub spec: Value,
    /// Where that spec was, to which its paths are relative.
    #[serde(default)]
    pub spec_path: Option<PathBuf>,
    /// What should be known of the weights and the images.
    #[serde(default)]
    pub warnings: Vec<String>,
    /// Which tensors of the weights' file were taken, where that is not plain.
    #[serde(default)]
    pub notes: Vec<String>,
    /// The splits that are written.
    pub splits: Vec<SplitFiles>,
}

/// The files of one split.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SplitFiles {
    pub split: Split,
    pub features: FileFacts,
    pub labels: FileFacts,
    /// The images in the order of the rows.
    pub files: FileFacts,
    /// Images that were left out.
    pub skipped: Vec<SkippedInput>,
}

/// A file that is whole.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FileFacts {
    /// Relative to the folder.
    pub name: String,
    /// Of its array; empty for a text.
    pub shape: Vec<u64>,
    pub n_bytes: u64,
    pub blake3: String,
}

/// The folder while it is written into by this process alone.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    overwrite: Overwrite,
    record: Option<Record>,
    /// Held for its lock.
    _lock: Option<File>,
}

impl Folder {
    /// Takes a folder that is new, empty or of this kind.
    pub fn claim(path: &Path, overwrite: Overwrite) -> Result<Self, FolderError> {
        fs::create_dir_all(path).map_err(at(path))?;
        let lock = lock(path)?;
        let record = read_record(path);
        // A process that was killed before it had written the first manifest may have left its beginning.
        let begun = format!("{UNFINISHED}.new");
        let mut entries = fs::read_dir(path).map_err(at(path))?;
        let is_empty = entries.all(|entry| entry.is_ok_and(|entry| entry.file_name() == begun.as_str()));
        if record.is_none() && !is_empty {
            return Err(FolderError::Foreign { path: path.to_owned() });
        }
        Ok(Self { path: path.to_owned(), overwrite, record, _lock: lock })
    }

    /// Goes on with what lies there, where it was made of the same; else begins anew, or refuses to.
    pub fn begin(&mut self, made_of: MadeOf, plan: &Plan, spec_path: &Path) -> Result<(), FolderError> {
        if self.overwrite == Overwrite::Always {
            self.clear()?;
        }
        if let Some(record) = &self.record {
            let differing = differing(&record.made_of, &made_of);
            if differing.is_empty() {
                return Ok(());
            }
            return Err(FolderError::MadeOfOther { path: self.path.clone(), differing });
        }
        self.record = Some(Record {
            format: FORMAT,
            made_of,
            spec: fingerprint::resolved(&plan.spec),
            spec_path: Some(std::path::absolute(spec_path).map_err(at(spec_path))?),
            warnings: plan.warnings.clone(),
            notes: plan.notes.clone(),
            splits: Vec::new(),
        });
        self.write_record(UNFINISHED)
    }

    /// Removes the files of this kind, and nothing else.
    fn clear(&mut self) -> Result<(), FolderError> {
        for split in [Split::Train, Split::Valid, Split::Test] {
            let (names, part) = (Names::of(split), self.path.join(part_name(split)));
            for path in [&names.features, &names.labels, &names.files].map(|name| self.path.join(name)) {
                remove(&path)?;
            }
            remove(&hashes_path(&part))?;
            remove(&part)?;
        }
        for name in [CLASSES, MANIFEST, UNFINISHED] {
            remove(&self.path.join(name))?;
        }
        self.record = None;
        Ok(())
    }

    fn record(&self) -> &Record {
        self.record.as_ref().expect("the folder was begun")
    }

    /// Whether a split's files are all there, as they were written.
    pub fn has(&self, split: Split) -> Result<bool, FolderError> {
        let Some(files) = self.record().splits.iter().find(|files| files.split == split) else { return Ok(false) };
        for facts in [&files.features, &files.labels, &files.files] {
            let path = self.path.join(&facts.name);
            if file_facts(&path, facts.shape.clone()).ok().as_ref() != Some(facts) {
                return Err(FolderError::Changed { path });
            }
        }
        Ok(true)
    }

    /// The file of a split's features with the rows that an earlier process left, down to a whole number of batches:
    /// a row may depend on what it is computed together with.
    pub fn rows(&self, split: Split, n: u64, shape: FeatureShape, batch: u64) -> Result<Rows, FolderError> {
        let header = Header::of("<f4", &shape_of(n, shape));
        Rows::open(split, self.path.join(part_name(split)), &header, shape.n_bytes(), batch)
    }

    /// Gives a split's files their names and records them.
    pub fn finish(&mut self, rows: Rows, images: &Images) -> Result<(), FolderError> {
        let [height, width, channels] = self.record().made_of.shape;
        let n = images.len() as u64;
        let (split, names) = (rows.split, Names::of(rows.split));
        let labels = images.labels().iter().flat_map(|&label| i64::from(label).to_le_bytes()).collect();
        let labels = [Header::of("<i8", &[n]).bytes(), labels].concat();
        write_whole(&self.path.join(&names.labels), &labels)?;
        write_whole(&self.path.join(&names.files), &files_csv(images).map_err(at(&self.path))?)?;
        let classes = serde_json::to_vec_pretty(images.classes()).expect("class names are text");
        write_whole(&self.path.join(CLASSES), &classes)?;
        rows.finish(&self.path.join(&names.features))?;
        let facts = |name: &str, shape| {
            let path = self.path.join(name);
            file_facts(&path, shape).map_err(at(&path))
        };
        let files = SplitFiles {
            split,
            features: facts(&names.features, shape_of(n, FeatureShape { height, width, channels }))?,
            labels: facts(&names.labels, vec![n])?,
            files: facts(&names.files, Vec::new())?,
            skipped: images.skipped().to_vec(),
        };
        self.record.as_mut().expect("the folder was begun").splits.push(files);
        self.write_record(UNFINISHED)
    }

    /// Ends the work: from now on the manifest has its own name.
    pub fn complete(self) -> Result<Record, FolderError> {
        self.write_record(MANIFEST)?;
        remove(&self.path.join(UNFINISHED))?;
        Ok(self.record.expect("the folder was begun"))
    }

    fn write_record(&self, name: &str) -> Result<(), FolderError> {
        let text = serde_json::to_vec_pretty(self.record()).expect("a record has string keys");
        write_whole(&self.path.join(name), &text)
    }
}

/// The features of a split while they are written.
#[derive(Debug)]
pub struct Rows {
    split: Split,
    path: PathBuf,
    file: File,
    hashes: File,
    row_bytes: usize,
    n_done: u64,
}

impl Rows {
    fn open(split: Split, path: PathBuf, header: &Header, row_bytes: usize, batch: u64) -> Result<Self, FolderError> {
        let opened = |path: &Path| {
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).map_err(at(path))
        };
        let hashes = opened(&hashes_path(&path))?;
        let mut rows = Self { split, file: opened(&path)?, hashes, path, row_bytes, n_done: 0 };
        rows.n_done = rows.n_sound(&header.bytes()).map_err(at(&rows.path))? / batch * batch;
        rows.cut(&header.bytes()).map_err(at(&rows.path))?;
        Ok(rows)
    }

    pub fn n_done(&self) -> u64 {
        self.n_done
    }

    /// Rows from the first on that are as they were written.
    fn n_sound(&self, header: &[u8]) -> io::Result<u64> {
        let (mut file, mut hashes) = (BufReader::new(&self.file), BufReader::new(&self.hashes));
        let mut found = vec![0; header.len()];
        if !filled(&mut file, &mut found)? || found != header {
            return Ok(0);
        }
        let (mut row, mut hash, mut n) = (vec![0; self.row_bytes], [0; HASH_BYTES], 0);
        while filled(&mut file, &mut row)? && filled(&mut hashes, &mut hash)? && blake3::hash(&row) == hash {
            n += 1;
        }
        Ok(n)
    }

    /// Cuts both files behind the last row that is done, and stands there.
    fn cut(&mut self, header: &[u8]) -> io::Result<()> {
        self.file.seek(SeekFrom::Start(0))?;
        self.file.write_all(header)?;
        let end = header.len() as u64 + self.n_done * self.row_bytes as u64;
        self.file.set_len(end)?;
        self.file.seek(SeekFrom::Start(end))?;
        self.hashes.set_len(self.n_done * HASH_BYTES as u64)?;
        self.hashes.seek(SeekFrom::End(0)).map(drop)
    }

    /// Writes whole rows behind those that are there.
    pub fn append(&mut self, values: &[f32]) -> Result<(), FolderError> {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        let rows = bytes.chunks_exact(self.row_bytes);
        let hashes: Vec<u8> = rows.flat_map(|row| *blake3::hash(row).as_bytes()).collect();
        self.file.write_all(&bytes).and_then(|()| self.hashes.write_all(&hashes)).map_err(at(&self.path))?;
        self.n_done += (bytes.len() / self.row_bytes) as u64;
        Ok(())
    }

    fn finish(self, to: &Path) -> Result<(), FolderError> {
        self.file.sync_all().map_err(at(&self.path))?;
        fs::rename(&self.path, to).map_err(at(to))?;
        remove(&hashes_path(&self.path))
    }
}

/// What the files of a split are called.
struct Names {
    features: String,
    labels: String,
    files: String,
}

impl Names {
    fn of(split: Split) -> Self {
        Self {
            features: format!("{split}.npy"),
            labels: format!("{split}_labels.npy"),
            files: format!("{split}_files.csv"),
        }
    }
}

fn part_name(split: Split) -> String {
    format!("{split}.npy.part")
}

/// Where the hashes of a file's rows are.
fn hashes_path(part: &Path) -> PathBuf {
    part.with_extension("hashes.part")
}

fn shape_of(n: u64, shape: FeatureShape) -> Vec<u64> {
    vec![n, u64::from(shape.height), u64::from(shape.width), u64::from(shape.channels)]
}

fn at(path: &Path) -> impl Fn(io::Error) -> FolderError {
    move |source| FolderError::Io { path: path.to_owned(), source }
}

/// Whether there were as many bytes as asked for.
fn filled(file: &mut impl Read, bytes: &mut [u8]) -> io::Result<bool> {
    match file.read_exact(bytes) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

fn remove(path: &Path) -> Result<(), FolderError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(at(path)(error)),
        _ => Ok(()),
    }
}

/// A lock on the folder itself, which goes with the process.
#[cfg(unix)]
fn lock(path: &Path) -> Result<Option<File>, FolderError> {
    let folder = File::open(path).map_err(at(path))?;
    match folder.try_lock() {
        Ok(()) => Ok(Some(folder)),
        Err(TryLockError::WouldBlock) => Err(FolderError::InUse { path: path.to_owned() }),
        // File systems without locks are no reason to refuse.
        Err(TryLockError::Error(_)) => Ok(None),
    }
}

#[cfg(not(unix))]
fn lock(_: &Path) -> Result<Option<File>, FolderError> {
    Ok(None)
}

fn read_record(path: &Path) -> Option<Record> {
    let records = [MANIFEST, UNFINISHED].into_iter().find_map(|name| parsed(&path.join(name)));
    records.filter(|record| record.format == FORMAT)
}

fn parsed(manifest: &Path) -> Option<Record> {
    serde_json::from_slice(&fs::read(manifest).ok()?).ok()
}

/// What differs, by name.
fn differing(before: &MadeOf, now: &MadeOf) -> Vec<&'static str> {
    let before_it = [("version of xp", before.xp != now.xp), ("device", before.device != now.device)];
    let behind_it = [("set of classes", before.classes != now.classes), ("set of images", before.data != now.data)];
    let named =
        |pairs: [(&'static str, bool); 2]| pairs.into_iter().filter(|(_, differs)| *differs).map(|(name, _)| name);
    named(before_it).chain(before.differs_from(now)).chain(named(behind_it)).collect()
}

fn files_csv(images: &Images) -> io::Result<Vec<u8>> {
    let mut csv = csv::Writer::from_writer(Vec::new());
    csv.write_record(["path", "label"])?;
    for (index, &label) in images.labels().iter().enumerate() {
        csv.write_record([&*images.name(index).to_string_lossy(), &images.classes()[label as usize]])?;
    }
    csv.into_inner().map_err(|error| io::Error::other(error.to_string()))
}

/// Writes a file beside its place and moves it there.
fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), FolderError> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let beside = PathBuf::from(beside);
    let written = File::create(&beside).and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()));
    written.and_then(|()| fs::rename(&beside, path)).map_err(at(path))
}

/// Hashes a file in one pass.
fn file_facts(path: &Path, shape: Vec<u64>) -> io::Result<FileFacts> {
    let mut hasher = blake3::Hasher::new();
    let n_bytes = io::copy(&mut BufReader::with_capacity(1 << 20, File::open(path)?), &mut hasher)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    Ok(FileFacts { name, shape, n_bytes, blake3: hasher.finalize().to_hex().to_string() })
}

#[cfg(test)]
mod tests;
