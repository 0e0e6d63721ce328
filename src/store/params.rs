//! Parameters: names and values are interned, since the runs of an experiment share most of them.

use std::collections::{BTreeMap, HashMap};

use serde_json::Value;
use sqlx::{QueryBuilder, Sqlite, Transaction};

use crate::run::id::RunId;
use crate::store::StoreError;
use crate::store::list::Selection;

/// Records a run's parameters.
pub(crate) async fn insert(
    tx: &mut Transaction<'_, Sqlite>,
    id: &RunId,
    params: &BTreeMap<String, Value>,
) -> Result<(), StoreError> {
    for (name, value) in params {
        let json = value.to_string();
        sqlx::query("INSERT INTO param_names (name) VALUES ($1) ON CONFLICT (name) DO NOTHING")
            .bind(name)
            .execute(&mut **tx)
            .await?;
        sqlx::query("INSERT INTO param_values (json) VALUES ($1) ON CONFLICT (json) DO NOTHING")
            .bind(&json)
            .execute(&mut **tx)
            .await?;
        sqlx::query(
            "INSERT INTO run_params (run_id, name_id, value_id)
            SELECT $1, param_names.id, param_values.id FROM param_names, param_values
            WHERE param_names.name = $2 AND param_values.json = $3",
        )
        .bind(id.as_str())
        .bind(name)
        .bind(&json)
        .execute(&mut **tx)
        .await?;
    }
    Ok(())
}

/// Reads the parameters of every selected run, by run id.
///
/// The database joins each run's pairs into one text: fetching them as rows of their own takes five times as long.
pub(crate) async fn select(
    tx: &mut Transaction<'_, Sqlite>,
    selection: &Selection<'_>,
) -> Result<HashMap<String, BTreeMap<String, Value>>, StoreError> {
    let names = names(tx).await?;
    let values = values(tx, selection).await?;
    let mut query = QueryBuilder::new("SELECT run_id, string_agg(name_id || ' ' || value_id, ' ') FROM run_params");
    selection.push_where(&mut query, "run_id");
    query.push(" GROUP BY run_id");
    let rows: Vec<(String, String)> = query.build_query_as().fetch_all(&mut **tx).await?;
    let mut params = HashMap::with_capacity(rows.len());
    for (run_id, pairs) in rows {
        let of_run = pairs_from_text(&pairs, &names, &values).ok_or_else(|| {
            let what = format!("the parameters of the run {run_id}");
            StoreError::Corrupt { what, reason: "a name or a value is missing".to_owned() }
        })?;
        params.insert(run_id, of_run);
    }
    Ok(params)
}

async fn names(tx: &mut Transaction<'_, Sqlite>) -> Result<HashMap<i64, String>, StoreError> {
    let query = sqlx::query_as("SELECT id, name FROM param_names");
    let rows: Vec<(i64, String)> = query.fetch_all(&mut **tx).await?;
    Ok(rows.into_iter().collect())
}

async fn values(
    tx: &mut Transaction<'_, Sqlite>,
    selection: &Selection<'_>,
) -> Result<HashMap<i64, Value>, StoreError> {
    let mut query = QueryBuilder::new("SELECT id, json FROM param_values");
    if !selection.is_everything() {
        query.push(" WHERE id IN (SELECT value_id FROM run_params");
        selection.push_where(&mut query, "run_id");
        query.push(")");
    }
    let rows: Vec<(i64, String)> = query.build_query_as().fetch_all(&mut **tx).await?;
    rows.into_iter()
        .map(|(id, json)| match serde_json::from_str(&json) {
            Ok(value) => Ok((id, value)),
            Err(error) => {
                Err(StoreError::Corrupt { what: format!("the parameter value {json:?}"), reason: error.to_string() })
            }
        })
        .collect()
}

/// Takes `name value name value …` apart.
fn pairs_from_text(
    text: &str,
    names: &HashMap<i64, String>,
    values: &HashMap<i64, Value>,
) -> Option<BTreeMap<String, Value>> {
    let mut numbers = text.split(' ').map(|number| number.parse::<i64>().ok());
    let mut params = BTreeMap::new();
    while let Some(name_id) = numbers.next() {
        let value_id = numbers.next()??;
        params.insert(names.get(&name_id?)?.clone(), values.get(&value_id)?.clone());
    }
    Some(params)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::store::sample::{self, wait};

    #[test]
    fn values_keep_their_types_and_equal_ones_are_stored_once() {
        wait(async {
            let (folder, store) = sample::store().await;
            let params = BTreeMap::from([
                ("a".to_owned(), json!(1)),
                ("b".to_owned(), json!(1.0)),
                ("c".to_owned(), json!("1")),
                ("d".to_owned(), json!([1, "two", null])),
                ("e".to_owned(), json!(true)),
                ("f".to_owned(), json!(u64::MAX)),
                ("g".to_owned(), Value::Null),
                ("h".to_owned(), json!("it's \"two\" words")),
            ]);
            for i in 0..3 {
                let mut run = sample::new_run(&format!("A{i}"), "owl", 0);
                run.params = params.clone();
                store.create_run(&run).await.unwrap();
                let observer = sample::observer(folder.path(), 0);
                let summary = store.run_summary(&run.id, &observer).await.unwrap();
                assert_eq!(summary.params, params);
            }
            let n_values: i64 =
                sqlx::query_scalar("SELECT count(*) FROM param_values").fetch_one(&store.pool).await.unwrap();
            assert_eq!(n_values, 8);
        });
    }
}
