//! Metrics: packed blocks of points, and a summary of each series kept up to date beside them.

use std::collections::{BTreeMap, HashMap};

use sqlx::{QueryBuilder, Sqlite, Transaction};

use crate::run::id::RunId;
use crate::run::look::LookedBy;
use crate::run::metric::{Direction, MetricKey, Point, Resolution, SeriesSummary, Split};
use crate::store::StoreError;
use crate::store::blocks::{self, BLOCK_LEN};
use crate::store::connect::Store;
use crate::store::list::{Parts, Selection};
use crate::store::looks;

/// Rows that one statement inserts: each binds up to nine of the 32,766 values that SQLite takes.
const MAX_ROWS: usize = 1_000;

impl Store {
    /// Adds points of single optimizer steps; a power cut may take those that no epoch was committed after.
    pub async fn append_step_points(&self, id: &RunId, points: &[(MetricKey, Point)]) -> Result<(), StoreError> {
        let mut tx = self.write_relaxed().await?;
        append(&mut tx, id, Resolution::Step, &by_series(points)).await?;
        Ok(tx.commit().await?)
    }

    /// Adds what was measured on the test split, at the epoch of the checkpoint that was measured.
    pub async fn add_test_points(
        &self,
        id: &RunId,
        points: &[(MetricKey, Point)],
        by: &LookedBy,
    ) -> Result<(), StoreError> {
        let mut tx = self.write().await?;
        append(&mut tx, id, Resolution::Epoch, &by_series(points)).await?;
        if let Some(at_ms) = points.iter().map(|(_, point)| point.at_ms).max() {
            looks::insert(&mut tx, id, at_ms, by).await?;
        }
        Ok(tx.commit().await?)
    }

    /// Reads a series in the order it was written; empty when there is none.
    pub async fn points(&self, id: &RunId, key: MetricKey, resolution: Resolution) -> Result<Vec<Point>, StoreError> {
        let mut tx = self.pool.begin().await?;
        select_points(&mut tx, id, &key.to_string(), resolution).await
    }
}

/// New points of one series.
#[derive(Clone, Debug)]
pub(crate) struct NewPoints {
    pub name: String,
    /// `None` where no value is better than another.
    pub direction: Option<Direction>,
    pub points: Vec<Point>,
}

/// Sorts the points of metrics into their series.
pub(crate) fn by_series(points: &[(MetricKey, Point)]) -> Vec<NewPoints> {
    let mut by_key: BTreeMap<MetricKey, Vec<Point>> = BTreeMap::new();
    for (key, point) in points {
        by_key.entry(*key).or_default().push(*point);
    }
    let series = |(key, points): (MetricKey, Vec<Point>)| NewPoints {
        name: key.to_string(),
        direction: Some(key.direction()),
        points,
    };
    by_key.into_iter().map(series).collect()
}

/// Adds points to their series, making the series that are new: three statements, however many series there are.
pub(crate) async fn append(
    tx: &mut Transaction<'_, Sqlite>,
    id: &RunId,
    resolution: Resolution,
    series: &[NewPoints],
) -> Result<(), StoreError> {
    let mut stored = stored_series(tx, id, resolution).await?;
    let mut grown = Vec::with_capacity(series.len());
    for new in series.iter().filter(|new| !new.points.is_empty()) {
        grown.push(grow(stored.remove(&new.name).unwrap_or_default(), new, id)?);
    }
    for grown in grown.chunks(MAX_ROWS) {
        let ids = write_summaries(tx, id, resolution, grown).await?;
        let blocks: Vec<_> = grown.iter().flat_map(|series| series.numbered_blocks(ids[series.name])).collect();
        write_blocks(tx, &blocks).await?;
    }
    Ok(())
}

/// Forgets the points of single steps after an epoch, and what they added to their series' summaries.
pub(crate) async fn supersede_steps(
    tx: &mut Transaction<'_, Sqlite>,
    id: &RunId,
    last_epoch: u32,
) -> Result<(), StoreError> {
    retain(tx, id, Resolution::Step, |_| true, |_, point| point.epoch <= last_epoch).await
}

/// Forgets all but the first points of the test's series, and what the others added to their summaries.
pub(crate) async fn supersede_tests(
    tx: &mut Transaction<'_, Sqlite>,
    id: &RunId,
    n_kept: usize,
) -> Result<(), StoreError> {
    retain(tx, id, Resolution::Epoch, |key| key.split == Split::Test, |place, _| place < n_kept).await
}

