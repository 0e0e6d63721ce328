//! Runs that end in the middle: whenever that is, what readers are told is true and what was committed is there.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use xp::run::draw::{Address, Draws, Purpose};
use xp::run::metric::{Measure, MetricKey, Resolution, Split};
use xp::run::summary::{ShownState, State};
use xp::store::connect::Store;
use xp::store::list::{Observer, RunFilter};

use crate::support::{Place, check_files};

/// Longer than most kills wait: some runs end first, and those count too.
const LONGEST_WAIT_MS: u64 = 2_500;

fn spawn(command: &mut Command) -> Child {
    command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap()
}

fn signal(child: &Child, signal: &str) {
    let status = Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap();
    assert!(status.success());
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// The states that a reader in this process is shown.
fn states(store: &Store, home: &Path) -> Vec<ShownState> {
    let runs_dir = home.join("runs");
    let host = xp::settings::host();
    let now_ms = jiff::Timestamp::now().as_millisecond();
    let observer = Observer { runs_dir: &runs_dir, this_host: &host, now_ms };
    let runs = runtime().block_on(store.list_runs(&RunFilter::default(), &observer)).unwrap();
    runs.into_iter().map(|run| run.state).collect()
}

/// Kills a run after a while; meanwhile a reader looks all the time. Returns the epochs that the run said it finished.
fn kill_after(place: &Place, wait: Duration) -> usize {
    let home = place.path(".xp");
    let n_before = place.json(&["list", "--json"])["runs"].as_array().unwrap().len();
    let mut child = spawn(&mut place.command(&["run", "spec.yaml", "--set", "epochs=400"]));
    let stdout = child.stdout.take().unwrap();
    let lines = thread::spawn(move || {
        BufReader::new(stdout).lines().map_while(Result::ok).filter(|line| line.starts_with("epoch")).count()
    });
    let began = Instant::now();
    let mut store = None;
    while began.elapsed() < wait {
        store = store.or_else(|| runtime().block_on(Store::open_existing(&home.join("xp.db"))).unwrap());
        let Some(store) = &store else { continue };
        let shown = states(store, &home);
        // Asked after the states were read: a run that is alive now was alive then.
        if child.try_wait().unwrap().is_none() && shown.len() > n_before {
            let alive = [State::Running, State::Finished].map(ShownState::Recorded);
            assert!(alive.contains(&shown[0]), "a living run is shown as {}", shown[0]);
        }
    }
    child.kill().unwrap();
    child.wait().unwrap();
    lines.join().unwrap()
}

/// What must hold of a home after any number of kills.
fn check(place: &Place, n_epochs_said: usize) {
    let listed = place.json(&["list", "--json"]);
    let runs = listed["runs"].as_array().unwrap();
    for run in runs {
        let state = run["state"].as_str().unwrap();
        assert!(state == "crashed" || state == "finished", "{state}");
    }
    let runtime = runtime();
    let Some(store) = runtime.block_on(Store::open_existing(&place.path(".xp/xp.db"))).unwrap() else { return };
    assert_eq!(runtime.block_on(store.integrity_check()).unwrap(), [""; 0]);
    let Some(newest) = runs.first() else { return };
    let n_committed = newest["metrics"]["valid.loss"]["n"].as_u64().unwrap_or(0) as usize;
    // A kill before this run's row leaves an older run as the newest, which said its own lines.
    assert!(n_committed >= n_epochs_said, "{n_epochs_said} epochs were reported, {n_committed} are there");
    check_epochs(place, &store, newest, n_committed);
}

/// Every committed epoch has its points and its checkpoint, whole unless it was given up for a newer one.
fn check_epochs(place: &Place, store: &Store, run: &Value, n_committed: usize) {
    let shown = place.json(&["show", run["id"].as_str().unwrap(), "--json"]);
    let checkpoints = shown["checkpoints"].as_array().unwrap();
    assert_eq!(checkpoints.len(), n_committed);
    let run_dir = place.path(".xp/runs").join(run["id"].as_str().unwrap());
    for checkpoint in checkpoints.iter().filter(|checkpoint| checkpoint["deleted"] == false) {
        check_files(&run_dir, checkpoint, checkpoint["epoch"] == checkpoints.last().unwrap()["epoch"]);
    }
    let id = runtime().block_on(store.find_run(run["id"].as_str().unwrap())).unwrap();
    for (split, measure) in [(Split::Train, Measure::Loss), (Split::Valid, Measure::Accuracy)] {
        let key = MetricKey::new(split, measure);
        let points = runtime().block_on(store.points(&id, key, Resolution::Epoch)).unwrap();
        let epochs: Vec<u32> = points.iter().map(|point| point.epoch).collect();
        assert_eq!(epochs, (1..=n_committed as u32).collect::<Vec<_>>());
    }
}

fn kill_many(n_kills: u64) {
    let place = Place::new();
    for i in 0..n_kills {
        let at = Address { seed: 20_261_124, epoch: 0, sample: i, purpose: Purpose::Order, name: "kill" };
        let wait = Duration::from_millis(Draws::at(at).below(LONGEST_WAIT_MS));
        let n_epochs_said = kill_after(&place, wait);
        check(&place, n_epochs_said);
    }
    let listed = place.json(&["list", "--json"]);
    assert!(!listed["runs"].as_array().unwrap().is_empty(), "no kill came late enough to find a run");
}

#[test]
fn ten_kills_leave_true_states_and_every_committed_epoch() {
    kill_many(10);
}

#[test]
#[ignore = "takes minutes; the same as ten kills"]
fn a_hundred_kills_leave_true_states_and_every_committed_epoch() {
    kill_many(100);
}

#[test]
fn an_interrupt_stops_the_run_and_keeps_its_epochs() {
    // Ctrl-C, a polite kill, and a terminal that was closed.
    for ask in ["-INT", "-TERM", "-HUP"] {
        stops_when_asked(ask);
    }
}

fn stops_when_asked(ask: &str) {
    let place = Place::new();
    let mut child = spawn(&mut place.command(&["run", "spec.yaml", "--set", "epochs=100000", "--name", "asked"]));
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    assert!(lines.by_ref().any(|line| line.starts_with("epoch")), "no epoch was reported");
    signal(&child, ask);
    let n_epochs = 1 + lines.filter(|line| line.starts_with("epoch")).count();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    let shown = place.json(&["show", "asked", "--json"]);
    assert_eq!(shown["state"], "stopped");
    assert_eq!(shown["metrics"]["valid.loss"]["n"], n_epochs as u64);
    assert_eq!(shown["warnings"], serde_json::json!([]));
    let run_dir = place.path(".xp/runs").join(shown["id"].as_str().unwrap());
    let partial = fs::read_dir(run_dir.join("checkpoints"))
        .unwrap()
        .filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().ends_with(".partial"));
    assert_eq!(partial.count(), 0);
    assert_eq!(place.xp(&["evaluate", "asked"]).code, 0);
}

