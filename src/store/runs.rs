//! The writing side of a run: creating it, its signs of life and its ending.

use std::collections::BTreeMap;

use serde_json::Value;
use sqlx::{Sqlite, Transaction};

use crate::run::id::RunId;
use crate::run::stretch::Stretch;
use crate::run::summary::{RunError, State};
use crate::run::sweep::TrialKey;
use crate::store::StoreError;
use crate::store::connect::Store;
use crate::store::{params, stretches, sweeps};

/// Where the name of a run or a sweep comes from, which decides what a collision means: a name is taken by either.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RunName {
    /// The user asked for it: a collision is [`StoreError::NameTaken`].
    Chosen(String),
    /// Nobody asked for it: a collision appends `-2`, `-3`, ….
    MadeUp(String),
}

/// What is known of a run when it starts.
#[derive(Clone, Debug)]
pub struct NewRun {
    pub id: RunId,
    pub name: RunName,
    pub experiment: String,
    pub host: String,
    pub pid: u32,
    pub created_at_ms: i64,
    /// The spec's text as the user wrote it.
    pub spec_yaml: String,
    /// The complete spec that the text and the overrides came to.
    pub resolved_json: String,
    /// The resolved spec flattened with dots, typed.
    pub params: BTreeMap<String, Value>,
    pub tags: Vec<String>,
    pub environment: BTreeMap<String, String>,
    /// What its epochs are to be trained under.
    pub stretches: Vec<Stretch>,
    /// The trial of a sweep that it is.
    pub trial: Option<TrialKey>,
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    Finished,
    Failed(RunError),
    /// Someone asked for it.
    Stopped,
}

impl Store {
    /// Records a run as running and returns the name it got; its lock must be held already.
    pub async fn create_run(&self, run: &NewRun) -> Result<String, StoreError> {
        let mut tx = self.write().await?;
        let name = settle_name(&mut tx, &run.name).await?;
        insert_run(&mut tx, run, &name).await?;
        insert_event(&mut tx, &run.id, run.created_at_ms, State::Running).await?;
        params::insert(&mut tx, &run.id, &run.params).await?;
        for tag in &run.tags {
            sqlx::query("INSERT INTO run_tags (run_id, tag) VALUES ($1, $2) ON CONFLICT DO NOTHING")
                .bind(run.id.as_str())
                .bind(tag)
                .execute(&mut *tx)
                .await?;
        }
        for (key, value) in &run.environment {
            sqlx::query("INSERT INTO run_environment (run_id, name, value) VALUES ($1, $2, $3)")
                .bind(run.id.as_str())
                .bind(key)
                .bind(value)
                .execute(&mut *tx)
                .await?;
        }
        stretches::replace(&mut tx, &run.id, &run.stretches).await?;
        if let Some(trial) = &run.trial {
            sweeps::set_run(&mut tx, trial, &run.id, false).await?;
        }
        tx.commit().await?;
        Ok(name)
    }

    /// Records a sign of life, which may be lost to a power cut: the run would be, too.
    pub async fn heartbeat(&self, id: &RunId, at_ms: i64) -> Result<(), StoreError> {
        let update = sqlx::query("UPDATE runs SET heartbeat_at_ms = $2 WHERE id = $1").bind(id.as_str()).bind(at_ms);
        let done = update.execute(&self.relaxed).await?;
        require_a_row(id, done.rows_affected())
    }

    /// Records the run's ending, which must happen before its lock is released.
    ///
    /// Fails with [`StoreError::NotRunning`] unless the run is recorded as running.
    pub async fn finish_run(&self, id: &RunId, ending: &Ending, at_ms: i64) -> Result<(), StoreError> {
        let mut tx = self.write().await?;
        let state = recorded_state(&mut tx, id).await?;
        if state != State::Running {
            return Err(StoreError::NotRunning { id: id.clone(), state });
        }
        let (state, error) = match ending {
            Ending::Finished => (State::Finished, None),
            Ending::Failed(error) => (State::Failed, Some(error)),
            Ending::Stopped => (State::Stopped, None),
        };
        sqlx::query(
            "UPDATE runs SET state = $2, ended_at_ms = $3, heartbeat_at_ms = $3,
                error_message = $4, error_cause = $5, error_place = $6
            WHERE id = $1",
        )
        .bind(id.as_str())
        .bind(state.as_str())
        .bind(at_ms)
        .bind(error.map(|error| &error.message))
        .bind(error.and_then(|error| error.cause.as_ref()))
        .bind(error.and_then(|error| error.place.as_ref()))
        .execute(&mut *tx)
        .await?;
        insert_event(&mut tx, id, at_ms, state).await?;
        Ok(tx.commit().await?)
    }
}

/// Reads a state's text back.
pub(crate) fn state_from_text(text: &str, id: &str) -> Result<State, StoreError> {
    text.parse().map_err(|reason| StoreError::Corrupt { what: format!("the run {id}"), reason })
}

