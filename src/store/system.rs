//! What the machine was doing while a run went, and what recording the run cost.

use std::collections::BTreeMap;

use sqlx::{Sqlite, Transaction};

use crate::run::detail::{RecordingCosts, SystemSeries};
use crate::run::id::RunId;
use crate::run::metric::{Point, Resolution};
use crate::run::system::SystemSample;
use crate::store::StoreError;
use crate::store::connect::Store;
use crate::store::metrics::{self, NewPoints};

impl Store {
    /// Adds looks at the machine; a power cut may take the last of them.
    pub async fn append_system_samples(&self, id: &RunId, samples: &[SystemSample]) -> Result<(), StoreError> {
        let mut tx = self.write_relaxed().await?;
        metrics::append(&mut tx, id, Resolution::System, &by_series(samples)).await?;
        Ok(tx.commit().await?)
    }

    /// Adds to what recording a run has cost.
    pub async fn add_recording_costs(&self, id: &RunId, costs: &RecordingCosts) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO recording_costs (run_id, n_waits, waited_us, longest_wait_us, n_system_dropped)
            VALUES ($1, $2, $3, $4, $5)
            ON CONFLICT (run_id) DO UPDATE SET n_waits = recording_costs.n_waits + excluded.n_waits,
                waited_us = recording_costs.waited_us + excluded.waited_us,
                longest_wait_us = max(recording_costs.longest_wait_us, excluded.longest_wait_us),
                n_system_dropped = recording_costs.n_system_dropped + excluded.n_system_dropped",
        )
        .bind(id.as_str())
        .bind(costs.n_waits.cast_signed())
        .bind(costs.waited_us.cast_signed())
        .bind(costs.longest_wait_us.cast_signed())
        .bind(costs.n_system_dropped.cast_signed())
        .execute(&self.relaxed)
        .await?;
        Ok(())
    }
}

/// Reads what the machine was doing, by the measures' names; the means take the points.
pub(crate) async fn series(
    tx: &mut Transaction<'_, Sqlite>,
    id: &RunId,
) -> Result<BTreeMap<String, SystemSeries>, StoreError> {
    let mut series = BTreeMap::new();
    for (name, summary) in metrics::select_summaries(tx, id, Resolution::System).await? {
        let points = metrics::select_points(tx, id, &name, Resolution::System).await?;
        series.insert(name, SystemSeries { summary, mean: mean(&points) });
    }
    Ok(series)
}

/// Reads what recording a run cost; `None` until it has ended once.
pub(crate) async fn costs(tx: &mut Transaction<'_, Sqlite>, id: &RunId) -> Result<Option<RecordingCosts>, StoreError> {
    let row: Option<(i64, i64, i64, i64)> = sqlx::query_as(
        "SELECT n_waits, waited_us, longest_wait_us, n_system_dropped FROM recording_costs WHERE run_id = $1",
    )
    .bind(id.as_str())
    .fetch_optional(&mut **tx)
    .await?;
    Ok(row.map(|(n_waits, waited_us, longest_wait_us, n_system_dropped)| RecordingCosts {
        n_waits: n_waits.cast_unsigned(),
        waited_us: waited_us.cast_unsigned(),
        longest_wait_us: longest_wait_us.cast_unsigned(),
        n_system_dropped: n_system_dropped.cast_unsigned(),
    }))
}

/// A look at the machine belongs to no epoch and no step, only to its time.
fn by_series(samples: &[SystemSample]) -> Vec<NewPoints> {
    let mut by_name: BTreeMap<&str, Vec<Point>> = BTreeMap::new();
    for sample in samples {
        for (name, value) in &sample.values {
            let point = Point { epoch: 0, step: 0, at_ms: sample.at_ms, value: *value, n_samples: 1 };
            by_name.entry(name).or_default().push(point);
        }
    }
    let series = |(name, points): (&str, Vec<Point>)| NewPoints { name: name.to_owned(), direction: None, points };
    by_name.into_iter().map(series).collect()
}

