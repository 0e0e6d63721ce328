//! Metrics: packed blocks of points, and a summary of each series kept up to date beside them.

use std::collections::BTreeMap;

use sqlx::{QueryBuilder, Sqlite, Transaction};

use crate::run::id::RunId;
use crate::run::metric::{MetricKey, Point, Resolution, SeriesSummary};
use crate::store::StoreError;
use crate::store::blocks::{self, BLOCK_LEN};
use crate::store::connect::Store;
use crate::store::list::Selection;

impl Store {
    /// Adds points of single optimizer steps.
    pub async fn append_step_points(&self, id: &RunId, points: &[(MetricKey, Point)]) -> Result<(), StoreError> {
        let mut tx = self.write().await?;
        append(&mut tx, id, Resolution::Step, points).await?;
        Ok(tx.commit().await?)
    }

    /// Adds what was measured on the test split, at the epoch of the checkpoint that was measured.
    pub async fn add_test_points(&self, id: &RunId, points: &[(MetricKey, Point)]) -> Result<(), StoreError> {
        let mut tx = self.write().await?;
        append(&mut tx, id, Resolution::Epoch, points).await?;
        Ok(tx.commit().await?)
    }

    /// Reads a series in the order it was written; empty when there is none.
    pub async fn points(&self, id: &RunId, key: MetricKey, resolution: Resolution) -> Result<Vec<Point>, StoreError> {
        let blocks: Vec<Vec<u8>> = sqlx::query_scalar(
            "SELECT data FROM point_blocks JOIN series ON series.id = point_blocks.series_id
            WHERE run_id = $1 AND resolution = $2 AND name = $3 ORDER BY block",
        )
        .bind(id.as_str())
        .bind(resolution_text(resolution))
        .bind(key.to_string())
        .fetch_all(&self.pool)
        .await?;
        let mut points = Vec::new();
        for data in blocks {
            points.extend(decode(&data, id, key)?);
        }
        Ok(points)
    }
}

/// Adds points to their series, making the series that are new.
pub(crate) async fn append(
    tx: &mut Transaction<'_, Sqlite>,
    id: &RunId,
    resolution: Resolution,
    points: &[(MetricKey, Point)],
) -> Result<(), StoreError> {
    let mut by_key: BTreeMap<MetricKey, Vec<Point>> = BTreeMap::new();
    for (key, point) in points {
        by_key.entry(*key).or_default().push(*point);
    }
    for (key, points) in by_key {
        let (series_id, mut summary) = open_series(tx, id, key, resolution).await?;
        for point in &points {
            summary.push(point, key.direction());
        }
        update_summary(tx, series_id, &summary).await?;
        append_to_blocks(tx, id, key, series_id, &points).await?;
    }
    Ok(())
}

/// Forgets the points of single steps after an epoch, and what they added to their series' summaries.
pub(crate) async fn supersede_steps(
    tx: &mut Transaction<'_, Sqlite>,
    id: &RunId,
    last_epoch: u32,
) -> Result<(), StoreError> {
    let series: Vec<(i64, String)> =
        sqlx::query_as("SELECT id, name FROM series WHERE run_id = $1 AND resolution = $2 ORDER BY id")
            .bind(id.as_str())
            .bind(resolution_text(Resolution::Step))
            .fetch_all(&mut **tx)
            .await?;
    for (series_id, name) in series {
        let Some(key) = MetricKey::parse(&name) else { continue };
        let blocks: Vec<Vec<u8>> =
            sqlx::query_scalar("SELECT data FROM point_blocks WHERE series_id = $1 ORDER BY block")
                .bind(series_id)
                .fetch_all(&mut **tx)
                .await?;
        let mut kept = Vec::new();
        for block in blocks {
            kept.extend(decode(&block, id, key)?.into_iter().filter(|point| point.epoch <= last_epoch));
        }
        // Its blocks go with it.
        sqlx::query("DELETE FROM series WHERE id = $1").bind(series_id).execute(&mut **tx).await?;
        let kept: Vec<(MetricKey, Point)> = kept.into_iter().map(|point| (key, point)).collect();
        append(tx, id, Resolution::Step, &kept).await?;
    }
    Ok(())
}

