//! Reading everything about one run.

use std::collections::BTreeMap;

use sqlx::{Sqlite, Transaction};

use crate::run::detail::{RunDetail, StateChange};
use crate::run::id::RunId;
use crate::run::look;
use crate::run::metric::Split;
use crate::store::connect::Store;
use crate::store::list::Observer;
use crate::store::runs::state_from_text;
use crate::store::{StoreError, artifacts, checkpoints, facts, looks, stretches, system};

impl Store {
    /// The complete specs of these runs, as JSON.
    pub async fn resolved_specs(&self, ids: &[RunId]) -> Result<BTreeMap<RunId, String>, StoreError> {
        self.texts("SELECT run_id, resolved_json FROM run_specs", ids).await
    }

    /// The hashes of what these runs trained, of those that have trained to their end.
    pub async fn trained_hashes(&self, ids: &[RunId]) -> Result<BTreeMap<RunId, String>, StoreError> {
        self.texts("SELECT run_id, trained_hash FROM trained_facts", ids).await
    }

    /// A text of each of these runs that has one.
    async fn texts(&self, select: &str, ids: &[RunId]) -> Result<BTreeMap<RunId, String>, StoreError> {
        let query = format!("{select} WHERE run_id IN (SELECT value FROM json_each($1))");
        let rows: Vec<(String, String)> = sqlx::query_as(sqlx::AssertSqlSafe(query))
            .bind(serde_json::json!(ids).to_string())
            .fetch_all(&self.pool)
            .await?;
        Ok(rows.into_iter().map(|(id, text)| (RunId::from_stored(id), text)).collect())
    }

    /// Reads a run with everything but its points.
    pub async fn run_detail(&self, id: &RunId, observer: &Observer<'_>) -> Result<RunDetail, StoreError> {
        let summary = self.run_summary(id, observer).await?;
        let mut tx = self.pool.begin().await?;
        let data = facts::data(&mut tx, id).await?;
        let test = data.as_ref().and_then(|data| data.of(Split::Test));
        let n_test_looks = match test {
            Some(test) => look::count(&looks::of_split(&mut tx, &test.hash).await?),
            None => 0,
        };
        let (host, pid, spec_yaml, resolved_json) = sqlx::query_as(
            "SELECT host, pid, spec_yaml, resolved_json
            FROM runs JOIN run_specs ON run_specs.run_id = runs.id WHERE runs.id = $1",
        )
        .bind(id.as_str())
        .fetch_one(&mut *tx)
        .await?;
        Ok(RunDetail {
            summary,
            host,
            pid,
            spec_yaml,
            resolved_json,
            environment: environment(&mut tx, id).await?,
            events: events(&mut tx, id).await?,
            stretches: stretches::select(&mut tx, id).await?,
            data,
            n_test_looks,
            model: facts::model(&mut tx, id).await?,
            trained: facts::trained(&mut tx, id).await?,
            checkpoints: checkpoints::select(&mut tx, id).await?,
            skipped: facts::skipped(&mut tx, id).await?,
            warnings: facts::warnings(&mut tx, id).await?,
            artifacts: artifacts::select(&mut tx, id).await?,
            system: system::series(&mut tx, id).await?,
            recording: system::costs(&mut tx, id).await?,
        })
    }
}

pub(crate) async fn environment(
    tx: &mut Transaction<'_, Sqlite>,
    id: &RunId,
) -> Result<BTreeMap<String, String>, StoreError> {
    let rows: Vec<(String, String)> = sqlx::query_as("SELECT name, value FROM run_environment WHERE run_id = $1")
        .bind(id.as_str())
        .fetch_all(&mut **tx)
        .await?;
    Ok(rows.into_iter().collect())
}

pub(crate) async fn events(tx: &mut Transaction<'_, Sqlite>, id: &RunId) -> Result<Vec<StateChange>, StoreError> {
    let rows: Vec<(i64, String)> = sqlx::query_as("SELECT at_ms, state FROM run_events WHERE run_id = $1 ORDER BY id")
        .bind(id.as_str())
        .fetch_all(&mut **tx)
        .await?;
    let change =
        |(at_ms, state): (i64, String)| Ok(StateChange { at_ms, state: state_from_text(&state, id.as_str())? });
    rows.into_iter().map(change).collect()
}

