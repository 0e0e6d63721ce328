//! What a file hashes to, and whether that is what its publisher says.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use md5::Md5;
use sha2::{Digest, Sha256};

use crate::weights::WeightsError;
use crate::weights::registry::{self, FileHash};

/// Bytes read at a time.
const CHUNK: usize = 1 << 20;

/// Hashes of the same bytes, in lower-case hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Digests {
    pub n_bytes: u64,
    pub md5: String,
    pub sha256: String,
    pub blake3: String,
}

impl Digests {
    pub fn of_file(path: &Path) -> Result<Self, WeightsError> {
        let error = |source| WeightsError::Io { what: "read", path: path.to_owned(), source };
        Self::of_reader(File::open(path).map_err(error)?).map_err(error)
    }

    fn of_reader(mut reader: impl Read) -> io::Result<Self> {
        let (mut md5, mut sha256, mut blake3) = (Md5::new(), Sha256::new(), blake3::Hasher::new());
        let (mut n_bytes, mut chunk) = (0, vec![0; CHUNK]);
        loop {
            let bytes = match reader.read(&mut chunk) {
                Ok(0) => break,
                Ok(n) => &chunk[..n],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            n_bytes += bytes.len() as u64;
            md5.update(bytes);
            sha256.update(bytes);
            blake3.update(bytes);
        }
        let (md5, sha256) = (hex(&md5.finalize()), hex(&sha256.finalize()));
        Ok(Self { n_bytes, md5, sha256, blake3: blake3.finalize().to_hex().to_string() })
    }

    /// Checks a published length and hash; what is not published cannot be wrong.
    ///
    /// `origin` is what the error calls the file.
    pub fn check(&self, published: &registry::File, origin: &str) -> Result<(), WeightsError> {
        if let Some(expected) = published.n_bytes.filter(|expected| *expected != self.n_bytes) {
            return Err(WeightsError::Length { origin: origin.to_owned(), expected, found: self.n_bytes });
        }
        match published.hash {
            Some(hash) if !hash.is_of(self) => Err(WeightsError::Hash {
                origin: origin.to_owned(),
                kind: hash.kind(),
                expected: hash.digits().to_owned(),
                found: hash.found(self).to_owned(),
            }),
            _ => Ok(()),
        }
    }
}

impl FileHash {
    pub fn is_of(self, digests: &Digests) -> bool {
        self.found(digests) == self.digits()
    }

    pub const fn kind(self) -> &'static str {
        match self {
            Self::Md5(_) => "MD5",
            Self::Sha256(_) | Self::Sha256Prefix(_) => "SHA-256",
        }
    }

    pub const fn digits(self) -> &'static str {
        match self {
            Self::Md5(digits) | Self::Sha256(digits) | Self::Sha256Prefix(digits) => digits,
        }
    }

    /// As many digits of a file's hash as this one has.
    fn found(self, digests: &Digests) -> &str {
        let whole = match self {
            Self::Md5(_) => &digests.md5,
            Self::Sha256(_) | Self::Sha256Prefix(_) => &digests.sha256,
        };
        &whole[..self.digits().len().min(whole.len())]
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The hashes of "abc" in RFC 1321, FIPS 180-4 and blake3's test vectors' form.
    #[test]
    fn the_hashes_are_the_standards() {
        let digests = Digests::of_reader(&b"abc"[..]).unwrap();
        assert_eq!(digests.md5, "900150983cd24fb0d6963f7d28e17f72");
        assert_eq!(digests.sha256, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!(digests.blake3, "6437b3ac38465133ffb63b75273a8db548c558465d79db03fd359c6cd5bd9d85");
        assert!(FileHash::Sha256Prefix("ba7816bf").is_of(&digests));
        assert!(!FileHash::Sha256Prefix("ba7816bd").is_of(&digests));
        assert!(FileHash::Md5("900150983cd24fb0d6963f7d28e17f72").is_of(&digests));
    }
}
