//! Sweeps and their trials.

use serde_json::{Map, Value};
use sqlx::{Sqlite, Transaction};

use crate::run::id::RunId;
use crate::run::sweep::{SweepRecord, TrialKey, TrialRecord};
use crate::store::StoreError;
use crate::store::connect::Store;

type SweepRow = (String, String, i64, String, String, String, String, i64);
type TrialRow = (i64, String, String, i64, Option<String>, i64, Option<String>);

const SWEEPS: &str = "SELECT id, name, created_at_ms, spec_path, spec_yaml, sets, section, is_needed_only FROM sweeps";

impl Store {
    /// Records a sweep and returns the name it got: a name that is taken is numbered.
    pub async fn create_sweep(&self, sweep: &SweepRecord) -> Result<String, StoreError> {
        let mut tx = self.write().await?;
        let mut name = sweep.name.clone();
        for n in 2_u64.. {
            let taken: i64 = sqlx::query_scalar("SELECT count(*) FROM sweeps WHERE name = $1")
                .bind(&name)
                .fetch_one(&mut *tx)
                .await?;
            if taken == 0 {
                break;
            }
            name = format!("{}-{n}", sweep.name);
        }
        sqlx::query(
            "INSERT INTO sweeps (id, name, created_at_ms, spec_path, spec_yaml, sets, section, is_needed_only)
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        )
        .bind(sweep.id.as_str())
        .bind(&name)
        .bind(sweep.created_at_ms)
        .bind(&sweep.spec_path)
        .bind(&sweep.spec_yaml)
        .bind(Value::from(sweep.sets.clone()).to_string())
        .bind(sweep.section.to_string())
        .bind(i64::from(sweep.is_needed_only))
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(name)
    }

    /// All sweeps, the newest first.
    pub async fn sweeps(&self) -> Result<Vec<SweepRecord>, StoreError> {
        let newest_first = format!("{SWEEPS} ORDER BY created_at_ms DESC, id DESC");
        let rows: Vec<SweepRow> = sqlx::query_as(sqlx::AssertSqlSafe(newest_first)).fetch_all(&self.pool).await?;
        rows.into_iter().map(sweep_of_row).collect()
    }

    /// The sweep that an argument means: a name, `@1` for the newest, or a part of an id or a beginning of a name that fits
    /// one alone.
    pub async fn find_sweep(&self, query: &str) -> Result<SweepRecord, StoreError> {
        let sweeps = self.sweeps().await?;
        let not_found = || StoreError::NoSuchSweep { query: query.to_owned() };
        if let Some(place) = query.strip_prefix('@').and_then(|digits| digits.parse::<usize>().ok()) {
            let found = place.checked_sub(1).and_then(|place| sweeps.into_iter().nth(place));
            return found.ok_or_else(not_found);
        }
        let id = query.to_ascii_uppercase();
        let is_exact = |sweep: &&SweepRecord| sweep.name == query || sweep.id.as_str() == id;
        let is_part = |sweep: &&SweepRecord| {
            !query.is_empty()
                && (sweep.name.starts_with(query)
                    || sweep.id.as_str().starts_with(&id)
                    || sweep.id.as_str().ends_with(&id))
        };
        if let Some(sweep) = sweeps.iter().find(is_exact) {
            return Ok(sweep.clone());
        }
        let found: Vec<&SweepRecord> = sweeps.iter().filter(is_part).collect();
        match found[..] {
            [sweep] => Ok(sweep.clone()),
            [] => Err(not_found()),
            _ => {
                let names = found.iter().map(|sweep| sweep.name.clone()).collect();
                Err(StoreError::AmbiguousSweep { query: query.to_owned(), names })
            }
        }
    }

    /// A sweep's trials by point and seed.
    pub async fn trials(&self, sweep: &RunId) -> Result<Vec<TrialRecord>, StoreError> {
        let rows: Vec<TrialRow> = sqlx::query_as(
            "SELECT point, seed, point_values, until_epoch, run_id, is_reused, error FROM sweep_trials
            WHERE sweep_id = $1 ORDER BY point",
        )
        .bind(sweep.as_str())
        .fetch_all(&self.pool)
        .await?;
        let mut trials: Vec<TrialRecord> =
            rows.into_iter().map(|row| trial_of_row(sweep, row)).collect::<Result<_, _>>()?;
        trials.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(trials)
    }

