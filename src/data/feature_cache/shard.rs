//! A file of rows: all of them, then whose they are and their checksums, then how to find that.
//!
//! ```text
//! "xprows01"  row size, u64
//! rows
//! for each row: key, 32 bytes; xxh3 of the row, u64; 1 where its image is turned, else 0, u64
//! number of rows, u64; xxh3 of the index, u64; "xprowend"
//! ```
//!
//! Little-endian. It is written under another name and gets its own once it is on disk, so a shard is never half there.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;
use xxhash_rust::xxh3::xxh3_64;

use crate::data::feature_cache::CacheError;
use crate::data::location::read_exact_at;

const HEAD: &[u8; 8] = b"xprows01";
const TAIL: &[u8; 8] = b"xprowend";
const HEAD_BYTES: u64 = 16;
const TAIL_BYTES: u64 = 24;
const ENTRY_BYTES: u64 = 48;
const ENDING: &str = "rows";

/// What names partial files, which nobody reads.
pub const PARTIAL: &str = ".partial-";

/// Bytes of rows after which a shard is full.
const FULL_BYTES: u64 = 64 << 20;

/// What a row was computed from.
pub type RowKey = [u8; 32];

/// A row's key and checksum, and whether its image is stored turned or mirrored and says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    pub key: RowKey,
    pub checksum: u64,
    pub is_turned: bool,
}

/// A whole shard, its index checked.
#[derive(Debug)]
pub struct Shard {
    pub path: PathBuf,
    file: File,
    row_bytes: usize,
    pub entries: Vec<Entry>,
}

pub fn is_shard(path: &Path) -> bool {
    path.extension().is_some_and(|ending| ending == ENDING)
}

impl Shard {
    /// Reads a shard's index. Errors: its parts do not fit together, or the index's checksum does not.
    pub fn open(path: &Path, row_bytes: usize) -> Result<Self, CacheError> {
        let damaged = |reason| CacheError::Damaged { path: path.to_owned(), reason };
        let at = || CacheError::at(path);
        let file = File::open(path).map_err(at())?;
        let n_bytes = file.metadata().map_err(at())?.len();
        if n_bytes < HEAD_BYTES + TAIL_BYTES {
            return Err(damaged("it is too short"));
        }
        let mut head = [0; HEAD_BYTES as usize];
        let mut tail = [0; TAIL_BYTES as usize];
        read_exact_at(&file, &mut head, 0).map_err(at())?;
        read_exact_at(&file, &mut tail, n_bytes - TAIL_BYTES).map_err(at())?;
        if head[..8] != HEAD[..] || tail[16..] != TAIL[..] {
            return Err(damaged("it does not begin and end as it should"));
        }
        let n_rows = u64_of(&tail[..8]);
        let expected =
            n_rows.checked_mul(row_bytes as u64 + ENTRY_BYTES).and_then(|n| n.checked_add(HEAD_BYTES + TAIL_BYTES));
        if u64_of(&head[8..]) != row_bytes as u64 || expected != Some(n_bytes) {
            return Err(damaged("its size does not fit its rows"));
        }
        let mut index = vec![0; (n_rows * ENTRY_BYTES) as usize];
        read_exact_at(&file, &mut index, n_bytes - TAIL_BYTES - n_rows * ENTRY_BYTES).map_err(at())?;
        if xxh3_64(&index) != u64_of(&tail[8..16]) {
            return Err(damaged("its index is not what was written"));
        }
        let entry = |bytes: &[u8]| Entry {
            key: bytes[..32].try_into().expect("so long is a key"),
            checksum: u64_of(&bytes[32..40]),
            is_turned: u64_of(&bytes[40..]) != 0,
        };
        let entries = index.chunks_exact(ENTRY_BYTES as usize).map(entry).collect();
        Ok(Self { path: path.to_owned(), file, row_bytes, entries })
    }

    pub fn n_rows(&self) -> u64 {
        self.entries.len() as u64
    }

    /// Reads a row and checks it.
    pub fn read(&self, row: usize, bytes: &mut [u8]) -> Result<(), CacheError> {
        read_exact_at(&self.file, bytes, HEAD_BYTES + row as u64 * self.row_bytes as u64)
            .map_err(CacheError::at(&self.path))?;
        match xxh3_64(bytes) == self.entries[row].checksum {
            true => Ok(()),
            false => Err(CacheError::Damaged { path: self.path.clone(), reason: "a row is not what was written" }),
        }
    }
}

/// A shard that is being written.
#[derive(Debug)]
pub struct Writer {
    file: io::BufWriter<NamedTempFile>,
    row_bytes: usize,
    index: Vec<u8>,
    n_rows: u64,
}

impl Writer {
    pub fn begin(folder: &Path, row_bytes: usize) -> io::Result<Self> {
        let file = tempfile::Builder::new().prefix(PARTIAL).tempfile_in(folder)?;
        let mut file = io::BufWriter::with_capacity(1 << 20, file);
        file.write_all(HEAD)?;
        file.write_all(&(row_bytes as u64).to_le_bytes())?;
        Ok(Self { file, row_bytes, index: Vec::new(), n_rows: 0 })
    }

    pub fn append(&mut self, key: &RowKey, is_turned: bool, bytes: &[u8]) -> io::Result<()> {
        assert_eq!(bytes.len(), self.row_bytes);
        self.file.write_all(bytes)?;
        self.index.extend_from_slice(key);
        self.index.extend_from_slice(&xxh3_64(bytes).to_le_bytes());
        self.index.extend_from_slice(&u64::from(is_turned).to_le_bytes());
        self.n_rows += 1;
        Ok(())
    }

    pub fn is_full(&self) -> bool {
        self.n_rows * self.row_bytes as u64 >= FULL_BYTES
    }

    /// Writes the index, syncs, and gives the file its name.
    pub fn finish(mut self, folder: &Path) -> io::Result<()> {
        let checksum = xxh3_64(&self.index);
        self.file.write_all(&self.index)?;
        self.file.write_all(&self.n_rows.to_le_bytes())?;
        self.file.write_all(&checksum.to_le_bytes())?;
        self.file.write_all(TAIL)?;
        let file = self.file.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.as_file().sync_all()?;
        let name = format!("{checksum:016x}.{ENDING}");
        file.persist(folder.join(name)).map_err(|error| error.error)?;
        File::open(folder).and_then(|folder| folder.sync_all())
    }
}

/// Removes what writers left behind that were killed. Only the writer of a folder may.
pub fn remove_partial(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(PARTIAL) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

fn u64_of(bytes: &[u8]) -> u64 {
    u64::from_le_bytes(bytes.try_into().expect("eight bytes"))
}