/// Writes series anew with those of their points that stay, by their place and themselves.
async fn retain(
    tx: &mut Transaction<'_, Sqlite>,
    id: &RunId,
    resolution: Resolution,
    concerns: impl Fn(MetricKey) -> bool,
    stays: impl Fn(usize, &Point) -> bool,
) -> Result<(), StoreError> {
    let names: Vec<String> =
        sqlx::query_scalar("SELECT name FROM series WHERE run_id = $1 AND resolution = $2 ORDER BY id")
            .bind(id.as_str())
            .bind(resolution_text(resolution))
            .fetch_all(&mut **tx)
            .await?;
    for name in names {
        let Some(key) = MetricKey::parse(&name).filter(|key| concerns(*key)) else { continue };
        let points = select_points(tx, id, &name, resolution).await?;
        let kept = points.into_iter().enumerate().filter(|(place, point)| stays(*place, point));
        let points: Vec<Point> = kept.map(|(_, point)| point).collect();
        // Its blocks go with it.
        sqlx::query("DELETE FROM series WHERE run_id = $1 AND resolution = $2 AND name = $3")
            .bind(id.as_str())
            .bind(resolution_text(resolution))
            .bind(&name)
            .execute(&mut **tx)
            .await?;
        append(tx, id, resolution, &[NewPoints { name, direction: Some(key.direction()), points }]).await?;
    }
    Ok(())
}

/// Reads the epoch series' summaries of every selected run, by run id and name.
pub(crate) async fn summaries(
    tx: &mut Transaction<'_, Sqlite>,
    selection: &Selection<'_>,
    parts: Parts<'_>,
) -> Result<Vec<(String, String, SeriesSummary)>, StoreError> {
    let mut query = QueryBuilder::new(
        "SELECT run_id, name, last_value, min_value, max_value, best_value, best_epoch, n_points
        FROM (SELECT * FROM series WHERE resolution = 'epoch'",
    );
    if let Parts::Metrics(keys) = parts {
        query.push(" AND name IN (");
        let mut names = query.separated(", ");
        keys.iter().for_each(|key| {
            names.push_bind(key.to_string());
        });
        query.push(")");
    }
    query.push(") AS epoch_series");
    selection.push_where(&mut query, "run_id");
    let rows: Vec<SeriesRow> = query.build_query_as().fetch_all(&mut **tx).await?;
    Ok(rows.into_iter().map(|row| (row.run_id, row.name, row.columns.summary())).collect())
}

/// Reads a series in the order it was written; empty when there is none.
pub(crate) async fn select_points(
    tx: &mut Transaction<'_, Sqlite>,
    id: &RunId,
    name: &str,
    resolution: Resolution,
) -> Result<Vec<Point>, StoreError> {
    let blocks: Vec<Vec<u8>> = sqlx::query_scalar(
        "SELECT data FROM point_blocks JOIN series ON series.id = point_blocks.series_id
        WHERE run_id = $1 AND resolution = $2 AND name = $3 ORDER BY block",
    )
    .bind(id.as_str())
    .bind(resolution_text(resolution))
    .bind(name)
    .fetch_all(&mut **tx)
    .await?;
    let mut points = Vec::new();
    for data in blocks {
        points.extend(blocks::decode(&data).map_err(|reason| corrupt(id, name, reason))?);
    }
    Ok(points)
}

/// Reads the summaries of one run's series of a resolution, by name.
pub(crate) async fn select_summaries(
    tx: &mut Transaction<'_, Sqlite>,
    id: &RunId,
    resolution: Resolution,
) -> Result<BTreeMap<String, SeriesSummary>, StoreError> {
    let rows: Vec<SeriesRow> = sqlx::query_as(
        "SELECT run_id, name, last_value, min_value, max_value, best_value, best_epoch, n_points
        FROM series WHERE run_id = $1 AND resolution = $2",
    )
    .bind(id.as_str())
    .bind(resolution_text(resolution))
    .fetch_all(&mut **tx)
    .await?;
    Ok(rows.into_iter().map(|row| (row.name, row.columns.summary())).collect())
}

#[derive(sqlx::FromRow)]
struct SeriesRow {
    run_id: String,
    name: String,
    #[sqlx(flatten)]
    columns: SummaryColumns,
}

#[derive(sqlx::FromRow)]
struct SummaryColumns {
    last_value: Option<f64>,
    min_value: Option<f64>,
    max_value: Option<f64>,
    best_value: Option<f64>,
    best_epoch: Option<u32>,
    n_points: i64,
}

impl SummaryColumns {
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

/// A series as far as adding to it needs it: full blocks are never read or written again.
#[derive(Debug, Default)]
struct Stored {
    summary: SeriesSummary,
    /// The last block while it has room.
    open_block: Option<Vec<u8>>,
}

#[derive(sqlx::FromRow)]
struct StoredRow {
    name: String,
    data: Option<Vec<u8>>,
    #[sqlx(flatten)]
    columns: SummaryColumns,
}

/// Reads the series that points are added to. Every block before the last is full, so a series' length says which is open.
async fn stored_series(
    tx: &mut Transaction<'_, Sqlite>,
    id: &RunId,
    resolution: Resolution,
) -> Result<HashMap<String, Stored>, StoreError> {
    let rows: Vec<StoredRow> = sqlx::query_as(
        "SELECT name, data, last_value, min_value, max_value, best_value, best_epoch, n_points
        FROM series LEFT JOIN point_blocks ON series_id = series.id AND block = n_points / $3
        WHERE run_id = $1 AND resolution = $2",
    )
    .bind(id.as_str())
    .bind(resolution_text(resolution))
    .bind(BLOCK_LEN as i64)
    .fetch_all(&mut **tx)
    .await?;
    let stored = |row: StoredRow| (row.name, Stored { summary: row.columns.summary(), open_block: row.data });
    Ok(rows.into_iter().map(stored).collect())
}

/// A series with new points: its summary, and the blocks to be written.
#[derive(Debug)]
struct Grown<'a> {
    name: &'a str,
    summary: SeriesSummary,
    first_block: i64,
    blocks: Vec<Vec<u8>>,
}

impl Grown<'_> {
    fn numbered_blocks(&self, series_id: i64) -> impl Iterator<Item = (i64, i64, &[u8])> {
        (self.first_block..).zip(&self.blocks).map(move |(block, data)| (series_id, block, data.as_slice()))
    }
}

