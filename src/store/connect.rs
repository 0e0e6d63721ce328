//! The handle on the database: opening it, bringing its schema up to date, and asking whether it is sound.

use std::cmp::Ordering;
use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sqlx::migrate::{MigrateError, Migrator};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{Row, Sqlite, SqlitePool, Transaction};
use tempfile::TempDir;

use crate::store::StoreError;
use crate::store::backup;
use crate::store::fault::Fault;

static MIGRATOR: Migrator = sqlx::migrate!("./migrations");

/// Whether a database is copied before its schema is changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Backup {
    Before,
    Never,
}

/// Long enough for every other process's transactions: a writer that gives up loses data.
const BUSY_TIMEOUT: Duration = Duration::from_secs(30);

/// SQLite has one writer at a time, so more connections would only wait.
const MAX_CONNECTIONS: u32 = 4;

/// What a commit survives. All of them survive the end of the process that made them, `kill -9` included, and a power
/// cut never leaves one in part.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// No commit is lost to a power cut.
    Full,
    /// Epochs, states and facts are not lost to a power cut. Points of single steps, looks at the machine and signs of
    /// life are not waited for: the next commit of the others syncs all that was written before it, and points of an
    /// epoch that never committed are superseded anyway.
    #[default]
    Records,
    /// The last commits may be lost to a power cut.
    Normal,
}

/// Rows that may wait to be taken over from a connection's thread: each pause of that thread costs two switches.
const ROW_BUFFER: usize = 1024;

/// Faults under which a database may still be read.
const CANNOT_WRITE: [Fault; 4] = [Fault::DiskFull, Fault::ReadOnly, Fault::Disk, Fault::Unopenable];

/// A handle on the database; clones share its connections.
#[derive(Clone, Debug)]
pub struct Store {
    pub(crate) pool: SqlitePool,
    /// Connects when something is first written that need not be waited for.
    pub(crate) relaxed: SqlitePool,
    /// Where the database lies when it is a copy, which goes with its last handle.
    _copy: Option<Arc<TempDir>>,
}

impl Store {
    /// Opens the database, making its folder, the file and the schema as needed.
    ///
    /// Any number of processes may do so at once: the first to hold the lock file beside the database migrates it.
    pub async fn open(db_path: &Path) -> Result<Self, StoreError> {
        Self::open_with(db_path, Durability::default()).await
    }

    /// Opens the database as [`Store::open`] does.
    pub async fn open_with(db_path: &Path, durability: Durability) -> Result<Self, StoreError> {
        Self::open_migrated(db_path, durability, Backup::Before).await
    }

    async fn open_migrated(db_path: &Path, durability: Durability, backup: Backup) -> Result<Self, StoreError> {
        if let Some(folder) = db_path.parent() {
            std::fs::create_dir_all(folder).map_err(|source| StoreError::Io { path: folder.to_owned(), source })?;
        }
        let migration_lock = lock_beside(db_path).await?;
        let store = Self::connect(options(db_path).create_if_missing(true), durability).await;
        let store = store.map_err(|source| StoreError::Open { path: db_path.to_owned(), source })?;
        if backup == Backup::Before {
            backup::before_migration(&store.pool, db_path, newest_schema()).await?;
        }
        MIGRATOR.run(&store.pool).await.map_err(|error| migration_error(db_path, error))?;
        drop(migration_lock);
        Ok(store)
    }

    async fn connect(options: SqliteConnectOptions, durability: Durability) -> Result<Self, sqlx::Error> {
        let (records, relaxed) = match durability {
            Durability::Full => (SqliteSynchronous::Full, SqliteSynchronous::Full),
            Durability::Records => (SqliteSynchronous::Full, SqliteSynchronous::Normal),
            Durability::Normal => (SqliteSynchronous::Normal, SqliteSynchronous::Normal),
        };
        let pool = pool_options().connect_with(options.clone().synchronous(records)).await?;
        let relaxed = match durability {
            Durability::Records => pool_options().connect_lazy_with(options.synchronous(relaxed)),
            Durability::Full | Durability::Normal => pool.clone(),
        };
        Ok(Self { pool, relaxed, _copy: None })
    }

    /// Opens the database for reading what is there; `None` when there is none, and then nothing is made.
    pub async fn open_existing(db_path: &Path) -> Result<Option<Self>, StoreError> {
        // An empty file is what a process leaves that ended before it had written anything.
        if !db_path.metadata().is_ok_and(|file| file.is_file() && file.len() > 0) {
            return Ok(None);
        }
        if let Some(store) = Self::open_current(db_path).await {
            return Ok(Some(store));
        }
        match Self::open(db_path).await {
            // SQLite makes files beside the database even to read it.
            Err(error) if error.fault().is_some_and(|fault| CANNOT_WRITE.contains(&fault)) => {
                match Self::open_read_only(db_path).await {
                    Err(other @ StoreError::NewerDatabase { .. }) => Err(other),
                    opened => opened.map_or(Err(error), |store| Ok(Some(store))),
                }
            }
            opened => opened.map(Some),
        }
    }