fn mean(points: &[Point]) -> Option<f64> {
    let numbers = points.iter().map(|point| point.value).filter(|value| !value.is_nan());
    let (sum, n) = numbers.fold((0.0, 0_u64), |(sum, n), value| (sum + value, n + 1));
    (n > 0).then(|| sum / n as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::system::{CPU_PERCENT, PROCESS_MEMORY_BYTES};
    use crate::store::list::RunFilter;
    use crate::store::resume::Resumption;
    use crate::store::sample::{self, id, wait};

    fn look(at_ms: i64, cpu_percent: f64, memory_bytes: f64) -> SystemSample {
        let values = [(CPU_PERCENT, cpu_percent), (PROCESS_MEMORY_BYTES, memory_bytes)];
        SystemSample { at_ms, values: values.map(|(name, value)| (name.to_owned(), value)).into() }
    }

    #[test]
    fn the_machine_is_told_by_run_and_stays_out_of_lists() {
        wait(async {
            let (folder, store) = sample::store().await;
            store.create_run(&sample::new_run("A", "owl", 0)).await.unwrap();
            store.append_system_samples(&id("A"), &[look(1, 50.0, 1e9), look(2, f64::NAN, 3e9)]).await.unwrap();
            store.append_system_samples(&id("A"), &[look(3, 100.0, 2e9)]).await.unwrap();
            let observer = sample::observer(folder.path(), 0);
            let told = store.run_detail(&id("A"), &observer).await.unwrap().system;
            assert_eq!(told.keys().collect::<Vec<_>>(), [CPU_PERCENT, PROCESS_MEMORY_BYTES]);
            assert_eq!(told[CPU_PERCENT].mean, Some(75.0));
            let memory = &told[PROCESS_MEMORY_BYTES].summary;
            assert_eq!((memory.min, memory.max, memory.last), (Some(1e9), Some(3e9), Some(2e9)));
            assert_eq!((memory.best, memory.best_epoch, memory.n_points), (None, None, 3));
            let listed = store.list_runs(&RunFilter::default(), &observer).await.unwrap();
            assert!(listed[0].metrics.is_empty());
        });
    }

    #[test]
    fn a_resumed_run_keeps_its_looks_at_the_machine_and_adds_up_its_costs() {
        wait(async {
            let (folder, store) = sample::store().await;
            let run = sample::new_run("A", "owl", 0);
            store.create_run(&run).await.unwrap();
            store.append_system_samples(&id("A"), &[look(1, 50.0, 1e9)]).await.unwrap();
            let costs = RecordingCosts { n_waits: 2, waited_us: 30, longest_wait_us: 20, n_system_dropped: 1 };
            store.add_recording_costs(&id("A"), &costs).await.unwrap();
            let resumption = Resumption {
                id: id("A"),
                host: sample::HOST.to_owned(),
                pid: 8,
                at_ms: 9,
                resolved_json: "{}".to_owned(),
                params: run.params,
                stretches: run.stretches,
                device: None,
                engine: None,
                last_epoch: 0,
            };
            store.resume_run(&resumption).await.unwrap();
            store.append_system_samples(&id("A"), &[look(10, 70.0, 1e9)]).await.unwrap();
            let more = RecordingCosts { n_waits: 1, waited_us: 5, longest_wait_us: 5, n_system_dropped: 0 };
            store.add_recording_costs(&id("A"), &more).await.unwrap();
            let told = store.run_detail(&id("A"), &sample::observer(folder.path(), 0)).await.unwrap();
            assert_eq!(told.system[CPU_PERCENT].mean, Some(60.0));
            let sum = RecordingCosts { n_waits: 3, waited_us: 35, longest_wait_us: 20, n_system_dropped: 1 };
            assert_eq!(told.recording, Some(sum));
        });
    }
}
