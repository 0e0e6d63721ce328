//! Looks at test images: a row each, kept also when the run is gone.

use sqlx::{Sqlite, Transaction};

use crate::run::id::RunId;
use crate::run::look::{Look, LookedBy};
use crate::store::StoreError;
use crate::store::connect::Store;

const LOOKS: &str = "SELECT at_ms, run_id, split_hash, looked_by, sweep_id, point FROM test_looks";

type Row = (i64, Option<String>, String, String, Option<String>, Option<i64>);

impl Store {
    /// Records that someone measured a run on images with this hash.
    pub async fn add_look(&self, look: &Look) -> Result<(), StoreError> {
        let (by, sweep, point) = stored(&look.by);
        sqlx::query(
            "INSERT INTO test_looks (at_ms, run_id, split_hash, looked_by, sweep_id, point)
            VALUES ($1, $2, $3, $4, $5, $6)",
        )
        .bind(look.at_ms)
        .bind(look.run.as_ref().map(RunId::as_str))
        .bind(&look.split_hash)
        .bind(by)
        .bind(sweep)
        .bind(point)
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// All looks at images with this hash, the earliest first.
    pub async fn looks(&self, split_hash: &str) -> Result<Vec<Look>, StoreError> {
        of_split(&mut self.pool.begin().await?, split_hash).await
    }

    /// The looks of these runs, the earliest first.
    pub async fn looks_of_runs(&self, runs: &[RunId]) -> Result<Vec<Look>, StoreError> {
        let ids = serde_json::json!(runs).to_string();
        let query = format!("{LOOKS} WHERE run_id IN (SELECT value FROM json_each($1)) ORDER BY id");
        let rows: Vec<Row> = sqlx::query_as(sqlx::AssertSqlSafe(query)).bind(ids).fetch_all(&self.pool).await?;
        Ok(rows.into_iter().map(look_of_row).collect())
    }
}

/// Reads the looks at images with this hash, the earliest first.
pub(crate) async fn of_split(tx: &mut Transaction<'_, Sqlite>, split_hash: &str) -> Result<Vec<Look>, StoreError> {
    let query = sqlx::AssertSqlSafe(format!("{LOOKS} WHERE split_hash = $1 ORDER BY id"));
    let rows: Vec<Row> = sqlx::query_as(query).bind(split_hash).fetch_all(&mut **tx).await?;
    Ok(rows.into_iter().map(look_of_row).collect())
}

/// Records a look at a run's own test images, within the transaction that records what came out.
pub(crate) async fn insert(
    tx: &mut Transaction<'_, Sqlite>,
    run: &RunId,
    at_ms: i64,
    by: &LookedBy,
) -> Result<(), StoreError> {
    let (by, sweep, point) = stored(by);
    sqlx::query(
        "INSERT INTO test_looks (at_ms, run_id, split_hash, looked_by, sweep_id, point)
        SELECT $1, run_id, hash, $3, $4, $5 FROM data_splits WHERE run_id = $2 AND split = 'test'",
    )
    .bind(at_ms)
    .bind(run.as_str())
    .bind(by)
    .bind(sweep)
    .bind(point)
    .execute(&mut **tx)
    .await?;
    Ok(())
}

fn stored(by: &LookedBy) -> (&'static str, Option<&str>, Option<i64>) {
    match by {
        LookedBy::Run => ("run", None, None),
        LookedBy::Sweep { sweep, point } => ("sweep", Some(sweep.as_str()), Some(i64::from(*point))),
        LookedBy::Evaluate => ("evaluate", None, None),
    }
}

fn look_of_row((at_ms, run, split_hash, by, sweep, point): Row) -> Look {
    let by = match (by.as_str(), sweep, point) {
        ("sweep", Some(sweep), Some(point)) => {
            LookedBy::Sweep { sweep: RunId::from_stored(sweep), point: u32::try_from(point).unwrap_or(u32::MAX) }
        }
        ("evaluate", ..) => LookedBy::Evaluate,
        _ => LookedBy::Run,
    };
    Look { at_ms, run: run.map(RunId::from_stored), split_hash, by }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::event::{DataFacts, SplitFacts};
    use crate::run::metric::{Measure, MetricKey, Split};
    use crate::store::sample::{self, id, point, wait};

    #[test]
    fn every_measurement_of_test_images_is_a_look_that_stays() {
        wait(async {
            let (_folder, store) = sample::store().await;
            store.create_run(&sample::new_run("A", "owl", 0)).await.unwrap();
            let loss = [(MetricKey::new(Split::Test, Measure::Loss), point(1, 0.5))];
            // Without images there is nothing that was looked at.
            store.add_test_points(&id("A"), &loss, &LookedBy::Run).await.unwrap();
            let split = SplitFacts { split: Split::Test, n_images: 4, hash: "h".to_owned() };
            let facts = DataFacts { classes: vec!["a".to_owned()], splits: vec![split] };
            store.set_data_facts(&id("A"), &facts).await.unwrap();
            store.add_test_points(&id("A"), &loss, &LookedBy::Run).await.unwrap();
            let asked = Look { at_ms: 7, run: Some(id("A")), split_hash: "h".to_owned(), by: LookedBy::Evaluate };
            store.add_look(&asked).await.unwrap();
            let looks = store.looks("h").await.unwrap();
            assert_eq!((looks.len(), &looks[0].by, &looks[1]), (2, &LookedBy::Run, &asked));
            assert_eq!(store.looks_of_runs(&[id("A"), id("B")]).await.unwrap(), looks);
            assert_eq!(store.looks("other").await.unwrap(), []);
            sqlx::query("DELETE FROM runs").execute(&store.pool).await.unwrap();
            assert!(store.looks("h").await.unwrap().iter().all(|look| look.run.is_none()));
            assert_eq!(store.looks("h").await.unwrap().len(), 2);
        });
    }
}
