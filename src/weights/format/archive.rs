//! Zip archives, read by position: those of PyTorch and of Keras 3.
//!
//! Read with rawzip. The crate zip 9.8.1, which writes our archives, takes the place of the directory from the file's end
//! where zip64 records stand beside true sizes, as PyTorch writes them, and is 76 bytes late: a file whose first member has
//! a name of 30 bytes (a stem of 21 characters) is then refused, and others are read by luck.

use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;

use rawzip::{CompressionMethod, FileReader, RECOMMENDED_BUFFER_SIZE, ZipArchive, ZipArchiveEntryWayfinder};

use crate::weights::format::FormatError;

/// Members that an archive may have: a checkpoint has one a tensor.
const MAX_MEMBERS: usize = 1 << 20;

/// An opened archive: its directory is read, its members are not.
pub(super) struct Archive {
    zip: ZipArchive<FileReader>,
    members: Vec<Member>,
}

/// One file of an archive.
#[derive(Debug)]
pub(super) struct Member {
    pub name: String,
    /// Unpacked, as the directory has it.
    pub n_bytes: u64,
    method: CompressionMethod,
    place: ZipArchiveEntryWayfinder,
}

impl Archive {
    pub fn open(path: &Path) -> Result<Self, FormatError> {
        let mut buffer = vec![0; RECOMMENDED_BUFFER_SIZE];
        let zip = ZipArchive::from_file(File::open(path)?, &mut buffer).map_err(damaged)?;
        let mut members = Vec::new();
        let mut entries = zip.entries(&mut buffer);
        while let Some(entry) = entries.next_entry().map_err(damaged)? {
            if members.len() >= MAX_MEMBERS {
                return Err(FormatError::Damaged(format!("its directory lists more than {MAX_MEMBERS} files")));
            }
            members.push(Member {
                name: String::from_utf8_lossy(entry.file_path().as_bytes()).into_owned(),
                n_bytes: entry.uncompressed_size_hint(),
                method: entry.compression_method(),
                place: entry.wayfinder(),
            });
        }
        Ok(Self { zip, members })
    }

    pub fn members(&self) -> &[Member] {
        &self.members
    }

    pub fn member(&self, name: &str) -> Option<&Member> {
        self.members.iter().find(|member| member.name == name)
    }

    /// A member's content, its checksum compared; more than `most` bytes are refused before they are read.
    pub fn read(&self, member: &Member, most: u64) -> Result<Vec<u8>, FormatError> {
        let mut content = Vec::new();
        self.copy(member, most, &mut content)?;
        Ok(content)
    }

    /// Unpacks a member, its checksum compared.
    pub fn copy(&self, member: &Member, most: u64, to: &mut impl Write) -> Result<(), FormatError> {
        if member.n_bytes > most {
            let Member { name, n_bytes, .. } = member;
            return Err(FormatError::Damaged(format!(
                "{name} of {n_bytes} bytes is packed more tightly than it can be"
            )));
        }
        let entry = self.zip.get_entry(member.place).map_err(damaged)?;
        let packed = entry.reader();
        let n_copied = match member.method {
            CompressionMethod::STORE => std::io::copy(&mut entry.verifying_reader(packed).take(most + 1), to),
            CompressionMethod::DEFLATE => {
                let inflated = flate2::read::DeflateDecoder::new(packed);
                std::io::copy(&mut entry.verifying_reader(inflated).take(most + 1), to)
            }
            method => return Err(FormatError::Unsupported(format!("{} is packed by {method}", member.name))),
        };
        match n_copied {
            Ok(n_copied) if n_copied == member.n_bytes => Ok(()),
            Ok(n_copied) => Err(FormatError::Damaged(format!(
                "{} has {n_copied} bytes and should have {}",
                member.name, member.n_bytes
            ))),
            Err(error) => Err(FormatError::Damaged(format!("{}: {error}", member.name))),
        }
    }

    /// Where the bytes of a member lie in the file that is not packed: their beginning and end.
    pub fn range(&self, member: &Member) -> Result<(u64, u64), FormatError> {
        if member.method != CompressionMethod::STORE {
            return Err(FormatError::Unsupported(format!("{} is packed by {}", member.name, member.method)));
        }
        let entry = self.zip.get_entry(member.place).map_err(damaged)?;
        Ok(entry.compressed_data_range())
    }
}

fn damaged(error: rawzip::Error) -> FormatError {
    FormatError::Damaged(error.to_string())
}