/// Reads the epoch series' summaries of every selected run, by run id and name.
pub(crate) async fn summaries(
    tx: &mut Transaction<'_, Sqlite>,
    selection: &Selection<'_>,
) -> Result<Vec<(String, String, SeriesSummary)>, StoreError> {
    let mut query = QueryBuilder::new(
        "SELECT run_id, name, id, last_value, min_value, max_value, best_value, best_epoch, n_points
        FROM (SELECT * FROM series WHERE resolution = 'epoch') AS epoch_series",
    );
    selection.push_where(&mut query, "run_id");
    let rows: Vec<SeriesRow> = query.build_query_as().fetch_all(&mut **tx).await?;
    Ok(rows
        .into_iter()
        .map(|row| {
            let summary = row.summary();
            (row.run_id, row.name, summary)
        })
        .collect())
}

#[derive(sqlx::FromRow)]
struct SeriesRow {
    run_id: String,
    name: String,
    id: i64,
    last_value: Option<f64>,
    min_value: Option<f64>,
    max_value: Option<f64>,
    best_value: Option<f64>,
    best_epoch: Option<u32>,
    n_points: i64,
}

impl SeriesRow {
    /// SQLite stores NaN as NULL: in a series with points, a missing last value is NaN.
    fn summary(&self) -> SeriesSummary {
        let last = self.last_value.or((self.n_points > 0).then_some(f64::NAN));
        SeriesSummary {
            last,
            min: self.min_value,
            max: self.max_value,
            best: self.best_value,
            best_epoch: self.best_epoch,
            n_points: self.n_points.cast_unsigned(),
        }
    }
}

async fn open_series(
    tx: &mut Transaction<'_, Sqlite>,
    id: &RunId,
    key: MetricKey,
    resolution: Resolution,
) -> Result<(i64, SeriesSummary), StoreError> {
    sqlx::query(
        "INSERT INTO series (run_id, resolution, name, n_points) VALUES ($1, $2, $3, 0)
        ON CONFLICT (run_id, resolution, name) DO NOTHING",
    )
    .bind(id.as_str())
    .bind(resolution_text(resolution))
    .bind(key.to_string())
    .execute(&mut **tx)
    .await?;
    let row: SeriesRow = sqlx::query_as(
        "SELECT run_id, name, id, last_value, min_value, max_value, best_value, best_epoch, n_points
        FROM series WHERE run_id = $1 AND resolution = $2 AND name = $3",
    )
    .bind(id.as_str())
    .bind(resolution_text(resolution))
    .bind(key.to_string())
    .fetch_one(&mut **tx)
    .await?;
    Ok((row.id, row.summary()))
}

async fn update_summary(
    tx: &mut Transaction<'_, Sqlite>,
    series_id: i64,
    summary: &SeriesSummary,
) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE series SET last_value = $2, min_value = $3, max_value = $4, best_value = $5,
            best_epoch = $6, n_points = $7
        WHERE id = $1",
    )
    .bind(series_id)
    .bind(summary.last)
    .bind(summary.min)
    .bind(summary.max)
    .bind(summary.best)
    .bind(summary.best_epoch)
    .bind(summary.n_points.cast_signed())
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Fills the last block up and begins others behind it; full blocks are never touched again.
async fn append_to_blocks(
    tx: &mut Transaction<'_, Sqlite>,
    id: &RunId,
    key: MetricKey,
    series_id: i64,
    points: &[Point],
) -> Result<(), StoreError> {
    let last: Option<(i64, Vec<u8>)> =
        sqlx::query_as("SELECT block, data FROM point_blocks WHERE series_id = $1 ORDER BY block DESC LIMIT 1")
            .bind(series_id)
            .fetch_optional(&mut **tx)
            .await?;
    let (first_block, mut open) = match last {
        Some((block, data)) => (block, decode(&data, id, key)?),
        None => (0, Vec::new()),
    };
    open.extend_from_slice(points);
    for (block, points) in (first_block..).zip(open.chunks(BLOCK_LEN)) {
        sqlx::query(
            "INSERT INTO point_blocks (series_id, block, data) VALUES ($1, $2, $3)
            ON CONFLICT (series_id, block) DO UPDATE SET data = excluded.data",
        )
        .bind(series_id)
        .bind(block)
        .bind(blocks::encode(points))
        .execute(&mut **tx)
        .await?;
    }
    Ok(())
}

fn decode(data: &[u8], id: &RunId, key: MetricKey) -> Result<Vec<Point>, StoreError> {
    blocks::decode(data)
        .map_err(|reason| StoreError::Corrupt { what: format!("the points of {key} of the run {id}"), reason })
}

