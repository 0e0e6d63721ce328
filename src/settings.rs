//! Facts of the machine: where things are kept and how much of it may be used. Flags win over the environment.

pub mod file_system;

use std::path::{Path, PathBuf};

use crate::run::id::RunId;

const MIB: u64 = 1 << 20;

/// What happened in a run, in its folder.
pub const RUN_LOG: &str = "log.jsonl";

/// Where a project's runs are: its `.xp` folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Home {
    pub path: PathBuf,
}

impl Home {
    /// The folder named by a flag or by `XP_HOME`, else the nearest `.xp` from the working directory upwards, else
    /// `.xp` in the working directory itself. It need not exist.
    pub fn find(named: Option<&Path>, working_dir: &Path) -> Self {
        if let Some(path) = named {
            return Self { path: working_dir.join(path) };
        }
        let existing = working_dir.ancestors().map(|folder| folder.join(".xp")).find(|path| path.is_dir());
        Self { path: existing.unwrap_or_else(|| working_dir.join(".xp")) }
    }

    pub fn database(&self) -> PathBuf {
        self.path.join("xp.db")
    }

    /// The folder of the runs' own folders.
    pub fn runs_dir(&self) -> PathBuf {
        self.path.join("runs")
    }

    /// The folder of what frozen layers gave for images.
    pub fn feature_cache_dir(&self) -> PathBuf {
        self.path.join("cache").join("features")
    }

    /// The folder of tensors that do not train, for all runs.
    pub fn objects_dir(&self) -> PathBuf {
        self.path.join("objects")
    }

    /// The folder of a sweep's lock and its trials' messages.
    pub fn sweep_dir(&self, id: &RunId) -> PathBuf {
        self.path.join("sweeps").join(id.as_str())
    }

    pub fn run_dir(&self, id: &RunId) -> PathBuf {
        self.runs_dir().join(id.as_str())
    }

    /// Run folders that no database tells about, because it is gone; 0 while there is one.
    ///
    /// A run's log is begun once its row is written, so a folder with one was in a database.
    pub fn n_lost_runs(&self) -> usize {
        if self.database().metadata().is_ok_and(|file| file.len() > 0) {
            return 0;
        }
        let folders = std::fs::read_dir(self.runs_dir()).into_iter().flatten().flatten();
        folders.filter(|folder| folder.path().join(RUN_LOG).is_file()).count()
    }
}

/// How much of the machine a run may use; none of it changes a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resources {
    /// Threads that read and decode images.
    pub loader_threads: usize,
    /// Decoded pixels kept in memory, bytes a split.
    pub pixel_budget_bytes: u64,
    /// Frozen layers' outputs kept in memory, bytes a split.
    pub feature_budget_bytes: u64,
}

impl Resources {
    /// All cores, or the number of threads asked for, and the default budgets.
    pub fn new(loader_threads: Option<usize>) -> Self {
        let cores = || std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            loader_threads: loader_threads.unwrap_or_else(cores),
            pixel_budget_bytes: 256 * MIB,
            feature_budget_bytes: 256 * MIB,
        }
    }
}

/// The user's folder of pretrained weights: `XP_WEIGHTS_DIR`, else `xp/weights` in the user's cache folder. It need not
/// exist.
pub fn weights_dir() -> PathBuf {
    named("XP_WEIGHTS_DIR").unwrap_or_else(|| user_cache_dir().join("weights"))
}

/// The user's folder of kernels that were compiled for a GPU: `xp/kernels` in the user's cache folder.
pub fn kernels_dir() -> PathBuf {
    user_cache_dir().join("kernels")
}

fn user_cache_dir() -> PathBuf {
    cache_dir_of(named("XDG_CACHE_HOME"), named("HOME").or_else(|| named("USERPROFILE")))
}

/// A path from the environment.
fn named(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}

/// A cache folder that is not absolute is ignored, as the XDG base directory specification asks.
fn cache_dir_of(cache: Option<PathBuf>, user: Option<PathBuf>) -> PathBuf {
    let cache = cache.filter(|cache| cache.is_absolute()).or_else(|| Some(user?.join(".cache")));
    cache.unwrap_or_else(std::env::temp_dir).join("xp")
}

/// This machine's name; runs of other hosts are judged by their heartbeat.
pub fn host() -> String {
    let from_kernel = std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
    let name = from_kernel.or_else(|| std::env::var("HOSTNAME").ok()).or_else(|| std::env::var("COMPUTERNAME").ok());
    name.map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()).unwrap_or_else(|| "unknown".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn caches_are_where_the_user_or_the_system_says() {
        let path = |text: &str| Some(PathBuf::from(text));
        for (cache, user, expected) in [
            (path("/c"), path("/u"), "/c/xp"),
            (path("c"), path("/u"), "/u/.cache/xp"),
            (None, path("/u"), "/u/.cache/xp"),
        ] {
            assert_eq!(cache_dir_of(cache, user), PathBuf::from(expected));
        }
    }

    #[test]
    fn the_home_is_the_nearest_one_above() {
        let folder = tempfile::tempdir().unwrap();
        let deep = folder.path().join("a/b");
        std::fs::create_dir_all(&deep).unwrap();
        assert_eq!(Home::find(None, &deep).path, deep.join(".xp"));
        std::fs::create_dir(folder.path().join(".xp")).unwrap();
        assert_eq!(Home::find(None, &deep).path, folder.path().join(".xp"));
        assert_eq!(Home::find(Some(Path::new("other")), &deep).path, deep.join("other"));
    }
}
