//! What every command that looks at runs needs: the home folder, the store and a clock.

use std::future::Future;
use std::path::{Path, PathBuf};

use tokio::runtime::Runtime;

use crate::cli::failure::Failure;
use crate::cli::sweep::chosen;
use crate::run::id::RunId;
use crate::run::metric::MetricKey;
use crate::run::summary::RunSummary;
use crate::settings::file_system::network_type;
use crate::settings::{Home, host};
use crate::store::StoreError;
use crate::store::connect::Store;
use crate::store::list::{Observer, RunFilter};

/// Where a command works.
pub(crate) struct Context {
    pub home: Home,
    /// Whether the home was asked for, and not just looked for.
    named: bool,
    runs_dir: PathBuf,
    host: String,
    runtime: Runtime,
}

impl Context {
    pub fn new(home: Option<&Path>) -> Result<Self, Failure> {
        let working_dir = match (std::env::current_dir(), home) {
            (Ok(folder), _) => folder,
            (Err(_), Some(home)) if home.is_absolute() => PathBuf::new(),
            (Err(error), _) => {
                return Err(Failure::Usage {
                    what: format!("failed to find the working directory: {error}"),
                    hint: "change into a folder that is there, or name the home's absolute path with `--home`".into(),
                });
            }
        };
        let named = home.is_some();
        let home = Home::find(home, &working_dir);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|source| Failure::Io { what: "start".into(), source })?;
        Ok(Self { runs_dir: home.runs_dir(), named, home, host: host(), runtime })
    }

    pub fn wait<F: Future>(&self, future: F) -> F::Output {
        self.runtime.block_on(future)
    }

    pub fn observer(&self) -> Observer<'_> {
        Observer { runs_dir: &self.runs_dir, this_host: &self.host, now_ms: jiff::Timestamp::now().as_millisecond() }
    }

    /// What the user should know of the home before a run begins.
    pub fn warnings(&self) -> Vec<String> {
        let n_lost = self.home.n_lost_runs();
        let database = self.home.database();
        let lost = (n_lost > 0).then(|| {
            format!(
                "{} was missing: a new one was made, without the {n_lost} runs whose folders are there",
                database.display()
            )
        });
        self.network_warning().into_iter().chain(lost).collect()
    }

    /// Whether the home lies where another machine may write to it too.
    pub fn network_warning(&self) -> Option<String> {
        let name = network_type(&self.home.path)?;
        Some(format!(
            "{} lies on {name}, a network file system, where SQLite's locks may not hold: runs of two machines could \
            damage the database; `--home` or XP_HOME names a folder on a local disk",
            self.home.path.display()
        ))
    }

    /// The store, or `None` where nothing was ever run; a home that was asked for must be there.
    pub fn existing_store(&self) -> Result<Option<Store>, Failure> {
        match self.wait(Store::open_existing(&self.home.database()))? {
            None if self.home.n_lost_runs() > 0 => {
                Err(Failure::DatabaseGone { database: self.home.database(), n_runs: self.home.n_lost_runs() })
            }
            None if self.named => Err(Failure::NotThere {
                what: format!("{} holds no runs", self.home.path.display()),
                hint: "`--home` and XP_HOME name the `.xp` folder itself".to_owned(),
            }),
            store => Ok(store),
        }
    }

    /// The store and the run that `query` means in it; a sweep's name means a run of the point that it chose.
    pub fn find_run(&self, query: &str) -> Result<(Store, RunId), Failure> {
        let not_found = || StoreError::NotFound { query: query.to_owned() };
        let store = self.existing_store()?.ok_or_else(not_found)?;
        let found = self.wait(store.find_run(query));
        let sweep = self.wait(store.sweep_called(query))?;
        match (found, sweep) {
            (found, None) => Ok((store, found?)),
            // The sweep's name is the beginning of the names of its runs, which are not meant.
            (found, Some(sweep)) => match found.ok().filter(|id| self.is_exactly(&store, id, query)) {
                Some(id) => Ok((store, id)),
                None => Ok((store, chosen::run(self, &sweep)?)),
            },
        }
    }

    /// Whether a query is the whole name or id of a run.
    fn is_exactly(&self, store: &Store, id: &RunId, query: &str) -> bool {
        let run = self.wait(store.run_summary(id, &self.observer()));
        run.is_ok_and(|run| run.name == query || run.id.as_str().eq_ignore_ascii_case(query))
    }

    /// The run that has exactly this name, if any has.
    pub fn run_called(&self, name: &str) -> Result<Option<RunId>, Failure> {
        let Some(store) = self.wait(Store::open_existing(&self.home.database()))? else { return Ok(None) };
        let Ok(id) = self.wait(store.find_run(name)) else { return Ok(None) };
        let run = self.wait(store.run_detail(&id, &self.observer()))?;
        Ok((run.summary.name == name).then_some(id))
    }

    /// Runs, newest first; none where nothing was ever run.
    pub fn list_runs(&self, filter: &RunFilter) -> Result<Vec<RunSummary>, Failure> {
        match self.existing_store()? {
            Some(store) => Ok(self.wait(store.list_runs(filter, &self.observer()))?),
            None => Ok(Vec::new()),
        }
    }

    /// Runs, newest first, with these metrics alone.
    pub fn list_results(&self, filter: &RunFilter, metrics: &[MetricKey]) -> Result<Vec<RunSummary>, Failure> {
        match self.existing_store()? {
            Some(store) => Ok(self.wait(store.list_results(filter, metrics, &self.observer()))?),
            None => Ok(Vec::new()),
        }
    }
}