    /// Records a point's trials, one a seed, before any of them is started.
    pub async fn add_trials(&self, trials: &[TrialRecord]) -> Result<(), StoreError> {
        let mut tx = self.write().await?;
        for trial in trials {
            sqlx::query(
                "INSERT INTO sweep_trials (sweep_id, point, seed, point_values, until_epoch) VALUES ($1, $2, $3, $4, $5)",
            )
            .bind(trial.key.sweep.as_str())
            .bind(i64::from(trial.key.point))
            .bind(trial.key.seed.to_string())
            .bind(Value::Object(trial.values.clone()).to_string())
            .bind(i64::from(trial.until_epoch))
            .execute(&mut *tx)
            .await?;
        }
        Ok(tx.commit().await?)
    }

    /// Lets a point train to a later epoch.
    pub async fn promote_point(&self, sweep: &RunId, point: u32, until_epoch: u32) -> Result<(), StoreError> {
        sqlx::query("UPDATE sweep_trials SET until_epoch = $3 WHERE sweep_id = $1 AND point = $2")
            .bind(sweep.as_str())
            .bind(i64::from(point))
            .bind(i64::from(until_epoch))
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    /// Lets a run that was there before stand for a trial.
    pub async fn reuse_run(&self, key: &TrialKey, run: &RunId) -> Result<(), StoreError> {
        let mut tx = self.write().await?;
        set_run(&mut tx, key, run, true).await?;
        Ok(tx.commit().await?)
    }

    /// Records why a trial could not be started, or with `None` that it may be tried again.
    pub async fn set_trial_error(&self, key: &TrialKey, error: Option<&str>) -> Result<(), StoreError> {
        sqlx::query("UPDATE sweep_trials SET error = $4 WHERE sweep_id = $1 AND point = $2 AND seed = $3")
            .bind(key.sweep.as_str())
            .bind(i64::from(key.point))
            .bind(key.seed.to_string())
            .bind(error)
            .execute(&self.pool)
            .await?;
        Ok(())
    }
}

/// Records which run a trial is, within the transaction that makes the run.
pub(crate) async fn set_run(
    tx: &mut Transaction<'_, Sqlite>,
    key: &TrialKey,
    run: &RunId,
    is_reused: bool,
) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE sweep_trials SET run_id = $4, is_reused = $5, error = NULL
        WHERE sweep_id = $1 AND point = $2 AND seed = $3",
    )
    .bind(key.sweep.as_str())
    .bind(i64::from(key.point))
    .bind(key.seed.to_string())
    .bind(run.as_str())
    .bind(i64::from(is_reused))
    .execute(&mut **tx)
    .await?;
    Ok(())
}

fn sweep_of_row(row: SweepRow) -> Result<SweepRecord, StoreError> {
    let (id, name, created_at_ms, spec_path, spec_yaml, sets, section, is_needed_only) = row;
    let corrupt =
        |error: serde_json::Error| StoreError::Corrupt { what: format!("the sweep {name}"), reason: error.to_string() };
    let sets = serde_json::from_str(&sets).map_err(corrupt)?;
    let section = serde_json::from_str(&section).map_err(corrupt)?;
    let id = RunId::from_stored(id);
    let is_needed_only = is_needed_only != 0;
    Ok(SweepRecord { id, name, created_at_ms, spec_path, spec_yaml, sets, section, is_needed_only })
}

