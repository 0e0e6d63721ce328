//! The handle on the database: opening it, bringing its schema up to date, and asking whether it is sound.

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::time::Duration;

use sqlx::migrate::{MigrateError, Migrator};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{Row, Sqlite, SqlitePool, Transaction};

use crate::store::StoreError;

static MIGRATOR: Migrator = sqlx::migrate!("./migrations");

/// Long enough for every other process's transactions: a writer that gives up loses data.
const BUSY_TIMEOUT: Duration = Duration::from_secs(30);

/// SQLite has one writer at a time, so more connections would only wait.
const MAX_CONNECTIONS: u32 = 4;

/// A handle on the database; clones share its connections.
#[derive(Clone, Debug)]
pub struct Store {
    pub(crate) pool: SqlitePool,
}

impl Store {
    /// Opens the database, making its folder, the file and the schema as needed.
    ///
    /// Any number of processes may do so at once: the first to hold the lock file beside the database migrates it.
    pub async fn open(db_path: &Path) -> Result<Self, StoreError> {
        if let Some(folder) = db_path.parent() {
            std::fs::create_dir_all(folder).map_err(|source| StoreError::Io { path: folder.to_owned(), source })?;
        }
        let migration_lock = lock_beside(db_path).await?;
        let pool = SqlitePoolOptions::new()
            .max_connections(MAX_CONNECTIONS)
            .connect_with(options(db_path))
            .await
            .map_err(|source| StoreError::Open { path: db_path.to_owned(), source })?;
        MIGRATOR.run(&pool).await.map_err(|error| migration_error(db_path, error))?;
        drop(migration_lock);
        Ok(Self { pool })
    }

    /// Opens the database for reading what is there; `None` when there is none, and then nothing is made.
    pub async fn open_existing(db_path: &Path) -> Result<Option<Self>, StoreError> {
        if !db_path.is_file() {
            return Ok(None);
        }
        Self::open(db_path).await.map(Some)
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
        self.pool.close().await;
    }

    /// Starts a transaction that holds the write lock from its beginning.
    ///
    /// A transaction that reads first and asks for the lock later can fail at once instead of waiting its turn.
    pub(crate) async fn write(&self) -> Result<Transaction<'static, Sqlite>, StoreError> {
        Ok(self.pool.begin_with("BEGIN IMMEDIATE").await?)
    }
}

fn options(db_path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(db_path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .busy_timeout(BUSY_TIMEOUT)
        .foreign_keys(true)
}

/// Takes the lock file beside the database, waiting for it off the async threads; dropping it releases it.
async fn lock_beside(db_path: &Path) -> Result<File, StoreError> {
    let mut name = db_path.as_os_str().to_owned();
    name.push(".lock");
    let path = PathBuf::from(name);
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
    let path = db_path.to_owned();
    let known = MIGRATOR.iter().map(|migration| migration.version).max().unwrap_or(0);
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
            let error = Store::open(&folder.path().join("xp.db")).await.unwrap_err();
            let StoreError::NewerDatabase { found, known, .. } = error else { panic!("{error}") };
            assert_eq!(found, 99990101000000);
            assert_eq!(known, 20261124000000);
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
