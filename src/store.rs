//! Everything that is recorded: one SQLite database beside the runs' folders.
//!
//! The only layer that knows SQL. It owns the schema, the transactions and the lock that says whether a run is alive;
//! what goes into a run's folder is for others.

pub mod artifacts;
mod backup;
mod blocks;
pub mod checkpoints;
pub mod connect;
pub mod detail;
pub mod facts;
pub mod fault;
pub mod find;
mod fingerprints;
pub mod freezing;
pub mod list;
pub mod lock;
pub mod looks;
pub mod metrics;
mod params;
pub mod resume;
pub mod runs;
#[cfg(test)]
mod sample;
pub mod sqlite;
mod stretches;
pub mod sweeps;
mod system;

use std::path::PathBuf;

use crate::run::id::RunId;
use crate::run::summary::State;
use crate::store::find::Candidate;

/// Why something could not be recorded or read back.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("use {}: {source}", path.display())]
    Io { path: PathBuf, source: std::io::Error },

    #[error("open the database {}: {source}", path.display())]
    Open { path: PathBuf, source: sqlx::Error },

    #[error(
        "open the database {}: its schema {found} is newer than {known}, the newest this xp knows; use the xp that wrote it or a later one",
        path.display()
    )]
    NewerDatabase { path: PathBuf, found: i64, known: i64 },

    #[error("back up {} before its schema is brought up to date, which has changed nothing of it: {source}", path.display())]
    Backup { path: PathBuf, source: sqlx::Error },

    #[error("bring the schema of {} up to date: {source}", path.display())]
    Migrate { path: PathBuf, source: sqlx::migrate::MigrateError },

    #[error("use the database: {0}")]
    Query(#[from] sqlx::Error),

    #[error("take the name {name:?}: another run or sweep has it")]
    NameTaken { name: String },

    #[error("find the run {id}: the database has none with that id")]
    NoSuchRun { id: RunId },

    #[error("end the run {id}: it is recorded as {}, not as running", state.as_str())]
    NotRunning { id: RunId, state: State },

    #[error("lock {}: another process is writing this run", run_dir.display())]
    LockHeld { run_dir: PathBuf },

    #[error("find a run for {query:?}")]
    NotFound { query: String },

    #[error("find one run for {query:?}: {} runs match", candidates.len())]
    Ambiguous { query: String, candidates: Vec<Candidate> },

    #[error("find a sweep for {query:?}")]
    NoSuchSweep { query: String },

    #[error("find one sweep for {query:?}: {} match", names.len())]
    AmbiguousSweep { query: String, names: Vec<String> },

    #[error("read {what}: {reason}")]
    Corrupt { what: String, reason: String },
}
