//! What can be wrong with a spec, and where.

use std::path::PathBuf;

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// Lines and columns count from 1; the byte range is what gets underlined.
    Text { line: usize, column: usize, start: usize, len: usize },
    /// A `--set` argument, as it was typed.
    Argument(String),
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The key it is about, with dots: `model.frozen_layers`; empty for the whole file.
    pub key: String,
    pub message: String,
    pub hint: Option<String>,
    pub place: Option<Place>,
}

impl Problem {
    pub fn new(key: &str, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { key: key.into(), message: message.into(), hint: Some(hint.into()), place: None }
    }
}

/// Why a spec cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SpecError {
    #[error("cannot find {}", path.display())]
    Missing { path: PathBuf },
    #[error("cannot read {}: {reason}", path.display())]
    Unreadable { path: PathBuf, reason: String },
    #[error("{} is not valid", path.display())]
    Invalid { path: PathBuf, text: String, problems: Vec<Problem> },
}