fn resolution_text(resolution: Resolution) -> &'static str {
    match resolution {
        Resolution::Epoch => "epoch",
        Resolution::Step => "step",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::sample::{self, VALID_LOSS, id, point, wait};

    #[test]
    fn points_added_one_by_one_fill_blocks_and_come_back_in_order() {
        wait(async {
            let (_folder, store) = sample::store().await;
            store.create_run(&sample::new_run("A", "owl", 0)).await.unwrap();
            let points: Vec<Point> = (0..3_000).map(|i| Point { step: i, ..point(1, i as f64) }).collect();
            for chunk in points.chunks(700) {
                let keyed: Vec<_> = chunk.iter().map(|point| (VALID_LOSS, *point)).collect();
                store.append_step_points(&id("A"), &keyed).await.unwrap();
            }
            let read = store.points(&id("A"), VALID_LOSS, Resolution::Step).await.unwrap();
            assert_eq!(read, points);
            let none = store.points(&id("A"), VALID_LOSS, Resolution::Epoch).await.unwrap();
            assert_eq!(none, []);
            let blocks: Vec<(i64, Vec<u8>)> = sqlx::query_as("SELECT block, data FROM point_blocks ORDER BY block")
                .fetch_all(&store.pool)
                .await
                .unwrap();
            let lengths: Vec<_> =
                blocks.iter().map(|(block, data)| (*block, blocks::decode(data).unwrap().len())).collect();
            assert_eq!(lengths, [(0, 1024), (1, 1024), (2, 952)]);
        });
    }

    #[test]
    fn nan_and_infinities_survive_in_points_and_summaries() {
        wait(async {
            let (folder, store) = sample::store().await;
            store.create_run(&sample::new_run("A", "owl", 0)).await.unwrap();
            let values = [f64::INFINITY, 0.5, f64::NEG_INFINITY, f64::NAN];
            for (epoch, value) in (1..).zip(values) {
                let points = [(VALID_LOSS, point(epoch, value))];
                store.add_test_points(&id("A"), &points).await.unwrap();
            }
            let read = store.points(&id("A"), VALID_LOSS, Resolution::Epoch).await.unwrap();
            let bits: Vec<u64> = read.iter().map(|point| point.value.to_bits()).collect();
            assert_eq!(bits, values.map(f64::to_bits));
            let observer = sample::observer(folder.path(), 0);
            let run = store.run_summary(&id("A"), &observer).await.unwrap();
            let series = &run.metrics["valid.loss"];
            assert!(series.last.unwrap().is_nan());
            assert_eq!(series.min, Some(f64::NEG_INFINITY));
            assert_eq!(series.max, Some(f64::INFINITY));
            assert_eq!((series.best, series.best_epoch), (Some(f64::NEG_INFINITY), Some(3)));
            assert_eq!(series.n_points, 4);
        });
    }

    #[test]
    fn a_series_of_nothing_but_nan_has_a_last_value_and_no_best() {
        wait(async {
            let (folder, store) = sample::store().await;
            store.create_run(&sample::new_run("A", "owl", 0)).await.unwrap();
            let points = [(VALID_LOSS, point(1, f64::NAN))];
            store.add_test_points(&id("A"), &points).await.unwrap();
            let observer = sample::observer(folder.path(), 0);
            let run = store.run_summary(&id("A"), &observer).await.unwrap();
            let series = &run.metrics["valid.loss"];
            assert!(series.last.unwrap().is_nan());
            assert_eq!((series.min, series.max, series.best), (None, None, None));
            assert_eq!((series.best_epoch, series.n_points), (None, 1));
        });
    }

    #[test]
    fn a_damaged_block_is_named() {
        wait(async {
            let (_folder, store) = sample::store().await;
            store.create_run(&sample::new_run("A", "owl", 0)).await.unwrap();
            store.append_step_points(&id("A"), &[(VALID_LOSS, point(1, 0.5))]).await.unwrap();
            sqlx::query("UPDATE point_blocks SET data = x'0105'").execute(&store.pool).await.unwrap();
            let error = store.points(&id("A"), VALID_LOSS, Resolution::Step).await.unwrap_err();
            assert_eq!(error.to_string(), "read the points of valid.loss of the run A: 5 points do not fit in 0 bytes");
        });
    }
}
