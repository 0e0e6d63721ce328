//! Checkpoints' rows, and the transaction that commits an epoch.

use std::path::PathBuf;

use sqlx::{Sqlite, Transaction};

use crate::run::detail::CheckpointRecord;
use crate::run::event::SavedCheckpoint;
use crate::run::id::RunId;
use crate::run::metric::{MetricKey, Point, Resolution};
use crate::store::StoreError;
use crate::store::connect::Store;
use crate::store::metrics;

impl Store {
    /// Commits an epoch in one transaction: its points, its series' summaries and its checkpoint, or nothing at all.
    ///
    /// The checkpoint's files must be whole on disk. An epoch is committed once; a second time is an error.
    pub async fn commit_epoch(
        &self,
        id: &RunId,
        epoch: u32,
        points: &[(MetricKey, Point)],
        checkpoint: &SavedCheckpoint,
        monitor_value: Option<f64>,
    ) -> Result<(), StoreError> {
        let mut tx = self.write().await?;
        metrics::append(&mut tx, id, Resolution::Epoch, &metrics::by_series(points)).await?;
        sqlx::query(
            "INSERT INTO checkpoints (run_id, epoch, step, path, n_bytes, manifest_hash, monitor_value)
            VALUES ($1, $2, $3, $4, $5, $6, $7)",
        )
        .bind(id.as_str())
        .bind(epoch)
        .bind(checkpoint.step.cast_signed())
        .bind(checkpoint.path.to_string_lossy().into_owned())
        .bind(checkpoint.n_bytes.cast_signed())
        .bind(&checkpoint.manifest_hash)
        .bind(monitor_value)
        .execute(&mut *tx)
        .await?;
        // A committed epoch is a sign of life.
        if let Some(at_ms) = points.iter().map(|(_, point)| point.at_ms).max() {
            sqlx::query("UPDATE runs SET heartbeat_at_ms = max(heartbeat_at_ms, $2) WHERE id = $1")
                .bind(id.as_str())
                .bind(at_ms)
                .execute(&mut *tx)
                .await?;
        }
        Ok(tx.commit().await?)
    }

    /// Records that the files of these epochs' checkpoints are gone.
    pub async fn mark_checkpoints_deleted(&self, id: &RunId, epochs: &[u32]) -> Result<(), StoreError> {
        let mut tx = self.write().await?;
        for epoch in epochs {
            sqlx::query("UPDATE checkpoints SET deleted = TRUE WHERE run_id = $1 AND epoch = $2")
                .bind(id.as_str())
                .bind(epoch)
                .execute(&mut *tx)
                .await?;
        }
        Ok(tx.commit().await?)
    }

    /// Records that these epochs' checkpoints are now others, such as the same in a newer format: all of them or none.
    pub async fn replace_checkpoints(&self, id: &RunId, checkpoints: &[SavedCheckpoint]) -> Result<(), StoreError> {
        if checkpoints.is_empty() {
            return Ok(());
        }
        let mut tx = self.write().await?;
        for checkpoint in checkpoints {
            sqlx::query(
                "UPDATE checkpoints SET step = $3, path = $4, n_bytes = $5, manifest_hash = $6
                WHERE run_id = $1 AND epoch = $2",
            )
            .bind(id.as_str())
            .bind(checkpoint.epoch)
            .bind(checkpoint.step.cast_signed())
            .bind(checkpoint.path.to_string_lossy().into_owned())
            .bind(checkpoint.n_bytes.cast_signed())
            .bind(&checkpoint.manifest_hash)
            .execute(&mut *tx)
            .await?;
        }
        Ok(tx.commit().await?)
    }

    /// Records how many bytes are left of an epoch's checkpoint.
    pub async fn set_checkpoint_size(&self, id: &RunId, epoch: u32, n_bytes: u64) -> Result<(), StoreError> {
        let mut tx = self.write_relaxed().await?;
        sqlx::query("UPDATE checkpoints SET n_bytes = $3 WHERE run_id = $1 AND epoch = $2")
            .bind(id.as_str())
            .bind(epoch)
            .bind(n_bytes.cast_signed())
            .execute(&mut *tx)
            .await?;
        Ok(tx.commit().await?)
    }

