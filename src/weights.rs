//! Pretrained weights: what is known of each file, how it comes to this machine, and how its tensors are read.

pub mod axes;
pub mod cache;
pub mod classes;
pub mod digest;
pub mod fetch;
pub mod format;
pub mod golden;
pub mod load;
pub mod locate;
pub mod lookalike;
pub mod matching;
pub mod preprocessing;
pub mod registry;

use std::io;
use std::path::PathBuf;

/// Why a file of weights is not at hand.
#[derive(Debug, thiserror::Error)]
pub enum WeightsError {
    #[error("{what} {}: {source}", path.display())]
    Io { what: &'static str, path: PathBuf, source: io::Error },
    #[error("reach {url}: {reason}")]
    Unreachable { url: String, reason: String },
    #[error("fetch {url}: the server answers {status}")]
    Refused { url: String, status: u16 },
    #[error("fetch {url}: the connection ended after {n_bytes} bytes, time after time")]
    Cut { url: String, n_bytes: u64 },
    #[error("use {origin}: it has {found} bytes, and {expected} are expected")]
    Length { origin: String, expected: u64, found: u64 },
    #[error("use {origin}: its {kind} is {found}, and {expected} is expected")]
    Hash { origin: String, kind: &'static str, expected: String, found: String },
    /// Where no hash is published, the content must be such a file.
    #[error("use {origin}: {reason}")]
    NotWeights { origin: String, reason: String },
    #[error("use {}: it is none of the files that xp knows", path.display())]
    Unknown { path: PathBuf },
    #[error("use {}: {source_name} has no such file", path.display())]
    OfAnother { path: PathBuf, source_name: &'static str },
}
