//! Where PyTorch's files have the values: members of an archive, or one after another behind the pickles.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use crate::weights::format::FormatError;
use crate::weights::format::archive::Archive;
use crate::weights::format::torch::pickle::{Pickle, PickleError};
use crate::weights::format::torch::tree::{self, Found};

/// Bytes that the pickle of an archive may have.
const MAX_PICKLE_BYTES: u64 = 256 << 20;
/// How much larger than the file it may be, packed.
const MAX_RATIO: u64 = 16;

/// What an older file begins with. Source: `MAGIC_NUMBER` in torch/serialization.py.
const MAGIC: [u8; 10] = [0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];

/// Storages by their keys.
pub(super) struct Storages {
    pub path: PathBuf,
    pub endian: Endian,
    /// Where each begins and how many bytes it has.
    places: HashMap<String, (u64, u64)>,
}

/// The order of a value's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Endian {
    Little,
    Big,
}

impl Storages {
    pub fn place(&self, key: &str, tensor: &str) -> Result<(u64, u64), FormatError> {
        let place = self.places.get(key).copied();
        place.ok_or_else(|| FormatError::Damaged(format!("the values of {tensor} are not in it")))
    }
}

impl From<PickleError> for FormatError {
    fn from(error: PickleError) -> Self {
        match error {
            PickleError::Io(error) => Self::Io(error),
            error => Self::Damaged(error.to_string()),
        }
    }
}

/// Tensors and storages of a file of PyTorch 1.6 and later: `<stem>/data.pkl`, `<stem>/data/<key>`.
pub(super) fn of_archive(path: &Path, archive: &Archive) -> Result<(Vec<Found>, Storages), FormatError> {
    let pickles = archive.members().iter().filter(|member| member.name.ends_with("data.pkl"));
    let Some(member) = pickles.min_by_key(|member| member.name.len()) else {
        return Err(FormatError::Unsupported("it is a zip archive of neither PyTorch nor Keras".to_owned()));
    };
    let root = member.name.trim_end_matches("data.pkl");
    let file_bytes = std::fs::metadata(path)?.len();
    let content = archive.read(member, file_bytes.saturating_mul(MAX_RATIO).min(MAX_PICKLE_BYTES))?;
    let pickle = Pickle::read(&mut &content[..])?;
    let byteorder = archive.member(&format!("{root}byteorder"));
    let byteorder = byteorder.map(|member| archive.read(member, 64)).transpose()?;
    let endian = if byteorder.is_some_and(|text| text.starts_with(b"big")) { Endian::Big } else { Endian::Little };
    let prefix = format!("{root}data/");
    let found = tree::tensors(&pickle);
    let mut places = HashMap::new();
    for member in archive.members() {
        if let Some(key) = member.name.strip_prefix(&prefix) {
            let (begin, end) = archive.range(member)?;
            if end > file_bytes {
                return Err(FormatError::Damaged(format!("{} reaches beyond the end of the file", member.name)));
            }
            places.insert(key.to_owned(), (begin, end.saturating_sub(begin)));
        }
    }
    Ok((found, Storages { path: path.to_owned(), endian, places }))
}

/// Tensors and storages of an older file: three pickles, the object, the storages' keys, and each storage's length and
/// values in the order of the keys.
pub(super) fn of_legacy(path: &Path) -> Result<(Vec<Found>, Storages), FormatError> {
    let mut file = BufReader::new(File::open(path)?);
    let file_bytes = file.get_ref().metadata()?.len();
    let mut first = [0; 64];
    let n_first = file.read(&mut first)?;
    // A pickled long of 10 bytes.
    if !first[..n_first].windows(MAGIC.len()).any(|window| window == MAGIC) {
        let what = "it is a pickle that torch.save did not write: save the state dict with torch.save";
        return Err(FormatError::Unsupported(what.to_owned()));
    }
    file.seek(SeekFrom::Start(0))?;
    // Magic number, version, and the machine that wrote it, which says nothing: values are little-endian whoever wrote them.
    for _ in 0..3 {
        Pickle::read(&mut file)?;
    }
    let pickle = Pickle::read(&mut file)?;
    let keys = Pickle::read(&mut file)?;
    let found = tree::tensors(&pickle);
    let sizes = tree::storage_sizes(&pickle);
    let mut places = HashMap::new();
    for id in keys.sequence(keys.root).unwrap_or_default() {
        let key = keys.text(*id).unwrap_or_default();
        let mut length = [0; 8];
        file.read_exact(&mut length).map_err(PickleError::from)?;
        let size = sizes.get(key).copied().unwrap_or(0);
        let n_bytes = u64::from_le_bytes(length).checked_mul(size);
        let begin = file.stream_position()?;
        let end = n_bytes.and_then(|n_bytes| begin.checked_add(n_bytes)).filter(|end| *end <= file_bytes && size > 0);
        let Some(end) = end else { return Err(PickleError::Ends.into()) };
        places.insert(key.to_owned(), (begin, end - begin));
        file.seek(SeekFrom::Start(end))?;
    }
    Ok((found, Storages { path: path.to_owned(), endian: Endian::Little, places }))
}