    /// Reads a run's checkpoints by epoch, those since deleted included.
    pub async fn checkpoints(&self, id: &RunId) -> Result<Vec<CheckpointRecord>, StoreError> {
        let mut tx = self.pool.begin().await?;
        select(&mut tx, id).await
    }
}

#[derive(sqlx::FromRow)]
struct CheckpointRow {
    epoch: u32,
    step: i64,
    path: String,
    n_bytes: i64,
    manifest_hash: String,
    monitor_value: Option<f64>,
    deleted: bool,
}

/// Reads a run's checkpoints by epoch.
pub(crate) async fn select(tx: &mut Transaction<'_, Sqlite>, id: &RunId) -> Result<Vec<CheckpointRecord>, StoreError> {
    let rows: Vec<CheckpointRow> = sqlx::query_as(
        "SELECT epoch, step, path, n_bytes, manifest_hash, monitor_value, deleted
        FROM checkpoints WHERE run_id = $1 ORDER BY epoch",
    )
    .bind(id.as_str())
    .fetch_all(&mut **tx)
    .await?;
    Ok(rows.into_iter().map(record).collect())
}

fn record(row: CheckpointRow) -> CheckpointRecord {
    CheckpointRecord {
        saved: SavedCheckpoint {
            epoch: row.epoch,
            step: row.step.cast_unsigned(),
            path: PathBuf::from(row.path),
            n_bytes: row.n_bytes.cast_unsigned(),
            manifest_hash: row.manifest_hash,
        },
        monitor_value: row.monitor_value,
        deleted: row.deleted,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::sample::{self, VALID_ACCURACY, VALID_LOSS, checkpoint, id, point, wait};

    #[test]
    fn an_epoch_is_committed_whole_or_not_at_all() {
        wait(async {
            let (folder, store) = sample::store().await;
            store.create_run(&sample::new_run("A", "owl", 0)).await.unwrap();
            let epoch_1 = [(VALID_LOSS, point(1, 0.5))];
            store.commit_epoch(&id("A"), 1, &epoch_1, &checkpoint(1), Some(0.5)).await.unwrap();

            // The checkpoint's row comes last and collides, after new points, summaries and a series were written.
            let again = [(VALID_LOSS, point(2, 0.1)), (VALID_ACCURACY, point(2, 0.9))];
            let failed = store.commit_epoch(&id("A"), 1, &again, &checkpoint(1), Some(0.1)).await;
            assert!(matches!(failed, Err(StoreError::Query(_))), "{failed:?}");

            let read = store.points(&id("A"), VALID_LOSS, Resolution::Epoch).await.unwrap();
            assert_eq!(read, [point(1, 0.5)]);
            let observer = sample::observer(folder.path(), 0);
            let run = store.run_summary(&id("A"), &observer).await.unwrap();
            assert_eq!(run.metrics.keys().collect::<Vec<_>>(), ["valid.loss"]);
            assert_eq!(run.metrics["valid.loss"].best, Some(0.5));
        });
    }

    #[test]
    fn checkpoints_come_back_by_epoch_with_what_became_of_them() {
        wait(async {
            let (_folder, store) = sample::store().await;
            store.create_run(&sample::new_run("A", "owl", 0)).await.unwrap();
            for (epoch, value) in [(1, Some(0.5)), (2, Some(f64::NAN)), (3, None)] {
                let saved = checkpoint(epoch);
                store.commit_epoch(&id("A"), epoch, &[], &saved, value).await.unwrap();
            }
            store.mark_checkpoints_deleted(&id("A"), &[1, 2]).await.unwrap();
            let read = store.checkpoints(&id("A")).await.unwrap();
            let expected = [(1, Some(0.5), true), (2, None, true), (3, None, false)];
            assert_eq!(read.len(), expected.len());
            for (record, (epoch, monitor_value, deleted)) in read.into_iter().zip(expected) {
                let saved = checkpoint(epoch);
                assert_eq!(record, CheckpointRecord { saved, monitor_value, deleted });
            }
        });
    }
}