#[test]
fn a_store_that_fails_stops_the_run_with_a_clear_error() {
    let place = Place::new();
    let mut child = place
        .command(&["run", "spec.yaml", "--set", "epochs=100000"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    assert!(lines.by_ref().any(|line| line.starts_with("epoch")), "no epoch was reported");
    // Someone drops a table under the run: from here on no epoch can be committed.
    let dropped = runtime().block_on(async {
        let options = sqlx::sqlite::SqliteConnectOptions::new().filename(place.path(".xp/xp.db"));
        let pool = sqlx::SqlitePool::connect_with(options.busy_timeout(Duration::from_secs(60))).await?;
        sqlx::query("DROP TABLE point_blocks").execute(&pool).await
    });
    dropped.unwrap();
    drop(lines);
    let ended = crate::support::printed(&child.wait_with_output().unwrap());
    assert_eq!(ended.code, 1);
    assert!(ended.stderr.contains("point_blocks"), "{}", ended.stderr);
}

#[test]
fn two_runs_at_once_are_both_recorded() {
    let place = Place::new();
    let children: Vec<Child> = (0..3).map(|_| spawn(&mut place.command(&["run", "spec.yaml"]))).collect();
    for child in children {
        assert!(child.wait_with_output().unwrap().status.success());
    }
    let listed = place.json(&["list", "--json"]);
    let runs = listed["runs"].as_array().unwrap();
    assert_eq!(runs.len(), 3);
    for run in runs {
        assert_eq!(run["state"], "finished");
        assert_eq!(run["metrics"], runs[0]["metrics"]);
        assert_eq!(run["fingerprint"], runs[0]["fingerprint"]);
    }
}