fn trial_of_row(sweep: &RunId, row: TrialRow) -> Result<TrialRecord, StoreError> {
    let (point, seed, values, until_epoch, run, is_reused, error) = row;
    let corrupt = |reason: String| StoreError::Corrupt { what: format!("a trial of the sweep {sweep}"), reason };
    let values: Map<String, Value> = serde_json::from_str(&values).map_err(|error| corrupt(error.to_string()))?;
    let seed = seed.parse().map_err(|_| corrupt(format!("{seed:?} is no seed")))?;
    let number = |value: i64| u32::try_from(value).map_err(|_| corrupt(format!("{value} is out of range")));
    Ok(TrialRecord {
        key: TrialKey { sweep: sweep.clone(), point: number(point)?, seed },
        values,
        until_epoch: number(until_epoch)?,
        run: run.map(RunId::from_stored),
        is_reused: is_reused != 0,
        error,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::store::runs::Ending;
    use crate::store::sample::{self, id, wait};

    fn sweep(name: &str, at: i64) -> SweepRecord {
        SweepRecord {
            id: id(&format!("S{at}")),
            name: name.to_owned(),
            created_at_ms: at,
            spec_path: "/a/spec.yaml".to_owned(),
            spec_yaml: "name: a".to_owned(),
            sets: vec!["epochs=2".to_owned()],
            section: json!({ "parameters": {} }),
            is_needed_only: false,
        }
    }

    fn trial(sweep: &SweepRecord, point: u32, seed: u64) -> TrialRecord {
        TrialRecord {
            key: TrialKey { sweep: sweep.id.clone(), point, seed },
            values: json!({ "a.b": [1, "x"] }).as_object().unwrap().clone(),
            until_epoch: 3,
            run: None,
            is_reused: false,
            error: None,
        }
    }

    #[test]
    fn a_sweep_is_found_by_name_id_or_place() {
        wait(async {
            let (_folder, store) = sample::store().await;
            assert_eq!(store.create_sweep(&sweep("depths", 1)).await.unwrap(), "depths");
            assert_eq!(store.create_sweep(&sweep("depths", 2)).await.unwrap(), "depths-2");
            assert_eq!(store.create_sweep(&sweep("rates", 3)).await.unwrap(), "rates");
            for (query, expected) in
                [("depths", "depths"), ("depths-", "depths-2"), ("r", "rates"), ("@1", "rates"), ("s2", "depths-2")]
            {
                assert_eq!(store.find_sweep(query).await.unwrap().name, expected, "{query}");
            }
            assert_eq!(store.find_sweep("rates").await.unwrap(), sweep("rates", 3));
            let error = store.find_sweep("dep").await.unwrap_err();
            assert!(matches!(&error, StoreError::AmbiguousSweep { names, .. } if names.len() == 2), "{error}");
            for query in ["", "x", "@4", "@0"] {
                assert!(matches!(store.find_sweep(query).await, Err(StoreError::NoSuchSweep { .. })), "{query}");
            }
        });
    }

    #[test]
    fn a_trial_gets_its_run_with_the_run() {
        wait(async {
            let (_folder, store) = sample::store().await;
            let sweep = sweep("depths", 1);
            store.create_sweep(&sweep).await.unwrap();
            let seeds = [7, u64::MAX];
            store.add_trials(&seeds.map(|seed| trial(&sweep, 0, seed))).await.unwrap();
            assert_eq!(store.trials(&sweep.id).await.unwrap(), seeds.map(|seed| trial(&sweep, 0, seed)));
            let key = trial(&sweep, 0, u64::MAX).key;
            store.set_trial_error(&key, Some("no such folder")).await.unwrap();
            let mut run = sample::new_run("A", "owl", 5);
            run.trial = Some(key.clone());
            store.create_run(&run).await.unwrap();
            store.promote_point(&sweep.id, 0, 9).await.unwrap();
            let expected = TrialRecord { until_epoch: 9, run: Some(id("A")), ..trial(&sweep, 0, u64::MAX) };
            assert_eq!(store.trials(&sweep.id).await.unwrap()[1], expected);
            let other = trial(&sweep, 0, 7).key;
            store.set_fingerprint(&id("A"), &sample::fingerprint("print")).await.unwrap();
            assert_eq!(store.finished_with_fingerprint("print").await.unwrap(), []);
            store.finish_run(&id("A"), &Ending::Finished, 9).await.unwrap();
            assert_eq!(store.finished_with_fingerprint("print").await.unwrap(), [id("A")]);
            store.reuse_run(&other, &id("A")).await.unwrap();
            assert!(store.trials(&sweep.id).await.unwrap()[0].is_reused);
        });
    }
}
