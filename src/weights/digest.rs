//! What a file hashes to, and whether that is what its publisher says.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

use md5::Md5;
use sha2::{Digest, Sha256};

use crate::weights::WeightsError;
use crate::weights::registry::{self, FileHash};

/// Bytes read at a time.
const CHUNK: usize = 1 << 20;

/// A way of hashing; each pass over a large file costs up to a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    Md5,
    Sha256,
    Blake3,
}

/// Hashes of the same bytes: those that were asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Digests {
    pub n_bytes: u64,
    /// In lower-case hexadecimal digits.
    computed: Vec<(Algorithm, String)>,
}

impl Digests {
    /// Reads a file once and hashes it in each of the ways, which may stand there twice.
    pub fn of_file(path: &Path, algorithms: impl IntoIterator<Item = Algorithm>) -> Result<Self, WeightsError> {
        let error = |source| WeightsError::Io { what: "read", path: path.to_owned(), source };
        let mut wanted = Vec::new();
        for algorithm in algorithms {
            if !wanted.contains(&algorithm) {
                wanted.push(algorithm);
            }
        }
        Self::of_reader(File::open(path).map_err(error)?, &wanted).map_err(error)
    }

    /// What its publisher says of a file, and `also` other hashes of it; the length is looked at first.
    pub fn checked(
        path: &Path,
        published: &registry::File,
        also: &[Algorithm],
        origin: &str,
    ) -> Result<Self, WeightsError> {
        let metadata = fs::metadata(path);
        let metadata = metadata.map_err(|source| WeightsError::Io { what: "read", path: path.to_owned(), source })?;
        check_length(published, metadata.len(), origin)?;
        let of_publisher = published.hash.map(FileHash::algorithm);
        let digests = Self::of_file(path, also.iter().copied().chain(of_publisher))?;
        digests.check(published, origin)?;
        Ok(digests)
    }

    fn of_reader(mut reader: impl Read, algorithms: &[Algorithm]) -> io::Result<Self> {
        let mut hashers: Vec<(Algorithm, Hasher)> =
            algorithms.iter().map(|algorithm| (*algorithm, Hasher::new(*algorithm))).collect();
        let (mut n_bytes, mut chunk) = (0, vec![0; CHUNK]);
        loop {
            let bytes = match reader.read(&mut chunk) {
                Ok(0) => break,
                Ok(n) => &chunk[..n],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            n_bytes += bytes.len() as u64;
            hashers.iter_mut().for_each(|(_, hasher)| hasher.update(bytes));
        }
        let computed = hashers.into_iter().map(|(algorithm, hasher)| (algorithm, hasher.digits())).collect();
        Ok(Self { n_bytes, computed })
    }

    /// `None` where it was not asked for.
    pub fn digits(&self, algorithm: Algorithm) -> Option<&str> {
        self.computed.iter().find(|(computed, _)| *computed == algorithm).map(|(_, digits)| digits.as_str())
    }

    /// Checks a published length and hash; what is not published cannot be wrong.
    ///
    /// `origin` is what the error calls the file.
    pub fn check(&self, published: &registry::File, origin: &str) -> Result<(), WeightsError> {
        check_length(published, self.n_bytes, origin)?;
        match published.hash {
            Some(hash) if !hash.is_of(self) => Err(WeightsError::Hash {
                origin: origin.to_owned(),
                kind: hash.kind(),
                expected: hash.digits().to_owned(),
                found: hash.found(self).unwrap_or("not known").to_owned(),
            }),
            _ => Ok(()),
        }
    }
}

fn check_length(published: &registry::File, found: u64, origin: &str) -> Result<(), WeightsError> {
    match published.n_bytes.filter(|expected| *expected != found) {
        Some(expected) => Err(WeightsError::Length { origin: origin.to_owned(), expected, found }),
        None => Ok(()),
    }
}

impl FileHash {
    pub fn is_of(self, digests: &Digests) -> bool {
        self.found(digests) == Some(self.digits())
    }

    pub const fn algorithm(self) -> Algorithm {
        match self {
            Self::Md5(_) => Algorithm::Md5,
            Self::Sha256(_) | Self::Sha256Prefix(_) => Algorithm::Sha256,
        }
    }

    pub const fn kind(self) -> &'static str {
        match self.algorithm() {
            Algorithm::Md5 => "MD5",
            Algorithm::Sha256 => "SHA-256",
            Algorithm::Blake3 => "blake3",
        }
    }

    pub const fn digits(self) -> &'static str {
        match self {
            Self::Md5(digits) | Self::Sha256(digits) | Self::Sha256Prefix(digits) => digits,
        }
    }

    /// As many digits of a file's hash as this one has.
    fn found(self, digests: &Digests) -> Option<&str> {
        let whole = digests.digits(self.algorithm())?;
        Some(&whole[..self.digits().len().min(whole.len())])
    }
}

/// A hash in the making.
enum Hasher {
    Md5(Md5),
    Sha256(Sha256),
    Blake3(Box<blake3::Hasher>),
}

impl Hasher {
    fn new(algorithm: Algorithm) -> Self {
        match algorithm {
            Algorithm::Md5 => Self::Md5(Md5::new()),
            Algorithm::Sha256 => Self::Sha256(Sha256::new()),
            Algorithm::Blake3 => Self::Blake3(Box::default()),
        }
    }

    fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Md5(md5) => md5.update(bytes),
            Self::Sha256(sha256) => sha256.update(bytes),
            Self::Blake3(blake3) => drop(blake3.update(bytes)),
        }
    }

    fn digits(self) -> String {
        match self {
            Self::Md5(md5) => hex(&md5.finalize()),
            Self::Sha256(sha256) => hex(&sha256.finalize()),
            Self::Blake3(blake3) => blake3.finalize().to_hex().to_string(),
        }
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
        let all = [Algorithm::Md5, Algorithm::Sha256, Algorithm::Blake3];
        let digests = Digests::of_reader(&b"abc"[..], &all).unwrap();
        let published = [
            "900150983cd24fb0d6963f7d28e17f72",
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
            "6437b3ac38465133ffb63b75273a8db548c558465d79db03fd359c6cd5bd9d85",
        ];
        assert_eq!(all.map(|algorithm| digests.digits(algorithm)), published.map(Some));
        assert!(FileHash::Sha256Prefix("ba7816bf").is_of(&digests));
        assert!(!FileHash::Sha256Prefix("ba7816bd").is_of(&digests));
        assert!(FileHash::Md5("900150983cd24fb0d6963f7d28e17f72").is_of(&digests));
    }

    #[test]
    fn what_was_not_asked_for_is_not_hashed_and_fits_nothing() {
        let digests = Digests::of_reader(&b"abc"[..], &[Algorithm::Blake3]).unwrap();
        assert_eq!((digests.n_bytes, digests.digits(Algorithm::Md5)), (3, None));
        assert!(!FileHash::Md5("900150983cd24fb0d6963f7d28e17f72").is_of(&digests));
    }
}
