//! Reading runs as lists and comparisons want them, from summaries alone, with the state a reader may believe.

use std::collections::HashMap;
use std::path::Path;

use sqlx::{QueryBuilder, Sqlite, Transaction};

use crate::run::id::RunId;
use crate::run::metric::MetricKey;
use crate::run::summary::{RunError, RunSummary, ShownState, State};
use crate::store::connect::Store;
use crate::store::runs::state_from_text;
use crate::store::{StoreError, lock, metrics, params};

/// A run of another host whose last sign of life is older than this is crashed, milliseconds.
const HEARTBEAT_LIMIT_MS: i64 = 15_000;

/// SQLite takes at most 32,766 bound values in one statement.
const MAX_IDS: usize = 10_000;

/// Who looks, and when: what a state is judged by.
#[derive(Clone, Copy, Debug)]
pub struct Observer<'a> {
    /// The folder of the runs' own folders, where their locks are.
    pub runs_dir: &'a Path,
    pub this_host: &'a str,
    pub now_ms: i64,
}

/// Which runs to list.
#[derive(Clone, Debug, Default)]
pub struct RunFilter {
    pub experiment: Option<String>,
    /// Runs with this tag.
    pub tag: Option<String>,
    /// The newest so many.
    pub limit: Option<u32>,
}

impl Store {
    /// Reads runs, newest first, in five queries however many there are.
    pub async fn list_runs(&self, filter: &RunFilter, observer: &Observer<'_>) -> Result<Vec<RunSummary>, StoreError> {
        self.observed(&Selection::Filter(filter), Parts::All, observer).await
    }

    /// Reads runs, newest first, with these metrics alone and without parameters and tags: a third of the work.
    pub async fn list_results(
        &self,
        filter: &RunFilter,
        metrics: &[MetricKey],
        observer: &Observer<'_>,
    ) -> Result<Vec<RunSummary>, StoreError> {
        self.observed(&Selection::Filter(filter), Parts::Metrics(metrics), observer).await
    }

    /// Reads these runs, in the order asked; an id that is not there is [`StoreError::NoSuchRun`].
    pub async fn run_summaries(&self, ids: &[RunId], observer: &Observer<'_>) -> Result<Vec<RunSummary>, StoreError> {
        let mut by_id = HashMap::with_capacity(ids.len());
        for ids in ids.chunks(MAX_IDS) {
            for run in self.observed(&Selection::Ids(ids), Parts::All, observer).await? {
                by_id.insert(run.id.clone(), run);
            }
        }
        let found = |id: &RunId| by_id.get(id).cloned();
        ids.iter().map(|id| found(id).ok_or_else(|| StoreError::NoSuchRun { id: id.clone() })).collect()
    }

    /// Reads one run.
    pub async fn run_summary(&self, id: &RunId, observer: &Observer<'_>) -> Result<RunSummary, StoreError> {
        let runs = self.observed(&Selection::Ids(std::slice::from_ref(id)), Parts::All, observer).await?;
        runs.into_iter().next().ok_or_else(|| StoreError::NoSuchRun { id: id.clone() })
    }

    /// Reads runs and settles which of those recorded as running have crashed.
    ///
    /// A run's ending is recorded before its lock is released. So when a lock is free, the row read before says little:
    /// the run may have ended in between. It is read again, and only a row that still says running is a crash.
    async fn observed(
        &self,
        selection: &Selection<'_>,
        parts: Parts<'_>,
        observer: &Observer<'_>,
    ) -> Result<Vec<RunSummary>, StoreError> {
        let mut runs = self.recorded(selection, parts).await?;
        let suspects: Vec<RunId> = runs.iter().filter(|run| seems_dead(run, observer)).map(|run| run.id()).collect();
        for suspects in suspects.chunks(MAX_IDS) {
            let again = self.recorded(&Selection::Ids(suspects), parts).await?;
            let mut again: HashMap<RunId, RecordedRun> = again.into_iter().map(|run| (run.id(), run)).collect();
            for run in &mut runs {
                if let Some(mut again) = again.remove(&run.summary.id) {
                    if again.is_running() && silent(&again, observer) {
                        again.summary.state = ShownState::Crashed;
                    }
                    *run = again;
                }
            }
        }
        Ok(runs.into_iter().map(|run| run.summary).collect())
    }

    /// Reads runs as they are recorded, all from the same moment.
    async fn recorded(&self, selection: &Selection<'_>, parts: Parts<'_>) -> Result<Vec<RecordedRun>, StoreError> {
        let mut tx = self.pool.begin().await?;
        let mut runs = rows(&mut tx, selection).await?;
        let series = metrics::summaries(&mut tx, selection, parts).await?;
        let (mut params, tags) = match parts {
            Parts::All => (params::select(&mut tx, selection).await?, tags(&mut tx, selection).await?),
            Parts::Metrics(_) => (HashMap::new(), Vec::new()),
        };
        drop(tx);
        let mut places = HashMap::with_capacity(runs.len());
        for (place, run) in runs.iter_mut().enumerate() {
            let summary = &mut run.summary;
            summary.params = params.remove(summary.id.as_str()).unwrap_or_default();
            places.insert(summary.id.as_str().to_owned(), place);
        }
        for (run_id, name, series) in series {
            if let Some(&place) = places.get(&run_id) {
                runs[place].summary.metrics.insert(name, series);
            }
        }
        for (run_id, tag) in tags {
            if let Some(&place) = places.get(&run_id) {
                runs[place].summary.tags.push(tag);
            }
        }
        Ok(runs)
    }
}