#[cfg(test)]
mod tests {
    use crate::run::detail::{Artifact, RunWarning};
    use crate::run::event::{DataFacts, ModelFacts, SkippedInput, SplitFacts};
    use crate::run::metric::Split;
    use crate::run::summary::{RunError, ShownState, State};
    use crate::store::runs::Ending;
    use crate::store::sample::{self, checkpoint, wait};

    #[test]
    fn what_a_run_records_comes_back_whole() {
        wait(async {
            let (folder, store) = sample::store().await;
            let run = sample::new_run("A", "owl", 100);
            let data = DataFacts {
                classes: vec!["cat".to_owned(), "Dog".to_owned(), "ant".to_owned()],
                splits: vec![
                    SplitFacts { split: Split::Train, n_images: 90, hash: "t".to_owned() },
                    SplitFacts { split: Split::Valid, n_images: 10, hash: "v".to_owned() },
                ],
            };
            let model = ModelFacts {
                weights_hash: "w".to_owned(),
                n_parameters: 4_000_000,
                n_trained_parameters: 12_810,
                n_frozen_layers: 5,
                cut: "block5".to_owned(),
                frozen_hash: "f".to_owned(),
            };
            let skipped = ["b.png", "a.png"].map(|path| SkippedInput {
                split: Split::Valid,
                path: path.into(),
                reason: "not an image".to_owned(),
            });
            let plot = |n_bytes| Artifact {
                kind: "plot".to_owned(),
                path: "curves.png".into(),
                n_bytes,
                hash: "p".to_owned(),
            };
            let error =
                RunError { message: "out of memory".to_owned(), cause: Some("batch of 4096".to_owned()), place: None };
            store.create_run(&run).await.unwrap();
            for _ in 0..2 {
                store.set_data_facts(&run.id, &data).await.unwrap();
                store.set_model_facts(&run.id, &model).await.unwrap();
            }
            store.add_skipped(&run.id, &skipped).await.unwrap();
            store.add_warning(&run.id, "few images", 150).await.unwrap();
            store.commit_epoch(&run.id, 1, &[], &checkpoint(1), Some(0.5)).await.unwrap();
            store.add_artifact(&run.id, &plot(1)).await.unwrap();
            store.add_artifact(&run.id, &plot(2)).await.unwrap();
            store.finish_run(&run.id, &Ending::Failed(error.clone()), 200).await.unwrap();

            let observer = sample::observer(folder.path(), 0);
            let told = store.run_detail(&run.id, &observer).await.unwrap();
            assert_eq!(told.summary.state, ShownState::Recorded(State::Failed));
            assert_eq!(told.summary.error, Some(error));
            assert_eq!((told.host.as_str(), told.pid), (sample::HOST, 7));
            assert_eq!(told.spec_yaml, run.spec_yaml);
            assert_eq!(told.resolved_json, run.resolved_json);
            assert_eq!(told.environment, run.environment);
            assert_eq!(told.stretches, run.stretches);
            assert_eq!(told.data, Some(data));
            assert_eq!(told.model, Some(model));
            assert_eq!(told.skipped, skipped);
            assert_eq!(told.warnings, [RunWarning { at_ms: 150, text: "few images".to_owned() }]);
            assert_eq!(told.checkpoints.len(), 1);
            assert_eq!(told.artifacts, [plot(2)]);
            let events: Vec<_> = told.events.iter().map(|e| (e.at_ms, e.state)).collect();
            assert_eq!(events, [(100, State::Running), (200, State::Failed)]);
        });
    }

    #[test]
    fn facts_not_yet_known_are_missing() {
        wait(async {
            let (folder, store) = sample::store().await;
            store.create_run(&sample::new_run("A", "owl", 0)).await.unwrap();
            let observer = sample::observer(folder.path(), 0);
            let told = store.run_detail(&sample::id("A"), &observer).await.unwrap();
            assert!(told.data.is_none() && told.model.is_none());
        });
    }
}