    /// Opens a database whose schema needs no change, and therefore no lock; `None` for any other.
    async fn open_current(db_path: &Path) -> Option<Self> {
        let store = Self::connect(options(db_path), Durability::default()).await.ok()?;
        match store.schema_version().await {
            Ok(found) if found == newest_schema() => Some(store),
            _ => None,
        }
    }

    /// Opens a database that nobody can write where it lies, such as one on a read-only disk.
    async fn open_read_only(db_path: &Path) -> Result<Self, StoreError> {
        // Without a log to take into account SQLite needs no files of its own beside the database.
        let log_is_empty = std::fs::metadata(beside(db_path, "-wal")).map_or(true, |log| log.len() == 0);
        let options = SqliteConnectOptions::new().filename(db_path).read_only(true).immutable(log_is_empty);
        let pool = SqlitePoolOptions::new().max_connections(1).connect_with(options).await;
        let pool = pool.map_err(|source| StoreError::Open { path: db_path.to_owned(), source })?;
        let store = Self { relaxed: pool.clone(), pool, _copy: None };
        let (found, known) = (store.schema_version().await?, newest_schema());
        match found.cmp(&known) {
            Ordering::Greater => Err(StoreError::NewerDatabase { path: db_path.to_owned(), found, known }),
            Ordering::Equal => Ok(store),
            Ordering::Less => Self::open_copy(db_path).await,
        }
    }

    /// Opens a copy of a database whose schema is old and cannot be changed where it lies.
    async fn open_copy(db_path: &Path) -> Result<Self, StoreError> {
        let failed = |source| StoreError::Io { path: db_path.to_owned(), source };
        let folder = tempfile::tempdir().map_err(failed)?;
        let copy = folder.path().join("xp.db");
        std::fs::copy(db_path, &copy).map_err(failed)?;
        let log = beside(db_path, "-wal");
        if log.is_file() {
            std::fs::copy(&log, beside(&copy, "-wal")).map_err(failed)?;
        }
        let store = Self::open_migrated(&copy, Durability::default(), Backup::Never).await?;
        // What would be written here would be gone with the copy.
        for pool in [&store.pool, &store.relaxed] {
            pool.set_connect_options((*pool.connect_options()).clone().pragma("query_only", "on"));
            for _ in 0..pool.size() {
                pool.acquire().await?.close().await?;
            }
        }
        Ok(Self { _copy: Some(Arc::new(folder)), ..store })
    }

    /// The timestamp of the last migration applied.
    pub async fn schema_version(&self) -> Result<i64, StoreError> {
        let version = sqlx::query_scalar("SELECT max(version) FROM _sqlx_migrations");
        Ok(version.fetch_one(&self.pool).await?)
    }

    /// Reads the whole database for damage; empty when it is sound.
    pub async fn integrity_check(&self) -> Result<Vec<String>, StoreError> {
        let lines: Vec<String> = sqlx::query_scalar("PRAGMA integrity_check").fetch_all(&self.pool).await?;
        let mut problems: Vec<String> = lines.into_iter().filter(|line| line != "ok").collect();
        for row in sqlx::query("PRAGMA foreign_key_check").fetch_all(&self.pool).await? {
            let (table, parent): (String, String) = (row.try_get(0)?, row.try_get(2)?);
            problems.push(format!("a row of {table} refers to a missing row of {parent}"));
        }
        Ok(problems)
    }

    /// Closes every connection and waits for it; the write-ahead log is folded into the database.
    pub async fn close(self) {
        self.relaxed.close().await;
        self.pool.close().await;
    }

    /// Starts a transaction that holds the write lock from its beginning.
    ///
    /// A transaction that reads first and asks for the lock later can fail at once instead of waiting its turn.
    pub(crate) async fn write(&self) -> Result<Transaction<'static, Sqlite>, StoreError> {
        Ok(self.pool.begin_with("BEGIN IMMEDIATE").await?)
    }

    /// Starts such a transaction for what need not survive a power cut by itself; see [`Durability::Records`].
    pub(crate) async fn write_relaxed(&self) -> Result<Transaction<'static, Sqlite>, StoreError> {
        Ok(self.relaxed.begin_with("BEGIN IMMEDIATE").await?)
    }
}

