//! Kills at moments that are hard to hit by chance, and what earlier processes left behind.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use xp::store::connect::Store;

use crate::faults::{Going, goes_on_to_the_same_bytes, n_committed, state, until};
use crate::support::Place;

fn run_dir(place: &Place, run: &str) -> PathBuf {
    place.path(".xp/runs").join(place.json(&["show", run, "--json"])["id"].as_str().unwrap())
}

/// Kills a command as soon as something is there.
fn kill_once(place: &Place, arguments: &[&str], what: &str, holds: impl Fn() -> bool) {
    let mut child = place.command(arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    // It may be over before it was seen; that is no harm.
    until(what, || holds() || child.try_wait().unwrap().is_some());
    let _ = child.kill();
    child.wait().unwrap();
}

fn n_entries(folder: &Path) -> usize {
    fs::read_dir(folder).map_or(0, Iterator::count)
}

#[test]
fn while_the_first_database_is_made() {
    for (what, min_bytes) in
        [("runs", 0), ("xp.db.lock", 0), ("xp.db", 0), ("xp.db", 1), ("xp.db-wal", 1), ("xp.db-wal", 99_999)]
    {
        let place = Place::new();
        let path = place.path(".xp").join(what);
        kill_once(&place, &["run", "spec.yaml"], what, || path.metadata().is_ok_and(|file| file.len() >= min_bytes));
        let listed = place.xp(&["list"]);
        assert_eq!(listed.code, 0, "{what}: {}", listed.stderr);
        let ended = place.xp(&["run", "spec.yaml", "--name", "next"]);
        assert_eq!((ended.code, ended.stderr.as_str()), (0, ""), "{what}");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let store = runtime.block_on(Store::open_existing(&place.path(".xp/xp.db"))).unwrap().unwrap();
        assert_eq!(runtime.block_on(store.integrity_check()).unwrap(), [""; 0], "{what}");
    }
}

/// Leaves what processes leave that are killed at the wrong moment.
fn litter(run_dir: &Path, n_orphans: u32) {
    let checkpoints = run_dir.join("checkpoints");
    for epoch in 0..n_orphans {
        for name in [format!(".epoch-{:04}.partial", 5_000 + epoch), format!("epoch-{:04}", 5_000 + epoch)] {
            fs::create_dir(checkpoints.join(&name)).unwrap();
            fs::write(checkpoints.join(&name).join("trained.safetensors"), "half").unwrap();
        }
    }
    fs::write(run_dir.join("resolved.json.partial"), "half").unwrap();
}

#[test]
fn what_a_killed_process_left_is_swept() {
    let place = Place::new();
    Going::start(place.command(&["run", "spec.yaml", "--name", "littered", "--set", "epochs=100000"])).kill();
    let run_dir = run_dir(&place, "littered");
    litter(&run_dir, 1);
    // Locks are the system's: a file that is left holds nothing.
    assert!(run_dir.join("lock").is_file() && place.path(".xp/xp.db.lock").is_file());
    assert_eq!(state(&place, "littered"), "crashed");
    assert!(place.xp(&["show", "littered"]).stdout.contains("xp resume littered"));
    goes_on_to_the_same_bytes(&place, "littered");
    let kept = place.json(&["show", "littered", "--json"])["checkpoints"].as_array().unwrap().clone();
    let n_kept = kept.iter().filter(|checkpoint| checkpoint["deleted"] == false).count();
    assert_eq!(n_entries(&run_dir.join("checkpoints")), n_kept);
    assert!(!run_dir.join("resolved.json.partial").exists());
}

#[test]
fn while_a_resume_sweeps() {
    let place = Place::new();
    Going::start(place.command(&["run", "spec.yaml", "--name", "swept", "--set", "epochs=100000"])).kill();
    let n_before = n_committed(&place, "swept");
    let run_dir = run_dir(&place, "swept");
    litter(&run_dir, 400);
    let checkpoints = run_dir.join("checkpoints");
    let n_littered = n_entries(&checkpoints);
    kill_once(&place, &["resume", "swept"], "a sweep", || n_entries(&checkpoints) < n_littered);
    assert_eq!(state(&place, "swept"), "crashed");
    assert!(n_committed(&place, "swept") >= n_before);
    goes_on_to_the_same_bytes(&place, "swept");
}

#[test]
fn while_a_finished_run_is_extended() {
    let place = Place::new();
    assert_eq!(place.xp(&["run", "spec.yaml", "--name", "extended"]).code, 0);
    let before = place.json(&["show", "extended", "--json"]);
    let extending = place.command(&["resume", "extended", "--epochs", "100000"]);
    Going::start(extending).kill();
    assert_eq!(state(&place, "extended"), "crashed");
    let printed = place.xp(&["resume", "extended", "--epochs", &(n_committed(&place, "extended") + 1).to_string()]);
    assert_eq!(printed.code, 0, "{}", printed.stderr);
    // The test of the stretch that finished is still there, beside the one of the second.
    let after = place.json(&["show", "extended", "--json"]);
    assert_eq!((&before["metrics"]["test.loss"]["n"], &after["metrics"]["test.loss"]["n"]), (&1.into(), &2.into()));
    let events: Vec<&str> = after["events"].as_array().unwrap().iter().map(|e| e["state"].as_str().unwrap()).collect();
    assert_eq!(events, ["running", "finished", "running", "running", "finished"]);
}
