//! What lies behind a store's error, as far as its user can do something about it.

use std::io::{self, ErrorKind};

use sqlx::migrate::MigrateError;

use crate::store::StoreError;

/// Something that can be put right from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing more fits where the store lies.
    DiskFull,
    /// What lies there must not be written.
    ReadOnly,
    /// A file is where a folder should be.
    NotAFolder,
    /// A read or a write failed for another reason than those above.
    Disk,
    /// The database's file cannot be opened, or another one that SQLite needs beside it.
    Unopenable,
    /// The file is no database, or not a whole one.
    Damaged,
    /// There is too little memory.
    Memory,
    /// Other processes have held the database for longer than anyone should.
    Busy,
}

/// SQLite's primary result codes (sqlite.org/rescode.html); the extended ones have them in their lowest byte.
const BUSY: i32 = 5;
const NO_MEMORY: i32 = 7;
const READ_ONLY: i32 = 8;
const IO_ERROR: i32 = 10;
const CORRUPT: i32 = 11;
const FULL: i32 = 13;
const CANNOT_OPEN: i32 = 14;
const NOT_A_DATABASE: i32 = 26;
/// An extended code: the `-shm` file beside the database cannot grow.
const NO_ROOM_FOR_SHARED_MEMORY: i32 = IO_ERROR | (19 << 8);

impl Fault {
    /// What an error of the file system comes from.
    pub fn of_io(error: &io::Error) -> Option<Self> {
        match error.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => Some(Self::DiskFull),
            ErrorKind::ReadOnlyFilesystem | ErrorKind::PermissionDenied => Some(Self::ReadOnly),
            ErrorKind::NotADirectory | ErrorKind::AlreadyExists => Some(Self::NotAFolder),
            ErrorKind::InvalidFilename => Some(Self::Unopenable),
            _ => None,
        }
    }

    fn of_database(error: &sqlx::Error) -> Option<Self> {
        match error {
            sqlx::Error::PoolTimedOut => return Some(Self::Busy),
            // The path is not text.
            sqlx::Error::Io(error) if error.kind() == ErrorKind::InvalidData => return Some(Self::Unopenable),
            sqlx::Error::Io(error) => return Self::of_io(error),
            _ => {}
        }
        let code: i32 = error.as_database_error()?.code()?.parse().ok()?;
        if code == NO_ROOM_FOR_SHARED_MEMORY {
            return Some(Self::DiskFull);
        }
        match code & 0xff {
            BUSY => Some(Self::Busy),
            NO_MEMORY => Some(Self::Memory),
            READ_ONLY => Some(Self::ReadOnly),
            IO_ERROR => Some(Self::Disk),
            CORRUPT | NOT_A_DATABASE => Some(Self::Damaged),
            FULL => Some(Self::DiskFull),
            CANNOT_OPEN => Some(Self::Unopenable),
            _ => None,
        }
    }
}

impl StoreError {
    /// What can be put right, where that is known.
    pub fn fault(&self) -> Option<Fault> {
        match self {
            Self::Io { source, .. } => Fault::of_io(source),
            Self::Open { source, .. } | Self::Backup { source, .. } | Self::Query(source) => Fault::of_database(source),
            Self::Migrate {
                source: MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _), ..
            } => Fault::of_database(error),
            Self::Corrupt { .. } => Some(Fault::Damaged),
            _ => None,
        }
    }
}