/// The database's path with something appended to its name.
pub(crate) fn beside(db_path: &Path, suffix: &str) -> PathBuf {
    let mut name = db_path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

fn options(db_path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(db_path)
        .journal_mode(SqliteJournalMode::Wal)
        .busy_timeout(BUSY_TIMEOUT)
        .row_buffer_size(ROW_BUFFER)
        .foreign_keys(true)
}

/// A connection to a file neither ages nor breaks, so none is given up or asked whether it still answers.
fn pool_options() -> SqlitePoolOptions {
    let options = SqlitePoolOptions::new().max_connections(MAX_CONNECTIONS);
    options.idle_timeout(None).max_lifetime(None).test_before_acquire(false)
}

fn newest_schema() -> i64 {
    MIGRATOR.iter().map(|migration| migration.version).max().unwrap_or(0)
}

/// Takes the lock file beside the database, waiting for it off the async threads; dropping it releases it.
async fn lock_beside(db_path: &Path) -> Result<File, StoreError> {
    let path = beside(db_path, ".lock");
    let lock_path = path.clone();
    let locked = tokio::task::spawn_blocking(move || {
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(&lock_path)?;
        file.lock()?;
        Ok(file)
    });
    let locked = locked.await.unwrap_or_else(|error| Err(std::io::Error::other(error)));
    locked.map_err(|source| StoreError::Io { path, source })
}

fn migration_error(db_path: &Path, error: MigrateError) -> StoreError {
    let (path, known) = (db_path.to_owned(), newest_schema());
    match error {
        MigrateError::VersionMissing(found) => StoreError::NewerDatabase { path, found, known },
        source => StoreError::Migrate { path, source },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::sample::{self, wait};

    #[test]
    fn a_database_that_cannot_be_written_can_be_read() {
        wait(async {
            let (folder, store) = sample::store().await;
            store.create_run(&sample::new_run("A", "owl", 0)).await.unwrap();
            store.close().await;
            let read_only = Store::open_read_only(&folder.path().join("xp.db")).await.unwrap();
            assert_eq!(read_only.find_run("owl").await.unwrap(), sample::id("A"));
            assert!(read_only.create_run(&sample::new_run("B", "lark", 0)).await.is_err());
        });
    }

    #[test]
    fn sixteen_processes_may_open_an_empty_folder_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let db_path = folder.path().join("new/.xp/xp.db");
        let threads: Vec<_> = (0..16)
            .map(|i| {
                let db_path = db_path.clone();
                std::thread::spawn(move || {
                    wait(async {
                        let store = Store::open(&db_path).await.unwrap();
                        let run = sample::new_run(&format!("id-{i:02}"), "fashion-calm-fern", i);
                        store.create_run(&run).await.unwrap()
                    })
                })
            })
            .collect();
        let mut names: Vec<String> = threads.into_iter().map(|t| t.join().unwrap()).collect();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), 16, "{names:?}");
    }

    #[test]
    fn one_runtime_may_open_a_database_several_times_at_once() {
        wait(async {
            let folder = tempfile::tempdir().unwrap();
            let db_path = folder.path().join("xp.db");
            let tasks: Vec<_> = (0..16)
                .map(|_| {
                    let db_path = db_path.clone();
                    tokio::spawn(async move { Store::open(&db_path).await.map(drop) })
                })
                .collect();
            for task in tasks {
                task.await.unwrap().unwrap();
            }
        });
    }

    #[test]
    fn a_reader_makes_nothing_where_there_is_nothing() {
        wait(async {
            let folder = tempfile::tempdir().unwrap();
            let db_path = folder.path().join("xp.db");
            assert!(Store::open_existing(&db_path).await.unwrap().is_none());
            assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
            Store::open(&db_path).await.unwrap();
            assert!(Store::open_existing(&db_path).await.unwrap().is_some());
        });
    }

    #[test]
    fn a_database_of_a_newer_xp_is_refused() {
        wait(async {
            let (folder, store) = sample::store().await;
            sqlx::query(
                "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
                 VALUES (99990101000000, 'later', TRUE, x'00', 0)",
            )
            .execute(&store.pool)
            .await
            .unwrap();
            assert_eq!(store.schema_version().await.unwrap(), 99990101000000);
            store.close().await;
            let newest = MIGRATOR.iter().map(|migration| migration.version).max().unwrap();
            let error = Store::open(&folder.path().join("xp.db")).await.unwrap_err();
            let StoreError::NewerDatabase { found, known, .. } = error else { panic!("{error}") };
            assert_eq!(found, 99990101000000);
            assert_eq!(known, newest);
        });
    }

    #[test]
    fn a_file_that_is_no_database_is_an_error_naming_it() {
        wait(async {
            let folder = tempfile::tempdir().unwrap();
            let db_path = folder.path().join("xp.db");
            std::fs::write(&db_path, "name: fashion\n".repeat(100)).unwrap();
            let error = Store::open(&db_path).await.unwrap_err().to_string();
            assert!(error.contains("xp.db") && error.contains("not a database"), "{error}");
        });
    }

    #[test]
    fn a_new_database_is_sound() {
        wait(async {
            let (_folder, store) = sample::store().await;
            assert_eq!(store.integrity_check().await.unwrap(), Vec::<String>::new());
        });
    }
}
