//! Runs by their fingerprint; those of older versions are made anew.

use std::path::Path;

use sqlx::{Sqlite, Transaction};

use crate::run::id::RunId;
use crate::run::summary::State;
use crate::spec::LoadedSpec;
use crate::spec::fingerprint::{self, FINGERPRINT_VERSION, Fingerprint};
use crate::spec::schema::Spec;
use crate::store::connect::Store;
use crate::store::runs::require_a_row;
use crate::store::{StoreError, detail, facts, stretches};

impl Store {
    /// Records what the run is the same as: in everything, and in everything but the seed.
    pub async fn set_fingerprint(&self, id: &RunId, fingerprint: &Fingerprint) -> Result<(), StoreError> {
        let update =
            sqlx::query("UPDATE runs SET fingerprint = $2, run_group = $3, fingerprint_version = $4 WHERE id = $1")
                .bind(id.as_str())
                .bind(&fingerprint.run)
                .bind(&fingerprint.group)
                .bind(FINGERPRINT_VERSION);
        let done = update.execute(&self.pool).await?;
        require_a_row(id, done.rows_affected())
    }

    /// Finished runs with this fingerprint, the newest first.
    pub async fn finished_with_fingerprint(&self, fingerprint: &str) -> Result<Vec<RunId>, StoreError> {
        self.renew_fingerprints().await?;
        let ids: Vec<String> = sqlx::query_scalar(
            "SELECT id FROM runs WHERE fingerprint = $1 AND state = 'finished' ORDER BY created_at_ms DESC",
        )
        .bind(fingerprint)
        .fetch_all(&self.pool)
        .await?;
        Ok(ids.into_iter().map(RunId::from_stored).collect())
    }

    /// Makes the fingerprints of finished runs anew that an older version made. Those of whose training too little is
    /// known stay as they are, and are found by nothing.
    async fn renew_fingerprints(&self) -> Result<(), StoreError> {
        let older: Vec<String> = sqlx::query_scalar(
            "SELECT id FROM runs
            WHERE fingerprint_version < $1 AND fingerprint IS NOT NULL AND state = 'finished' ORDER BY id",
        )
        .bind(FINGERPRINT_VERSION)
        .fetch_all(&self.pool)
        .await?;
        for id in older.into_iter().map(RunId::from_stored) {
            let mut tx = self.pool.begin().await?;
            let renewed = renewed(&mut tx, &id).await?;
            drop(tx);
            match renewed {
                Some(fingerprint) => self.set_fingerprint(&id, &fingerprint).await?,
                None => {
                    tracing::info!(%id, "the fingerprint of this run cannot be made anew");
                    let forget = "UPDATE runs SET fingerprint = NULL, fingerprint_version = $2 WHERE id = $1";
                    sqlx::query(forget).bind(id.as_str()).bind(FINGERPRINT_VERSION).execute(&self.pool).await?;
                }
            }
        }
        Ok(())
    }
}

/// The fingerprint of a run by what is recorded of it.
async fn renewed(tx: &mut Transaction<'_, Sqlite>, id: &RunId) -> Result<Option<Fingerprint>, StoreError> {
    let resolved: String = sqlx::query_scalar("SELECT resolved_json FROM run_specs WHERE run_id = $1")
        .bind(id.as_str())
        .fetch_one(&mut **tx)
        .await?;
    let Ok(LoadedSpec { spec, .. }) = LoadedSpec::from_record(Path::new("resolved.json"), resolved, &[]) else {
        return Ok(None);
    };
    let stretches = stretches::select(tx, id).await?;
    if stretches.is_empty() && may_have_stretches(tx, id, &spec).await? {
        return Ok(None);
    }
    let device_class = detail::environment(tx, id).await?.remove("device");
    let (data, model) = (facts::data(tx, id).await?, facts::model(tx, id).await?);
    let (Some(data), Some(model), Some(class)) = (data, model, device_class) else { return Ok(None) };
    Ok(Some(fingerprint::of_inputs(&spec, &stretches, &data, &model.weights_hash, &class)))
}

/// Whether a run from before stretches were recorded may have been trained in some that make a difference: its record
/// does not say how many epochs were asked for before it went on.
async fn may_have_stretches(tx: &mut Transaction<'_, Sqlite>, id: &RunId, spec: &Spec) -> Result<bool, StoreError> {
    let events = detail::events(tx, id).await?;
    let went_on = events.iter().filter(|event| event.state == State::Running).count() > 1;
    Ok(went_on && spec.may_have_stretches())
}
