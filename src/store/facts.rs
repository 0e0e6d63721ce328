//! What a run finds out while it goes: its data, its network, what it left out and what it warned about.

use std::path::PathBuf;

use sqlx::{Sqlite, Transaction};

use crate::run::detail::RunWarning;
use crate::run::event::{DataFacts, ModelFacts, SkippedInput, SplitFacts, TrainedFacts};
use crate::run::id::RunId;
use crate::run::metric::Split;
use crate::store::StoreError;
use crate::store::connect::Store;

impl Store {
    /// Records what the data turned out to be, in place of what was recorded before.
    pub async fn set_data_facts(&self, id: &RunId, facts: &DataFacts) -> Result<(), StoreError> {
        let mut tx = self.write().await?;
        for delete in ["DELETE FROM data_classes WHERE run_id = $1", "DELETE FROM data_splits WHERE run_id = $1"] {
            sqlx::query(delete).bind(id.as_str()).execute(&mut *tx).await?;
        }
        for (label, name) in (0_i64..).zip(&facts.classes) {
            sqlx::query("INSERT INTO data_classes (run_id, label, name) VALUES ($1, $2, $3)")
                .bind(id.as_str())
                .bind(label)
                .bind(name)
                .execute(&mut *tx)
                .await?;
        }
        for facts in &facts.splits {
            sqlx::query("INSERT INTO data_splits (run_id, split, n_images, hash) VALUES ($1, $2, $3, $4)")
                .bind(id.as_str())
                .bind(facts.split.as_str())
                .bind(facts.n_images.cast_signed())
                .bind(&facts.hash)
                .execute(&mut *tx)
                .await?;
        }
        Ok(tx.commit().await?)
    }

    /// What the data turned out to be; `None` before that is known.
    pub async fn data_facts(&self, id: &RunId) -> Result<Option<DataFacts>, StoreError> {
        let mut tx = self.pool.begin().await?;
        data(&mut tx, id).await
    }

    /// Records what the network turned out to be, in place of what was recorded before.
    pub async fn set_model_facts(&self, id: &RunId, facts: &ModelFacts) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO model_facts (run_id, weights_hash, n_parameters, n_trained_parameters,
                n_frozen_layers, cut, frozen_hash)
            VALUES ($1, $2, $3, $4, $5, $6, $7)
            ON CONFLICT (run_id) DO UPDATE SET weights_hash = excluded.weights_hash,
                n_parameters = excluded.n_parameters,
                n_trained_parameters = excluded.n_trained_parameters,
                n_frozen_layers = excluded.n_frozen_layers,
                cut = excluded.cut, frozen_hash = excluded.frozen_hash",
        )
        .bind(id.as_str())
        .bind(&facts.weights_hash)
        .bind(facts.n_parameters.cast_signed())
        .bind(facts.n_trained_parameters.cast_signed())
        .bind(facts.n_frozen_layers.cast_signed())
        .bind(&facts.cut)
        .bind(&facts.frozen_hash)
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// Records what the network's tensors were after the last epoch, in place of what was recorded before.
    pub async fn set_trained_facts(&self, id: &RunId, facts: &TrainedFacts) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO trained_facts (run_id, frozen_hash, trained_hash) VALUES ($1, $2, $3)
            ON CONFLICT (run_id) DO UPDATE
            SET frozen_hash = excluded.frozen_hash, trained_hash = excluded.trained_hash",
        )
        .bind(id.as_str())
        .bind(&facts.frozen_hash)
        .bind(&facts.trained_hash)
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// Records images that were left out.
    pub async fn add_skipped(&self, id: &RunId, skipped: &[SkippedInput]) -> Result<(), StoreError> {
        let mut tx = self.write().await?;
        for input in skipped {
            sqlx::query("INSERT INTO skipped_inputs (run_id, split, path, reason) VALUES ($1, $2, $3, $4)")
                .bind(id.as_str())
                .bind(input.split.as_str())
                .bind(input.path.to_string_lossy().into_owned())
                .bind(&input.reason)
                .execute(&mut *tx)
                .await?;
        }
        Ok(tx.commit().await?)
    }

    /// Records something the user should know and that does not stop the run; what is recorded already is not again.
    pub async fn add_warning(&self, id: &RunId, text: &str, at_ms: i64) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO run_warnings (run_id, at_ms, text)
            SELECT $1, $2, $3 WHERE NOT EXISTS (SELECT 1 FROM run_warnings WHERE run_id = $1 AND text = $3)",
        )
        .bind(id.as_str())
        .bind(at_ms)
        .bind(text)
        .execute(&self.pool)
        .await?;
        Ok(())
    }
}

