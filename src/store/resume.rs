//! Going on with a run: its row says running again, and what an uncommitted epoch left is superseded.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::run::engine::ENGINE;
use crate::run::id::RunId;
use crate::run::stretch::Stretch;
use crate::run::summary::State;
use crate::store::StoreError;
use crate::store::connect::Store;
use crate::store::runs::{insert_event, require_a_row};
use crate::store::{metrics, params, stretches};

/// Who goes on with a run, and with what.
#[derive(Clone, Debug)]
pub struct Resumption {
    pub id: RunId,
    pub host: String,
    pub pid: u32,
    pub at_ms: i64,
    /// The complete spec, which may ask for more epochs than before.
    pub resolved_json: String,
    pub params: BTreeMap<String, Value>,
    /// What the epochs were trained under, and those to come are.
    pub stretches: Vec<Stretch>,
    /// What the environment says of the engines that trained it, where another one goes on.
    pub engine: Option<String>,
    /// What it says of the devices, where another kind of them goes on.
    pub device: Option<String>,
    /// Points of single steps after this epoch belong to epochs that will be trained again.
    pub last_epoch: u32,
}

impl Store {
    /// Records that a run goes on; its lock must be held.
    pub async fn resume_run(&self, resumption: &Resumption) -> Result<(), StoreError> {
        let mut tx = self.write().await?;
        let id = resumption.id.as_str();
        // What a stretch tested that never finished will be tested again; the tests of those that did stay.
        let n_finished: i64 =
            sqlx::query_scalar("SELECT count(*) FROM run_events WHERE run_id = $1 AND state = 'finished'")
                .bind(id)
                .fetch_one(&mut *tx)
                .await?;
        metrics::supersede_tests(&mut tx, &resumption.id, n_finished as usize).await?;
        let done = sqlx::query(
            "UPDATE runs SET state = $2, host = $3, pid = $4, heartbeat_at_ms = $5, ended_at_ms = NULL,
                error_message = NULL, error_cause = NULL, error_place = NULL
            WHERE id = $1",
        )
        .bind(id)
        .bind(State::Running.as_str())
        .bind(&resumption.host)
        .bind(resumption.pid)
        .bind(resumption.at_ms)
        .execute(&mut *tx)
        .await?;
        require_a_row(&resumption.id, done.rows_affected())?;
        insert_event(&mut tx, &resumption.id, resumption.at_ms, State::Running).await?;
        sqlx::query("UPDATE run_specs SET resolved_json = $2 WHERE run_id = $1")
            .bind(id)
            .bind(&resumption.resolved_json)
            .execute(&mut *tx)
            .await?;
        // What is found out anew is recorded anew. Warnings stay: some are about epochs that are not trained again.
        for delete in [
            "DELETE FROM run_params WHERE run_id = $1",
            "DELETE FROM skipped_inputs WHERE run_id = $1",
            "DELETE FROM trained_facts WHERE run_id = $1",
        ] {
            sqlx::query(delete).bind(id).execute(&mut *tx).await?;
        }
        params::insert(&mut tx, &resumption.id, &resumption.params).await?;
        let facts = [(ENGINE, &resumption.engine), ("device", &resumption.device)];
        for (name, value) in facts.into_iter().filter_map(|(name, value)| Some((name, value.as_ref()?))) {
            sqlx::query(
                "INSERT INTO run_environment (run_id, name, value) VALUES ($1, $2, $3)
                ON CONFLICT (run_id, name) DO UPDATE SET value = excluded.value",
            )
            .bind(id)
            .bind(name)
            .bind(value)
            .execute(&mut *tx)
            .await?;
        }
        stretches::replace(&mut tx, &resumption.id, &resumption.stretches).await?;
        metrics::supersede_steps(&mut tx, &resumption.id, resumption.last_epoch).await?;
        Ok(tx.commit().await?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::look::LookedBy;
    use crate::run::metric::{Measure, MetricKey, Resolution, Split};
    use crate::run::summary::ShownState;
    use crate::store::runs::Ending;
    use crate::store::sample::{self, VALID_LOSS, id, point, wait};

    #[test]
    fn a_resumed_run_is_running_again_without_the_steps_of_uncommitted_epochs() {
        wait(async {
            let (folder, store) = sample::store().await;
            store.create_run(&sample::new_run("A", "owl", 0)).await.unwrap();
            let steps: Vec<_> = (1..=4).map(|epoch| (VALID_LOSS, point(epoch, 0.5 / f64::from(epoch)))).collect();
            store.append_step_points(&id("A"), &steps).await.unwrap();
            store.finish_run(&id("A"), &Ending::Stopped, 5).await.unwrap();
            let resumption = sample::resumption("A", 9);
            store.resume_run(&resumption).await.unwrap();
            let left = store.points(&id("A"), VALID_LOSS, Resolution::Step).await.unwrap();
            assert_eq!(left, [point(1, 0.5), point(2, 0.25), point(3, 0.5 / 3.0)]);
            std::fs::create_dir_all(folder.path().join("A")).unwrap();
            let _lock = crate::store::lock::RunLock::take(&folder.path().join("A")).unwrap();
            let run = store.run_detail(&id("A"), &sample::observer(folder.path(), 0)).await.unwrap();
            assert_eq!(run.summary.state, ShownState::Recorded(State::Running));
            assert_eq!(run.summary.ended_at_ms, None);
            assert_eq!(run.summary.params, resumption.params);
            assert_eq!(run.stretches, resumption.stretches);
            assert_eq!(run.summary.engine.as_deref(), Some("1, 2"));
            let states: Vec<State> = run.events.iter().map(|event| event.state).collect();
            assert_eq!(states, [State::Running, State::Stopped, State::Running]);
            assert!(store.resume_run(&Resumption { id: id("none"), ..resumption }).await.is_err());
        });
    }

    #[test]
    fn tests_of_stretches_that_finished_stay_and_others_are_measured_again() {
        wait(async {
            let (_folder, store) = sample::store().await;
            store.create_run(&sample::new_run("A", "owl", 0)).await.unwrap();
            let test_loss = MetricKey::new(Split::Test, Measure::Loss);
            let tested = [0.5, 0.4, 0.3].map(|loss| point(1, loss));
            let points = async || store.points(&id("A"), test_loss, Resolution::Epoch).await.unwrap();
            store.add_test_points(&id("A"), &[(test_loss, tested[0])], &LookedBy::Run).await.unwrap();
            store.finish_run(&id("A"), &Ending::Finished, 1).await.unwrap();
            store.resume_run(&sample::resumption("A", 2)).await.unwrap();
            assert_eq!(points().await, [tested[0]]);
            // The second stretch is killed after its test and before its end.
            store.add_test_points(&id("A"), &[(test_loss, tested[1])], &LookedBy::Run).await.unwrap();
            store.resume_run(&sample::resumption("A", 3)).await.unwrap();
            assert_eq!(points().await, [tested[0]]);
            store.add_test_points(&id("A"), &[(test_loss, tested[2])], &LookedBy::Run).await.unwrap();
            store.finish_run(&id("A"), &Ending::Finished, 4).await.unwrap();
            assert_eq!(points().await, [tested[0], tested[2]]);
        });
    }

    #[test]
    fn warnings_stay_and_are_not_repeated() {
        wait(async {
            let (folder, store) = sample::store().await;
            store.create_run(&sample::new_run("A", "owl", 0)).await.unwrap();
            store.add_warning(&id("A"), "train.loss is NaN in epoch 1", 5).await.unwrap();
            store.resume_run(&sample::resumption("A", 9)).await.unwrap();
            store.add_warning(&id("A"), "few images", 10).await.unwrap();
            store.add_warning(&id("A"), "few images", 11).await.unwrap();
            let run = store.run_detail(&id("A"), &sample::observer(folder.path(), 0)).await.unwrap();
            let warnings: Vec<_> = run.warnings.iter().map(|warning| (warning.at_ms, warning.text.as_str())).collect();
            assert_eq!(warnings, [(5, "train.loss is NaN in epoch 1"), (10, "few images")]);
        });
    }
}
