//! Where the bytes of an image are, and what they are: a file in some image format, or pixels among others in one file.

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::data::features::FeatureFile;
use crate::data::idx::{IdxImages, Pixels};

/// Largest file that is read; uncompressed, the most pixels that are allowed take less.
const MAX_FILE_BYTES: u64 = 1 << 30;

/// Where an image is.
#[derive(Clone, Debug)]
pub enum Location {
    /// A file; `path` is UTF-8, and relative to `root` unless it is absolute.
    File { root: Arc<Path>, path: PathBuf },
    /// One image of a file that holds many; counts from 0.
    Idx { file: Arc<IdxImages>, index: u32 },
    /// One row of a file of features; counts from 0.
    Features { file: Arc<FeatureFile>, index: u32 },
}

/// The bytes of an image.
pub enum Content<'a> {
    /// A whole image file.
    File(Vec<u8>),
    Pixels(Pixels<'a>),
    /// Features as they are stored: float32, little-endian, channels last.
    Features(Vec<u8>),
}

impl Location {
    /// How the image is called in messages and records: `cats/1.jpg`, or `images.gz#17`.
    pub fn name(&self) -> Cow<'_, Path> {
        match self {
            Self::File { path, .. } => Cow::Borrowed(path),
            Self::Idx { file, index } => Cow::Owned(numbered(file.path(), *index)),
            Self::Features { file, index } => Cow::Owned(numbered(file.path(), *index)),
        }
    }

    /// The name with the folders that lead to it.
    pub fn path(&self) -> PathBuf {
        match self {
            Self::File { root, path } => root.join(path),
            Self::Idx { file, .. } => file.path().with_file_name(self.name().as_os_str()),
            Self::Features { file, .. } => file.path().with_file_name(self.name().as_os_str()),
        }
    }

    /// What a random draw about this image depends on: neither other images nor where the data lies are part of it.
    pub fn address(&self) -> Cow<'_, str> {
        match self {
            Self::File { path, .. } => path.to_string_lossy(),
            Self::Idx { index, .. } | Self::Features { index, .. } => Cow::Owned(index.to_string()),
        }
    }

    /// Reads the image's file, or points to its pixels, which [`IdxImages::load`] has loaded.
    pub fn content(&self) -> io::Result<Content<'_>> {
        match self {
            Self::File { root, path } => file_bytes(&root.join(path)).map(Content::File),
            Self::Idx { file, index } => Ok(Content::Pixels(file.image(*index))),
            Self::Features { file, index } => file.row(*index).map(Content::Features),
        }
    }
}

impl Content<'_> {
    /// blake3 of the file, of the pixels and their size, or of the features.
    pub fn hash(&self) -> blake3::Hash {
        match self {
            Self::File(bytes) | Self::Features(bytes) => blake3::hash(bytes),
            Self::Pixels(pixels) => pixels.hash(),
        }
    }
}

/// One of the many in a file, by its number.
fn numbered(file: &Path, index: u32) -> PathBuf {
    PathBuf::from(format!("{}#{index}", file.file_name().unwrap_or_default().display()))
}

/// Opens a file whose length says how much there is to read; with the length.
pub(super) fn open_regular(path: &Path) -> io::Result<(File, u64)> {
    let metadata = std::fs::metadata(path)?;
    // Opening a pipe waits for who writes into it.
    if !metadata.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    Ok((File::open(path)?, metadata.len()))
}

/// Reads from a place on, whatever other threads read of the file.
#[cfg(unix)]
pub(super) fn read_exact_at(file: &File, bytes: &mut [u8], place: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, bytes, place)
}

/// As above.
#[cfg(not(unix))]
pub(super) fn read_exact_at(file: &File, mut bytes: &mut [u8], mut place: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        let n = std::os::windows::fs::FileExt::seek_read(file, bytes, place)?;
        if n == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        bytes = &mut bytes[n..];
        place += n as u64;
    }
    Ok(())
}

/// All bytes of a file of reasonable size.
fn file_bytes(path: &Path) -> io::Result<Vec<u8>> {
    let (file, n_bytes) = open_regular(path)?;
    let mut bytes = Vec::with_capacity(n_bytes.min(MAX_FILE_BYTES) as usize);
    file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(io::Error::other(format!("it has more than {MAX_FILE_BYTES} bytes")));
    }
    Ok(bytes)
}