/// Reads the trained tensors' hashes; `None` until they were recorded.
pub(crate) async fn trained(tx: &mut Transaction<'_, Sqlite>, id: &RunId) -> Result<Option<TrainedFacts>, StoreError> {
    let row: Option<(String, String)> =
        sqlx::query_as("SELECT frozen_hash, trained_hash FROM trained_facts WHERE run_id = $1")
            .bind(id.as_str())
            .fetch_optional(&mut **tx)
            .await?;
    Ok(row.map(|(frozen_hash, trained_hash)| TrainedFacts { frozen_hash, trained_hash }))
}

/// Reads the data's facts; `None` until they were recorded.
pub(crate) async fn data(tx: &mut Transaction<'_, Sqlite>, id: &RunId) -> Result<Option<DataFacts>, StoreError> {
    let classes: Vec<String> = sqlx::query_scalar("SELECT name FROM data_classes WHERE run_id = $1 ORDER BY label")
        .bind(id.as_str())
        .fetch_all(&mut **tx)
        .await?;
    let rows: Vec<(String, i64, String)> =
        sqlx::query_as("SELECT split, n_images, hash FROM data_splits WHERE run_id = $1")
            .bind(id.as_str())
            .fetch_all(&mut **tx)
            .await?;
    let mut splits = Vec::with_capacity(rows.len());
    for (split, n_images, hash) in rows {
        let split = split_from_text(&split, id)?;
        splits.push(SplitFacts { split, n_images: n_images.cast_unsigned(), hash });
    }
    splits.sort_by_key(|facts| facts.split);
    let recorded = !(classes.is_empty() && splits.is_empty());
    Ok(recorded.then_some(DataFacts { classes, splits }))
}

/// Reads the network's facts; `None` until they were recorded.
pub(crate) async fn model(tx: &mut Transaction<'_, Sqlite>, id: &RunId) -> Result<Option<ModelFacts>, StoreError> {
    let row: Option<(String, i64, i64, i64, String, String)> = sqlx::query_as(
        "SELECT weights_hash, n_parameters, n_trained_parameters, n_frozen_layers, cut, frozen_hash
        FROM model_facts WHERE run_id = $1",
    )
    .bind(id.as_str())
    .fetch_optional(&mut **tx)
    .await?;
    Ok(row.map(|(weights_hash, parameters, trained, frozen, cut, frozen_hash)| ModelFacts {
        weights_hash,
        n_parameters: parameters.cast_unsigned(),
        n_trained_parameters: trained.cast_unsigned(),
        n_frozen_layers: frozen.cast_unsigned(),
        cut,
        frozen_hash,
    }))
}

/// Reads the images left out, in the order they were recorded.
pub(crate) async fn skipped(tx: &mut Transaction<'_, Sqlite>, id: &RunId) -> Result<Vec<SkippedInput>, StoreError> {
    let rows: Vec<(String, String, String)> =
        sqlx::query_as("SELECT split, path, reason FROM skipped_inputs WHERE run_id = $1 ORDER BY id")
            .bind(id.as_str())
            .fetch_all(&mut **tx)
            .await?;
    let input = |(split, path, reason): (String, String, String)| {
        let split = split_from_text(&split, id)?;
        Ok(SkippedInput { split, path: PathBuf::from(path), reason })
    };
    rows.into_iter().map(input).collect()
}

/// Reads the warnings, in the order they were recorded.
pub(crate) async fn warnings(tx: &mut Transaction<'_, Sqlite>, id: &RunId) -> Result<Vec<RunWarning>, StoreError> {
    let rows: Vec<(i64, String)> = sqlx::query_as("SELECT at_ms, text FROM run_warnings WHERE run_id = $1 ORDER BY id")
        .bind(id.as_str())
        .fetch_all(&mut **tx)
        .await?;
    Ok(rows.into_iter().map(|(at_ms, text)| RunWarning { at_ms, text }).collect())
}

fn split_from_text(text: &str, id: &RunId) -> Result<Split, StoreError> {
    [Split::Train, Split::Valid, Split::Test].into_iter().find(|split| split.as_str() == text).ok_or_else(|| {
        StoreError::Corrupt { what: format!("the data of the run {id}"), reason: format!("unknown split {text:?}") }
    })
}
