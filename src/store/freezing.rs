//! The hashes that prove what a training moved and what it did not.

use crate::run::freezing::{Moment, Proof, TensorProof};
use crate::run::id::RunId;
use crate::store::StoreError;
use crate::store::connect::Store;

impl Store {
    /// Records the tensors before the first step; what was recorded by an earlier process of the run stays.
    pub async fn set_tensors_before(&self, id: &RunId, before: &Moment) -> Result<(), StoreError> {
        let mut tx = self.write().await?;
        for (position, tensor) in (0_i64..).zip(&before.tensors) {
            sqlx::query(
                "INSERT INTO tensor_hashes (run_id, position, name, is_frozen, before_hash)
                VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING",
            )
            .bind(id.as_str())
            .bind(position)
            .bind(&tensor.name)
            .bind(i64::from(tensor.is_frozen))
            .bind(&tensor.hash)
            .execute(&mut *tx)
            .await?;
        }
        if let Some(probe) = &before.probe {
            sqlx::query("INSERT INTO probe_hashes (run_id, before_hash) VALUES ($1, $2) ON CONFLICT DO NOTHING")
                .bind(id.as_str())
                .bind(probe)
                .execute(&mut *tx)
                .await?;
        }
        Ok(tx.commit().await?)
    }

    /// Records the tensors after the last step, in place of what was recorded before.
    pub async fn set_tensors_after(&self, id: &RunId, after: &Moment) -> Result<(), StoreError> {
        let mut tx = self.write().await?;
        for tensor in &after.tensors {
            sqlx::query("UPDATE tensor_hashes SET after_hash = $3 WHERE run_id = $1 AND name = $2")
                .bind(id.as_str())
                .bind(&tensor.name)
                .bind(&tensor.hash)
                .execute(&mut *tx)
                .await?;
        }
        sqlx::query("UPDATE probe_hashes SET after_hash = $2 WHERE run_id = $1")
            .bind(id.as_str())
            .bind(&after.probe)
            .execute(&mut *tx)
            .await?;
        Ok(tx.commit().await?)
    }

    /// Reads both; `None` where none were recorded, as in runs of older versions.
    pub async fn freezing(&self, id: &RunId) -> Result<Option<Proof>, StoreError> {
        let mut tx = self.pool.begin().await?;
        let rows: Vec<(String, i64, String, Option<String>)> = sqlx::query_as(
            "SELECT name, is_frozen, before_hash, after_hash FROM tensor_hashes WHERE run_id = $1 ORDER BY position",
        )
        .bind(id.as_str())
        .fetch_all(&mut *tx)
        .await?;
        let probe: Option<(String, Option<String>)> =
            sqlx::query_as("SELECT before_hash, after_hash FROM probe_hashes WHERE run_id = $1")
                .bind(id.as_str())
                .fetch_optional(&mut *tx)
                .await?;
        if rows.is_empty() {
            return Ok(None);
        }
        let tensor = |(name, is_frozen, before, after)| TensorProof { name, is_frozen: is_frozen != 0, before, after };
        let (probe_before, probe_after) = probe.map_or((None, None), |(before, after)| (Some(before), after));
        Ok(Some(Proof { tensors: rows.into_iter().map(tensor).collect(), probe_before, probe_after }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::freezing::TensorHash;
    use crate::store::sample::{self, wait};

    fn moment(hash: &str) -> Moment {
        let tensor =
            |name: &str, is_frozen| TensorHash { name: name.to_owned(), is_frozen, hash: format!("{name} {hash}") };
        Moment { tensors: vec![tensor("b", true), tensor("a", false)], probe: Some(hash.to_owned()) }
    }

    #[test]
    fn the_first_before_and_the_last_after_stay() {
        wait(async {
            let (_folder, store) = sample::store().await;
            let run = sample::new_run("A", "owl", 100);
            store.create_run(&run).await.unwrap();
            assert_eq!(store.freezing(&run.id).await.unwrap(), None);
            for hash in ["first", "again"] {
                store.set_tensors_before(&run.id, &moment(hash)).await.unwrap();
            }
            let begun = store.freezing(&run.id).await.unwrap().unwrap();
            assert_eq!((begun.tensors[0].after.as_ref(), begun.probe_after.as_ref()), (None, None));
            for hash in ["then", "last"] {
                store.set_tensors_after(&run.id, &moment(hash)).await.unwrap();
            }
            let proof = store.freezing(&run.id).await.unwrap().unwrap();
            assert_eq!(proof, Proof::of(&moment("first"), &moment("last")));
        });
    }
}