/// Fills the open block up and begins others behind it.
fn grow<'a>(stored: Stored, new: &'a NewPoints, id: &RunId) -> Result<Grown<'a>, StoreError> {
    let n_before = stored.summary.n_points as usize;
    let mut points = match stored.open_block {
        Some(data) => blocks::decode(&data).map_err(|reason| corrupt(id, &new.name, reason))?,
        None => Vec::new(),
    };
    if points.len() != n_before % BLOCK_LEN {
        let reason = format!("the last block has {} points, {} are expected", points.len(), n_before % BLOCK_LEN);
        return Err(corrupt(id, &new.name, reason));
    }
    let mut summary = stored.summary;
    for point in &new.points {
        summary.push(point, new.direction);
    }
    points.extend_from_slice(&new.points);
    let blocks = points.chunks(BLOCK_LEN).map(blocks::encode).collect();
    Ok(Grown { name: &new.name, summary, first_block: (n_before / BLOCK_LEN) as i64, blocks })
}

/// Writes the series' summaries, and returns their ids by name.
async fn write_summaries<'a>(
    tx: &mut Transaction<'_, Sqlite>,
    id: &RunId,
    resolution: Resolution,
    series: &[Grown<'a>],
) -> Result<HashMap<String, i64>, StoreError> {
    let mut query = QueryBuilder::new(
        "INSERT INTO series (run_id, resolution, name, last_value, min_value, max_value, best_value, best_epoch, n_points) ",
    );
    query.push_values(series, |mut row, Grown { name, summary, .. }| {
        row.push_bind(id.as_str()).push_bind(resolution_text(resolution)).push_bind(*name);
        row.push_bind(summary.last).push_bind(summary.min).push_bind(summary.max);
        row.push_bind(summary.best).push_bind(summary.best_epoch).push_bind(summary.n_points.cast_signed());
    });
    query.push(
        " ON CONFLICT (run_id, resolution, name) DO UPDATE SET last_value = excluded.last_value,
            min_value = excluded.min_value, max_value = excluded.max_value, best_value = excluded.best_value,
            best_epoch = excluded.best_epoch, n_points = excluded.n_points
        RETURNING name, id",
    );
    let ids: Vec<(String, i64)> = query.build_query_as().fetch_all(&mut **tx).await?;
    Ok(ids.into_iter().collect())
}

/// Writes blocks, given as series, number and data.
async fn write_blocks(tx: &mut Transaction<'_, Sqlite>, blocks: &[(i64, i64, &[u8])]) -> Result<(), StoreError> {
    for blocks in blocks.chunks(MAX_ROWS) {
        let mut query = QueryBuilder::new("INSERT INTO point_blocks (series_id, block, data) ");
        query.push_values(blocks, |mut row, (series_id, block, data)| {
            row.push_bind(*series_id).push_bind(*block).push_bind(*data);
        });
        query.push(" ON CONFLICT (series_id, block) DO UPDATE SET data = excluded.data");
        query.build().execute(&mut **tx).await?;
    }
    Ok(())
}

fn corrupt(id: &RunId, name: &str, reason: String) -> StoreError {
    StoreError::Corrupt { what: format!("the points of {name} of the run {id}"), reason }
}

fn resolution_text(resolution: Resolution) -> &'static str {
    match resolution {
        Resolution::Epoch => "epoch",
        Resolution::Step => "step",
        Resolution::System => "system",
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
                store.add_test_points(&id("A"), &points, &LookedBy::Run).await.unwrap();
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
            store.add_test_points(&id("A"), &points, &LookedBy::Run).await.unwrap();
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

    #[test]
    fn points_are_not_added_behind_a_block_that_is_not_what_its_summary_says() {
        wait(async {
            let (_folder, store) = sample::store().await;
            store.create_run(&sample::new_run("A", "owl", 0)).await.unwrap();
            let two = [(VALID_LOSS, point(1, 0.5)), (VALID_LOSS, point(2, 0.4))];
            store.append_step_points(&id("A"), &two).await.unwrap();
            sqlx::query("UPDATE series SET n_points = 1").execute(&store.pool).await.unwrap();
            let error = store.append_step_points(&id("A"), &two).await.unwrap_err();
            assert!(error.to_string().ends_with("the last block has 2 points, 1 are expected"), "{error}");
            let kept = store.points(&id("A"), VALID_LOSS, Resolution::Step).await.unwrap();
            assert_eq!(kept, two.map(|(_, point)| point));
        });
    }
}