/// The name that a new run or sweep gets.
pub(crate) async fn settle_name(tx: &mut Transaction<'_, Sqlite>, name: &RunName) -> Result<String, StoreError> {
    match name {
        RunName::Chosen(name) if name_taken(tx, name).await? => Err(StoreError::NameTaken { name: name.clone() }),
        RunName::Chosen(name) => Ok(name.clone()),
        RunName::MadeUp(base) => {
            let mut name = base.clone();
            for n in 2_u64.. {
                if !name_taken(tx, &name).await? {
                    break;
                }
                name = format!("{base}-{n}");
            }
            Ok(name)
        }
    }
}

async fn name_taken(tx: &mut Transaction<'_, Sqlite>, name: &str) -> Result<bool, StoreError> {
    // A command that takes a run takes a sweep too, for its chosen run.
    let taken = "SELECT (SELECT count(*) FROM runs WHERE name = $1) + (SELECT count(*) FROM sweeps WHERE name = $1)";
    let n: i64 = sqlx::query_scalar(taken).bind(name).fetch_one(&mut **tx).await?;
    Ok(n > 0)
}

async fn insert_run(tx: &mut Transaction<'_, Sqlite>, run: &NewRun, name: &str) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO runs (id, name, experiment, state, host, pid, created_at_ms, heartbeat_at_ms)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $7)",
    )
    .bind(run.id.as_str())
    .bind(name)
    .bind(&run.experiment)
    .bind(State::Running.as_str())
    .bind(&run.host)
    .bind(run.pid)
    .bind(run.created_at_ms)
    .execute(&mut **tx)
    .await?;
    sqlx::query("INSERT INTO run_specs (run_id, spec_yaml, resolved_json) VALUES ($1, $2, $3)")
        .bind(run.id.as_str())
        .bind(&run.spec_yaml)
        .bind(&run.resolved_json)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

pub(crate) async fn insert_event(
    tx: &mut Transaction<'_, Sqlite>,
    id: &RunId,
    at_ms: i64,
    state: State,
) -> Result<(), StoreError> {
    sqlx::query("INSERT INTO run_events (run_id, at_ms, state) VALUES ($1, $2, $3)")
        .bind(id.as_str())
        .bind(at_ms)
        .bind(state.as_str())
        .execute(&mut **tx)
        .await?;
    Ok(())
}

pub(crate) async fn recorded_state(tx: &mut Transaction<'_, Sqlite>, id: &RunId) -> Result<State, StoreError> {
    let text: Option<String> =
        sqlx::query_scalar("SELECT state FROM runs WHERE id = $1").bind(id.as_str()).fetch_optional(&mut **tx).await?;
    let text = text.ok_or_else(|| StoreError::NoSuchRun { id: id.clone() })?;
    state_from_text(&text, id.as_str())
}

pub(crate) fn require_a_row(id: &RunId, rows_affected: u64) -> Result<(), StoreError> {
    match rows_affected {
        0 => Err(StoreError::NoSuchRun { id: id.clone() }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::sample::{self, id, wait};

    #[test]
    fn a_made_up_name_is_numbered_and_a_chosen_one_refused() {
        wait(async {
            let (_folder, store) = sample::store().await;
            for (i, expected) in ["owl", "owl-2", "owl-3"].into_iter().enumerate() {
                let run = sample::new_run(&format!("A{i}"), "owl", 0);
                assert_eq!(store.create_run(&run).await.unwrap(), expected);
            }
            let mut run = sample::new_run("A9", "owl", 0);
            run.name = RunName::Chosen("owl-2".to_owned());
            let error = store.create_run(&run).await.unwrap_err();
            assert!(matches!(&error, StoreError::NameTaken { name } if name == "owl-2"), "{error}");
            run.name = RunName::Chosen("lark".to_owned());
            assert_eq!(store.create_run(&run).await.unwrap(), "lark");
        });
    }

    #[test]
    fn a_run_ends_once() {
        wait(async {
            let (_folder, store) = sample::store().await;
            store.create_run(&sample::new_run("A", "owl", 0)).await.unwrap();
            store.finish_run(&id("A"), &Ending::Stopped, 5).await.unwrap();
            let error = store.finish_run(&id("A"), &Ending::Finished, 6).await.unwrap_err();
            assert!(matches!(error, StoreError::NotRunning { state: State::Stopped, .. }), "{error}");
        });
    }

    #[test]
    fn writing_to_a_run_that_is_not_there_is_an_error() {
        wait(async {
            let (_folder, store) = sample::store().await;
            let missing = id("none");
            let errors = [
                store.heartbeat(&missing, 1).await,
                store.set_fingerprint(&missing, &sample::fingerprint("a")).await,
                store.finish_run(&missing, &Ending::Finished, 1).await,
            ];
            for result in errors {
                assert!(matches!(result, Err(StoreError::NoSuchRun { .. })), "{result:?}");
            }
            assert!(store.add_warning(&missing, "lost", 1).await.is_err());
        });
    }
}
