//! A copy of the database from before its schema is changed: `xp.db.before-<schema>`, named by the schema that came next.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use sqlx::SqlitePool;

use crate::store::StoreError;
use crate::store::connect::beside;

/// Between the database's name and the schema that came next.
const INFIX: &str = ".before-";

/// Copies a database whose schema is older than `newest`; its migration lock must be held. An earlier copy goes once this
/// one is whole.
pub(crate) async fn before_migration(pool: &SqlitePool, db_path: &Path, newest: i64) -> Result<(), StoreError> {
    let failed = |source| StoreError::Backup { path: db_path.to_owned(), source };
    let Some(found) = schema(pool).await.map_err(failed)? else { return Ok(()) };
    if found >= newest {
        return Ok(());
    }
    let copy = beside(db_path, &format!("{INFIX}{newest}"));
    let partial = beside(&copy, ".partial");
    // What a killed process left would be in the way.
    remove(&partial).map_err(|error| failed(error.into()))?;
    let made = async {
        sqlx::query("VACUUM INTO $1").bind(partial.to_string_lossy().into_owned()).execute(pool).await?;
        fs::File::open(&partial)?.sync_all()?;
        fs::rename(&partial, &copy)?;
        Ok(())
    };
    if let Err(source) = made.await {
        let _ = remove(&partial);
        return Err(failed(source));
    }
    tracing::info!(copy = %copy.display(), "the database was copied before its schema changes");
    remove_earlier(db_path, &copy);
    Ok(())
}

/// The last migration applied; `None` of a database that none was applied to.
async fn schema(pool: &SqlitePool) -> Result<Option<i64>, sqlx::Error> {
    let is_there = "SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name = '_sqlx_migrations'";
    match sqlx::query_scalar::<_, i64>(is_there).fetch_one(pool).await? {
        0 => Ok(None),
        _ => sqlx::query_scalar("SELECT max(version) FROM _sqlx_migrations").fetch_one(pool).await,
    }
}

fn remove_earlier(db_path: &Path, newest: &Path) {
    let beginning = beside(db_path, INFIX);
    let is_earlier = |path: &PathBuf| {
        path != newest && path.as_os_str().as_encoded_bytes().starts_with(beginning.as_os_str().as_encoded_bytes())
    };
    let entries = db_path.parent().and_then(|folder| fs::read_dir(folder).ok());
    for path in entries.into_iter().flatten().flatten().map(|entry| entry.path()).filter(is_earlier) {
        if let Err(error) = fs::remove_file(&path) {
            tracing::warn!(copy = %path.display(), %error, "an older copy of the database stays");
        }
    }
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
