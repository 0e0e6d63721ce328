//! Sweeps and their trials.

use serde_json::{Map, Value};
use sqlx::{Sqlite, Transaction};

use crate::run::id::RunId;
use crate::run::sweep::{SweepRecord, TrialKey, TrialRecord};
use crate::store::StoreError;
use crate::store::connect::Store;
use crate::store::runs::{RunName, settle_name};

type SweepRow = (String, String, i64, String, String, String, String, i64);
type TrialRow = (i64, String, String, String, i64, Option<String>, i64, Option<String>);

const SWEEPS: &str = "SELECT id, name, created_at_ms, spec_path, spec_yaml, sets, section, is_needed_only FROM sweeps";

impl Store {
    /// Records a sweep and returns the name it got: a name that is taken is numbered, unless someone chose it.
    pub async fn create_sweep(&self, sweep: &SweepRecord, name: &RunName) -> Result<String, StoreError> {
        let mut tx = self.write().await?;
        let name = settle_name(&mut tx, name).await?;
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

    /// The sweep that has exactly this name.
    pub async fn sweep_called(&self, name: &str) -> Result<Option<SweepRecord>, StoreError> {
        let of_name = format!("{SWEEPS} WHERE name = $1");
        let row: Option<SweepRow> =
            sqlx::query_as(sqlx::AssertSqlSafe(of_name)).bind(name).fetch_optional(&self.pool).await?;
        row.map(sweep_of_row).transpose()
    }

    /// Whether a run is a trial that a sweep began.
    pub async fn is_trial(&self, run: &RunId) -> Result<bool, StoreError> {
        let n: i64 = sqlx::query_scalar("SELECT count(*) FROM sweep_trials WHERE run_id = $1 AND is_reused = 0")
            .bind(run.as_str())
            .fetch_one(&self.pool)
            .await?;
        Ok(n > 0)
    }

    /// A sweep's trials by point, split and seed.
    pub async fn trials(&self, sweep: &RunId) -> Result<Vec<TrialRecord>, StoreError> {
        let rows: Vec<TrialRow> = sqlx::query_as(
            "SELECT point, split_seed, seed, point_values, until_epoch, run_id, is_reused, error FROM sweep_trials
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
                "INSERT INTO sweep_trials (sweep_id, point, split_seed, seed, point_values, until_epoch)
                VALUES ($1, $2, $3, $4, $5, $6)",
            )
            .bind(trial.key.sweep.as_str())
            .bind(i64::from(trial.key.point))
            .bind(split_text(&trial.key))
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
        sqlx::query(
            "UPDATE sweep_trials SET error = $5
            WHERE sweep_id = $1 AND point = $2 AND split_seed = $3 AND seed = $4",
        )
        .bind(key.sweep.as_str())
        .bind(i64::from(key.point))
        .bind(split_text(key))
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
        "UPDATE sweep_trials SET run_id = $5, is_reused = $6, error = NULL
        WHERE sweep_id = $1 AND point = $2 AND split_seed = $3 AND seed = $4",
    )
    .bind(key.sweep.as_str())
    .bind(i64::from(key.point))
    .bind(split_text(key))
    .bind(key.seed.to_string())
    .bind(run.as_str())
    .bind(i64::from(is_reused))
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// The split's seed as it is stored.
fn split_text(key: &TrialKey) -> String {
    key.split_seed.map_or_else(String::new, |seed| seed.to_string())
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
    let (point, split_seed, seed, values, until_epoch, run, is_reused, error) = row;
    let corrupt = |reason: String| StoreError::Corrupt { what: format!("a trial of the sweep {sweep}"), reason };
    let values: Map<String, Value> = serde_json::from_str(&values).map_err(|error| corrupt(error.to_string()))?;
    let number_of = |seed: &str| seed.parse::<u64>().map_err(|_| corrupt(format!("{seed:?} is no seed")));
    let split_seed = (!split_seed.is_empty()).then(|| number_of(&split_seed)).transpose()?;
    let seed = number_of(&seed)?;
    let number = |value: i64| u32::try_from(value).map_err(|_| corrupt(format!("{value} is out of range")));
    Ok(TrialRecord {
        key: TrialKey { sweep: sweep.clone(), point: number(point)?, split_seed, seed },
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
    use crate::store::runs::{Ending, NewRun};
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
            key: TrialKey { sweep: sweep.id.clone(), point, split_seed: None, seed },
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
            let made_up = |name: &str| RunName::MadeUp(name.to_owned());
            for (at, name, expected) in [(1, "depths", "depths"), (2, "depths", "depths-2"), (3, "rates", "rates")] {
                assert_eq!(store.create_sweep(&sweep(name, at), &made_up(name)).await.unwrap(), expected);
            }
            // A chosen name is refused where a made-up one is numbered, for a run and a sweep alike.
            let chosen = RunName::Chosen("rates".to_owned());
            let taken = store.create_sweep(&sweep("rates", 4), &chosen).await;
            assert!(matches!(taken, Err(StoreError::NameTaken { .. })), "{taken:?}");
            let run = NewRun { name: chosen, ..sample::new_run("A", "owl", 0) };
            assert!(matches!(store.create_run(&run).await, Err(StoreError::NameTaken { .. })));
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
            store.create_sweep(&sweep, &RunName::Chosen("depths".to_owned())).await.unwrap();
            let seeds = [7, u64::MAX];
            store.add_trials(&seeds.map(|seed| trial(&sweep, 0, seed))).await.unwrap();
            assert_eq!(store.trials(&sweep.id).await.unwrap(), seeds.map(|seed| trial(&sweep, 0, seed)));
            // The same seeds on another split are other trials.
            let on_split = |seed| {
                let trial = trial(&sweep, 1, seed);
                TrialRecord { key: TrialKey { split_seed: Some(3), ..trial.key.clone() }, ..trial }
            };
            store.add_trials(&[trial(&sweep, 1, 7), on_split(7)]).await.unwrap();
            store.reuse_run(&on_split(7).key, &id("none")).await.unwrap_err();
            assert_eq!(store.trials(&sweep.id).await.unwrap()[2..], [trial(&sweep, 1, 7), on_split(7)]);
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
