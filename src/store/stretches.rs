//! What the epochs of a run were trained under.

use sqlx::{Sqlite, Transaction};

use crate::run::id::RunId;
use crate::run::stretch::Stretch;
use crate::store::StoreError;

/// Records a run's stretches, in place of what was recorded before.
pub(crate) async fn replace(
    tx: &mut Transaction<'_, Sqlite>,
    id: &RunId,
    stretches: &[Stretch],
) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM run_stretches WHERE run_id = $1").bind(id.as_str()).execute(&mut **tx).await?;
    for stretch in stretches {
        sqlx::query(
            "INSERT INTO run_stretches (run_id, after_epoch, epochs, schedule, schedule_after, is_past_early_stop)
            VALUES ($1, $2, $3, $4, $5, $6)",
        )
        .bind(id.as_str())
        .bind(stretch.after_epoch)
        .bind(stretch.epochs)
        .bind(stretch.schedule.to_string())
        .bind(stretch.schedule_after)
        .bind(i64::from(stretch.is_past_early_stop))
        .execute(&mut **tx)
        .await?;
    }
    Ok(())
}

/// Reads a run's stretches, in their order; none of a run from before they were recorded.
pub(crate) async fn select(tx: &mut Transaction<'_, Sqlite>, id: &RunId) -> Result<Vec<Stretch>, StoreError> {
    let rows: Vec<(u32, u32, String, u32, i64)> = sqlx::query_as(
        "SELECT after_epoch, epochs, schedule, schedule_after, is_past_early_stop
        FROM run_stretches WHERE run_id = $1 ORDER BY after_epoch",
    )
    .bind(id.as_str())
    .fetch_all(&mut **tx)
    .await?;
    let stretch = |(after_epoch, epochs, schedule, schedule_after, is_past): (u32, u32, String, u32, i64)| {
        let schedule = serde_json::from_str(&schedule).map_err(|error| StoreError::Corrupt {
            what: format!("the stretches of the run {id}"),
            reason: error.to_string(),
        })?;
        Ok(Stretch { after_epoch, epochs, schedule, schedule_after, is_past_early_stop: is_past != 0 })
    };
    rows.into_iter().map(stretch).collect()
}