/// What is read of each run besides its row.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Parts<'a> {
    All,
    Metrics(&'a [MetricKey]),
}

/// Which runs a query is about.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Selection<'a> {
    Filter(&'a RunFilter),
    Ids(&'a [RunId]),
}

impl Selection<'_> {
    /// Narrows a query down to the selected runs, by the column that holds their id.
    pub(crate) fn push_where(&self, query: &mut QueryBuilder<Sqlite>, column: &str) {
        if self.is_everything() {
            return;
        }
        query.push(" WHERE ").push(column).push(" IN (SELECT id FROM runs");
        match self {
            Self::Filter(filter) => push_filter(query, filter),
            Self::Ids(ids) => {
                query.push(" WHERE id IN (");
                let mut list = query.separated(", ");
                for id in *ids {
                    list.push_bind(id.as_str().to_owned());
                }
                query.push(")");
            }
        }
        query.push(")");
    }

    /// Ten thousand runs list in half the time when nothing is asked of each row.
    pub(crate) fn is_everything(&self) -> bool {
        matches!(self, Self::Filter(RunFilter { experiment: None, tag: None, limit: None }))
    }
}

fn push_filter(query: &mut QueryBuilder<Sqlite>, filter: &RunFilter) {
    query.push(" WHERE TRUE");
    if let Some(experiment) = &filter.experiment {
        query.push(" AND experiment = ").push_bind(experiment.clone());
    }
    if let Some(tag) = &filter.tag {
        query.push(" AND id IN (SELECT run_id FROM run_tags WHERE tag = ").push_bind(tag.clone()).push(")");
    }
    if let Some(limit) = filter.limit {
        query.push(" ORDER BY created_at_ms DESC, id DESC LIMIT ").push_bind(limit);
    }
}

/// A run as its row says, and the host that says it.
struct RecordedRun {
    summary: RunSummary,
    host: String,
}

impl RecordedRun {
    fn id(&self) -> RunId {
        self.summary.id.clone()
    }

    fn is_running(&self) -> bool {
        self.summary.state == ShownState::Recorded(State::Running)
    }
}

/// Whether a run is recorded as running and yet shows no sign of life.
fn seems_dead(run: &RecordedRun, observer: &Observer<'_>) -> bool {
    run.is_running() && silent(run, observer)
}

/// Whether nothing speaks for a running run: on this host its lock, elsewhere its heartbeat.
///
/// A lock that cannot be probed proves nothing, so the heartbeat decides there too.
fn silent(run: &RecordedRun, observer: &Observer<'_>) -> bool {
    let beat_is_old = observer.now_ms - run.summary.heartbeat_at_ms > HEARTBEAT_LIMIT_MS;
    if run.host != observer.this_host {
        return beat_is_old;
    }
    let run_dir = observer.runs_dir.join(run.summary.id.as_str());
    lock::is_held(&run_dir).map_or(beat_is_old, |held| !held)
}

#[derive(sqlx::FromRow)]
struct RunRow {
    id: String,
    name: String,
    experiment: String,
    state: String,
    host: String,
    created_at_ms: i64,
    ended_at_ms: Option<i64>,
    heartbeat_at_ms: i64,
    fingerprint: Option<String>,
    run_group: Option<String>,
    error_message: Option<String>,
    error_cause: Option<String>,
    error_place: Option<String>,
    engine: Option<String>,
}

async fn rows(tx: &mut Transaction<'_, Sqlite>, selection: &Selection<'_>) -> Result<Vec<RecordedRun>, StoreError> {
    let mut query = QueryBuilder::new(
        "SELECT id, name, experiment, state, host, created_at_ms, ended_at_ms, heartbeat_at_ms,
            fingerprint, run_group, error_message, error_cause, error_place,
            (SELECT value FROM run_environment WHERE run_id = runs.id AND run_environment.name = 'engine') AS engine
        FROM runs",
    );
    selection.push_where(&mut query, "id");
    query.push(" ORDER BY created_at_ms DESC, id DESC");
    let rows: Vec<RunRow> = query.build_query_as().fetch_all(&mut **tx).await?;
    rows.into_iter().map(recorded_run).collect()
}

fn recorded_run(row: RunRow) -> Result<RecordedRun, StoreError> {
    let state = state_from_text(&row.state, &row.id)?;
    let (cause, place) = (row.error_cause, row.error_place);
    let summary = RunSummary {
        id: RunId::from_stored(row.id),
        name: row.name,
        experiment: row.experiment,
        state: ShownState::Recorded(state),
        created_at_ms: row.created_at_ms,
        ended_at_ms: row.ended_at_ms,
        heartbeat_at_ms: row.heartbeat_at_ms,
        fingerprint: row.fingerprint,
        group: row.run_group,
        error: row.error_message.map(|message| RunError { message, cause, place }),
        engine: row.engine,
        params: Default::default(),
        metrics: Default::default(),
        tags: Vec::new(),
    };
    Ok(RecordedRun { summary, host: row.host })
}

async fn tags(
    tx: &mut Transaction<'_, Sqlite>,
    selection: &Selection<'_>,
) -> Result<Vec<(String, String)>, StoreError> {
    let mut query = QueryBuilder::new("SELECT run_id, tag FROM run_tags");
    selection.push_where(&mut query, "run_id");
    query.push(" ORDER BY tag");
    Ok(query.build_query_as().fetch_all(&mut **tx).await?)
}

#[cfg(test)]
mod tests;
