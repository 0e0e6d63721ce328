//! Rows of the files a run leaves behind.

use std::path::PathBuf;

use sqlx::{Sqlite, Transaction};

use crate::run::detail::Artifact;
use crate::run::id::RunId;
use crate::store::StoreError;
use crate::store::connect::Store;

impl Store {
    /// Records a file, in place of one recorded at the same path.
    pub async fn add_artifact(&self, id: &RunId, artifact: &Artifact) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO artifacts (run_id, path, kind, n_bytes, hash) VALUES ($1, $2, $3, $4, $5)
            ON CONFLICT (run_id, path) DO UPDATE
            SET kind = excluded.kind, n_bytes = excluded.n_bytes, hash = excluded.hash",
        )
        .bind(id.as_str())
        .bind(artifact.path.to_string_lossy().into_owned())
        .bind(&artifact.kind)
        .bind(artifact.n_bytes.cast_signed())
        .bind(&artifact.hash)
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// A run's files, by path.
    pub async fn artifacts(&self, id: &RunId) -> Result<Vec<Artifact>, StoreError> {
        let mut tx = self.pool.begin().await?;
        select(&mut tx, id).await
    }
}

/// Reads a run's artifacts by path.
pub(crate) async fn select(tx: &mut Transaction<'_, Sqlite>, id: &RunId) -> Result<Vec<Artifact>, StoreError> {
    let rows: Vec<(String, String, i64, String)> =
        sqlx::query_as("SELECT kind, path, n_bytes, hash FROM artifacts WHERE run_id = $1 ORDER BY path")
            .bind(id.as_str())
            .fetch_all(&mut **tx)
            .await?;
    let artifact = |(kind, path, n_bytes, hash): (String, String, i64, String)| Artifact {
        kind,
        path: PathBuf::from(path),
        n_bytes: n_bytes.cast_unsigned(),
        hash,
    };
    Ok(rows.into_iter().map(artifact).collect())
}
