//! The lock that says a run is alive: an operating-system lock on a file in the run's folder.
//!
//! The writer takes it before the run's row exists and lets go after the run's ending is recorded, so a run recorded as
//! running whose lock is free has nobody behind it. The system releases the lock however the process ends.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::store::StoreError;

const FILE_NAME: &str = "lock";

/// A reader's probe holds the lock for microseconds, so half a second of these means a writer.
const N_ATTEMPTS: u32 = 50;
const ATTEMPT_INTERVAL: Duration = Duration::from_millis(10);

/// The right to write one run; released when dropped or when the process ends.
#[derive(Debug)]
pub struct RunLock {
    _file: File,
}

impl RunLock {
    /// Makes the run's folder and takes its lock; [`StoreError::LockHeld`] while another process has it.
    pub fn take(run_dir: &Path) -> Result<Self, StoreError> {
        let path = run_dir.join(FILE_NAME);
        let failed = |source| StoreError::Io { path: path.clone(), source };
        std::fs::create_dir_all(run_dir).map_err(failed)?;
        let mut options = OpenOptions::new();
        let file = options.create(true).truncate(false).write(true).open(&path).map_err(failed)?;
        for attempt in 1..=N_ATTEMPTS {
            match file.try_lock() {
                Ok(()) => return Ok(Self { _file: file }),
                Err(TryLockError::WouldBlock) if attempt < N_ATTEMPTS => {
                    std::thread::sleep(ATTEMPT_INTERVAL);
                }
                Err(TryLockError::WouldBlock) => break,
                Err(TryLockError::Error(source)) => return Err(failed(source)),
            }
        }
        Err(StoreError::LockHeld { run_dir: PathBuf::from(run_dir) })
    }
}

/// Whether some process holds the run's lock; a missing folder or file is not held.
pub fn is_held(run_dir: &Path) -> std::io::Result<bool> {
    let file = match File::open(run_dir.join(FILE_NAME)) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    match file.try_lock_shared() {
        Ok(()) => Ok(false),
        Err(TryLockError::WouldBlock) => Ok(true),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_held_until_it_is_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let run_dir = folder.path().join("runs/01ABC");
        assert!(!is_held(&run_dir).unwrap());
        let lock = RunLock::take(&run_dir).unwrap();
        assert!(is_held(&run_dir).unwrap());
        let error = RunLock::take(&run_dir).unwrap_err();
        assert!(matches!(error, StoreError::LockHeld { .. }), "{error}");
        drop(lock);
        assert!(!is_held(&run_dir).unwrap());
        RunLock::take(&run_dir).unwrap();
    }

    #[test]
    fn readers_that_probe_at_once_do_not_take_each_other_for_a_writer() {
        let folder = tempfile::tempdir().unwrap();
        drop(RunLock::take(folder.path()).unwrap());
        let file = File::open(folder.path().join(FILE_NAME)).unwrap();
        file.lock_shared().unwrap();
        assert!(!is_held(folder.path()).unwrap());
    }

    #[test]
    fn a_writer_waits_for_a_reader_to_finish_its_probe() {
        let folder = tempfile::tempdir().unwrap();
        drop(RunLock::take(folder.path()).unwrap());
        let file = File::open(folder.path().join(FILE_NAME)).unwrap();
        file.lock_shared().unwrap();
        let run_dir = folder.path().to_owned();
        let writer = std::thread::spawn(move || RunLock::take(&run_dir));
        drop(file);
        writer.join().unwrap().unwrap();
    }
}
