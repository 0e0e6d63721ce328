//! `xp sweep` end to end: grids, ASHA, TPE, kills, and what is not done twice.

use std::collections::BTreeSet;
use std::fs;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::{Place, SPEC, write_image};

/// Longer than any sweep here takes.
const PATIENCE: Duration = Duration::from_secs(120);

/// A spec with a section that tries two learning rates with two seeds.
fn place(section: &str) -> Place {
    let place = Place::new();
    fs::write(place.path("sweep.yaml"), format!("{SPEC}\nsweep:\n  metric: valid.loss\n{section}")).unwrap();
    place
}

const GRID: &str = "  parameters:\n    optimizer.adam.learning_rate: { values: [0.1, 0.01] }\n    epochs: { values: [2] }\n  seeds: [1, 2]\n";

fn shown(place: &Place) -> Value {
    place.json(&["sweep", "show", "--json"])
}

fn trials(shown: &Value) -> &[Value] {
    shown["trials"].as_array().unwrap()
}

/// Every trial is finished and a run of its own, and each point has each seed once.
fn assert_every_point_once(shown: &Value, n_trials: usize) {
    assert_eq!(trials(shown).len(), n_trials, "{shown:#}");
    assert!(trials(shown).iter().all(|trial| trial["state"] == "finished"), "{shown:#}");
    let runs: BTreeSet<&str> = trials(shown).iter().map(|trial| trial["run"].as_str().unwrap()).collect();
    let places: BTreeSet<String> =
        trials(shown).iter().map(|trial| format!("{} {}", trial["values"], trial["seed"])).collect();
    assert_eq!((runs.len(), places.len()), (n_trials, n_trials), "{shown:#}");
}

#[test]
fn a_grid_is_planned_run_ranked_and_not_done_twice() {
    let place = place(GRID);
    let planned = place.xp(&["sweep", "sweep.yaml", "--dry-run"]);
    assert_eq!(planned.code, 0, "{}", planned.stderr);
    for line in ["epochs=2 learning_rate=0.1\n", "epochs=2 learning_rate=0.01\n", "2 points × 2 seeds = 4 trials"] {
        assert!(planned.stdout.contains(line), "{}", planned.stdout);
    }
    assert!(!place.path(".xp/xp.db").exists());
    let done = place.xp(&["sweep", "sweep.yaml", "--name", "rates", "--jobs", "2"]);
    assert_eq!(done.code, 0, "{}{}", done.stdout, done.stderr);
    assert!(done.stdout.contains("rates (") && done.stdout.contains("trials: 4 finished"), "{}", done.stdout);
    assert_every_point_once(&shown(&place), 4);
    // The test images are looked at for the chosen point alone, and once.
    assert!(done.stdout.contains("its test.loss, looked at once: "), "{}", done.stdout);
    let chosen = &shown(&place)["ranking"]["chosen"];
    assert_eq!((chosen["test"].as_array().unwrap().len(), &chosen["looks"]["total"]), (2, &Value::from(1)), "{chosen}");
    let is_tested = |run: &Value| run["metrics"].get("test.loss").is_some();
    let names = |runs: &Value| -> BTreeSet<String> {
        runs.as_array().unwrap().iter().map(|run| run["name"].as_str().unwrap().to_owned()).collect()
    };
    let listed = place.json(&["list", "--json"]);
    let tested: Vec<Value> = listed["runs"].as_array().unwrap().iter().filter(|run| is_tested(run)).cloned().collect();
    let of_chosen: BTreeSet<String> =
        chosen["runs"].as_array().unwrap().iter().map(|name| name.as_str().unwrap().to_owned()).collect();
    assert_eq!(names(&Value::from(tested)), of_chosen);
    images_and_seeds_are_what_is_tested(&place);
    // Its runs are runs as any others.
    let listed = place.json(&["list", "--tag", "rates", "--json"]);
    assert_eq!(listed["runs"].as_array().unwrap().len(), 4);
    let again = place.xp(&["sweep", "resume", "rates"]);
    assert_eq!(
        (again.code, place.json(&["list", "--json"])["runs"].as_array().unwrap().len()),
        (0, 4),
        "{}",
        again.stderr
    );
    // A point more: what was done stands for its trials.
    let more = place.xp(&[
        "sweep",
        "sweep.yaml",
        "--needed",
        "--name",
        "more",
        "--set",
        "sweep.parameters={ optimizer.adam.learning_rate: { values: [0.1, 0.05] }, epochs: { values: [2] } }",
    ]);
    assert_eq!(more.code, 0, "{}{}", more.stdout, more.stderr);
    let shown = place.json(&["sweep", "show", "more", "--json"]);
    let reused = trials(&shown).iter().filter(|trial| trial["reused"] == true).count();
    assert_eq!((reused, place.json(&["list", "--json"])["runs"].as_array().unwrap().len()), (2, 6), "{shown:#}");
    assert_eq!(place.json(&["sweep", "list", "--json"])["sweeps"].as_array().unwrap().len(), 2);
}

/// The valid images were recorded by every run; without one of the records the seeds are left.
fn images_and_seeds_are_what_is_tested(place: &Place) {
    let ranking = &shown(place)["ranking"];
    let test = &ranking["test"];
    assert_eq!((&test["kind"], &test["n_images"], &test["n_seeds"]), (&"bootstrap".into(), &8.into(), &2.into()));
    assert_eq!(ranking["chosen"]["runs"].as_array().unwrap().len(), 2);
    let row = &ranking["rows"][1];
    assert!(row["interval"][0].as_f64() <= row["behind"].as_f64(), "{row:#}");
    assert!(row["interval"][1].as_f64() >= row["behind"].as_f64(), "{row:#}");
    assert_eq!((&row["replicates"][0]["n_train"], &row["replicates"][0]["n_valid"]), (&12.into(), &8.into()));
    let text = place.xp(&["sweep", "show", "rates"]).stdout;
    assert!(text.contains("(bootstrap over 8 validation images × 2 seeds, one split,"), "{text}");
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    let run = trials(&shown(place))[0]["run"].as_str().unwrap().to_owned();
    let path = place.path(".xp/runs").join(run).join("predictions-valid.safetensors");
    let bytes = fs::read(&path).unwrap();
    let mut changed = bytes.clone();
    *changed.last_mut().unwrap() ^= 1;
    for damage in [Some(&changed[..]), Some(&bytes[..9]), None] {
        match damage {
            Some(bytes) => fs::write(&path, bytes).unwrap(),
            None => fs::remove_file(&path).unwrap(),
        }
        let ranking = &shown(place)["ranking"];
        assert_eq!(ranking["test"]["kind"], "paired_t");
        let verdict = ranking["verdict"].as_str().unwrap();
        assert!(verdict.contains("seeds alone, one split, since not every run has a record"), "{verdict}");
    }
    fs::write(&path, bytes).unwrap();
}

#[test]
fn asha_trains_the_better_points_for_longer_and_exactly() {
    let section = "  method: random\n  trials: 4\n  asha: { min_epochs: 1, reduction_factor: 2 }\n  parameters:\n    optimizer.adam.learning_rate: { min: 1.0e-5, max: 0.1, log: true }\n";
    let place = place(section);
    let done = place.xp(&["sweep", "sweep.yaml", "--set", "epochs=4", "--jobs", "1"]);
    assert_eq!(done.code, 0, "{}{}", done.stdout, done.stderr);
    let shown = shown(&place);
    let epochs: Vec<u64> = trials(&shown).iter().map(|trial| trial["epochs"].as_u64().unwrap()).collect();
    assert!(epochs.iter().all(|epochs| [1, 2, 4].contains(epochs)), "{shown:#}");
    assert!(epochs.contains(&1) && epochs.contains(&4) && epochs.iter().sum::<u64>() < 16, "{shown:#}");
    let finished = trials(&shown).iter().find(|trial| trial["state"] == "finished").unwrap();
    // Stopping at rungs changes nothing.
    let rate = &finished["values"]["optimizer.adam.learning_rate"];
    let whole = place.xp(&[
        "run",
        "sweep.yaml",
        "--name",
        "whole",
        "--set",
        "epochs=4",
        "--set",
        &format!("optimizer.adam.learning_rate={rate}"),
        "--set",
        &format!("seed={}", finished["seed"]),
    ]);
    assert_eq!(whole.code, 0, "{}", whole.stderr);
    let hash = |run: &str| place.json(&["show", run, "--json"])["trained"]["trained_hash"].clone();
    assert_eq!(hash("whole"), hash(finished["run"].as_str().unwrap()));
    assert!(hash("whole").is_string());
}

/// The frozen layers run once for all depths, and every trial ends with the bytes of a run that shares nothing.
#[test]
fn depths_share_the_frozen_layers() {
    let place = place("  parameters:\n    model.frozen_layers: { values: [{ stages: 5 }, { stages: 7 }, all] }\n");
    let done = place.xp(&["sweep", "sweep.yaml", "--set", "epochs=1"]);
    assert_eq!(done.code, 0, "{}{}", done.stdout, done.stderr);
    let shown = shown(&place);
    assert_every_point_once(&shown, 3);
    let kept = place.json(&["cache", "list", "--json"]);
    let rows = |entry: &Value| entry["n_rows"].as_u64().unwrap();
    let kept: Vec<u64> = kept["entries"].as_array().unwrap().iter().map(rows).collect();
    assert_eq!(kept, [28; 3], "12 train, 8 valid and 8 test images at three depths");
    for trial in trials(&shown) {
        let frozen = format!("model.frozen_layers={}", trial["values"]["model.frozen_layers"]);
        let alone = ["--set", "cache.enabled=false", "--set", "epochs=1", "--set", &frozen];
        let alone = place.xp(&[&["run", "sweep.yaml", "--json"][..], &alone].concat());
        assert_eq!(alone.code, 0, "{}", alone.stderr);
        let alone: Value = serde_json::from_str(&alone.stdout).unwrap();
        let shared = place.json(&["show", trial["run"].as_str().unwrap(), "--json"]);
        assert!(alone["trained"]["trained_hash"].is_string());
        assert_eq!(alone["trained"]["trained_hash"], shared["trained"]["trained_hash"], "{frozen}");
    }
}

#[test]
fn tpe_tries_as_many_points_as_it_may() {
    let section = "  method: tpe\n  trials: 10\n  parameters:\n    optimizer.adam.learning_rate: { min: 1.0e-5, max: 0.1, log: true }\n    optimizer.adam.beta_1: { min: 0.5, max: 0.95 }\n";
    let place = place(section);
    let done = place.xp(&["sweep", "sweep.yaml", "--set", "epochs=1"]);
    assert_eq!(done.code, 0, "{}{}", done.stdout, done.stderr);
    assert_every_point_once(&shown(&place), 10);
}

#[test]
fn a_sweep_file_of_wandb_runs_as_it_is() {
    let place = Place::new();
    let text = "\
program: train.py
method: random
metric: { name: val_accuracy, goal: maximize }
run_cap: 3
parameters:
  lr: { distribution: log_uniform_values, min: 1.0e-4, max: 1.0e-2 }
  epochs: { value: 1 }
";
    fs::write(place.path("wandb.yaml"), text).unwrap();
    let arguments = ["sweep", "spec.yaml", "--wandb", "wandb.yaml"];
    let refused = place.xp(&arguments);
    assert!(refused.code == 2 && refused.stderr.contains("wandb.yaml:6:3"), "{}", refused.stderr);
    assert!(refused.stderr.contains("--map lr=optimizer."), "{}", refused.stderr);
    let done = place.xp(&[&arguments[..], &["--map", "lr=optimizer.adam.learning_rate"]].concat());
    assert_eq!(done.code, 0, "{}{}", done.stdout, done.stderr);
    assert!(done.stderr.contains("note: `program` is ignored"), "{}", done.stderr);
    assert_every_point_once(&shown(&place), 3);
}

#[test]
fn a_trial_that_fails_is_named_and_the_others_go_on() {
    let place = place("  parameters:\n    data.train: { values: [data/broken, data/train] }\n");
    write_image(&place.path("data/broken/blue/0.png"), [1, 2, 3], 40);
    fs::create_dir_all(place.path("data/broken/red")).unwrap();
    fs::write(place.path("data/broken/red/0.png"), b"no image").unwrap();
    let done = place.xp(&["sweep", "sweep.yaml"]);
    assert_eq!(done.code, 1, "{}{}", done.stdout, done.stderr);
    assert!(done.stderr.contains("1 trial of the sweep") && done.stderr.contains("--retry-failed"), "{}", done.stderr);
    assert!(done.stdout.contains("train=data/broken seed=7 failed: "), "{}", done.stdout);
    let states = |place: &Place| -> Vec<String> {
        trials(&shown(place)).iter().map(|trial| trial["state"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(states(&place), ["failed", "finished"]);
    assert_eq!(place.xp(&["sweep", "resume", "@1"]).code, 1);
    write_image(&place.path("data/broken/red/0.png"), [200, 2, 3], 41);
    let again = place.xp(&["sweep", "resume", "@1", "--retry-failed"]);
    assert_eq!(again.code, 0, "{}{}", again.stdout, again.stderr);
    assert_eq!(states(&place), ["finished", "finished"]);
}

#[test]
fn what_cannot_be_tried_is_said_before_anything_runs() {
    for (section, says) in [
        (
            "  parameters: { optimizer.adam.learning_rate: { min: 0.1, max: 0.2 } }\n",
            "a grid needs values that can be counted",
        ),
        ("  method: tpe\n  parameters: { epochs: { values: [1] } }\n", "says how many points to draw"),
        ("  parameters: { epochs: { values: [1, 0] } }\n", "0 is lower than 1"),
        ("  parameters: { epoch: { values: [1] } }\n", "did you mean `epochs`?"),
    ] {
        let place = place(section);
        let refused = place.xp(&["sweep", "sweep.yaml"]);
        assert_eq!(refused.code, 2, "{section}: {}", refused.stderr);
        assert!(refused.stderr.contains(says), "{section}: {}", refused.stderr);
        assert!(!place.path(".xp/xp.db").exists(), "{section}");
    }
    let place = Place::new();
    let refused = place.xp(&["sweep", "spec.yaml"]);
    assert!(refused.code == 2 && refused.stderr.contains("no `sweep:` section"), "{}", refused.stderr);
    for arguments in [["sweep", "resume", "x"], ["sweep", "show", "x"]] {
        assert_eq!(place.xp(&arguments).code, 3);
    }
}

fn begin(place: &Place, arguments: &[&str]) -> Child {
    let mut command = Command::new(assert_cmd::cargo::cargo_bin("xp"));
    command.args(arguments).current_dir(place.folder.path()).env_remove("XP_HOME");
    command.stdout(Stdio::null()).stderr(Stdio::null()).stdin(Stdio::null()).spawn().unwrap()
}

/// Looks until something holds.
fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < PATIENCE, "{what} did not happen");
        thread::yield_now();
    }
}

/// Epochs that were committed in all trials.
fn n_epochs(place: &Place) -> u64 {
    let shown = place.xp(&["sweep", "show", "--json"]);
    let Ok(shown) = serde_json::from_str::<Value>(&shown.stdout) else { return 0 };
    trials(&shown).iter().map(|trial| trial["epochs"].as_u64().unwrap()).sum()
}

/// Kills the driver, a trial or both once some epochs are done, goes on, and counts the points.
fn kills(n_kills: u64) {
    let section = "  parameters:\n    optimizer.adam.learning_rate: { values: [0.1, 0.03, 0.01] }\n  seeds: [1, 2]\n";
    let place = place(section);
    let whole = 6 * 4;
    for kill in 0..n_kills {
        let arguments: &[&str] = if kill == 0 {
            &["sweep", "sweep.yaml", "--set", "epochs=4", "--jobs", "2"]
        } else {
            &["sweep", "resume", "@1", "--jobs", "2"]
        };
        let mut driver = begin(&place, arguments);
        let wanted = (whole * (kill + 1) / (n_kills + 1)).min(whole - 1);
        until("an epoch", || n_epochs(&place) >= wanted || driver.try_wait().unwrap().is_some());
        if kill % 3 > 0 {
            kill_a_trial(&place);
        }
        if kill % 3 != 1 {
            driver.kill().unwrap();
        }
        if kill % 3 == 1 {
            // The driver starts the trial again by itself.
            until("another epoch", || n_epochs(&place) > wanted || driver.try_wait().unwrap().is_some());
            driver.kill().unwrap();
        }
        driver.wait().unwrap();
    }
    let done = place.xp(&["sweep", "resume", "@1", "--jobs", "2"]);
    assert_eq!(done.code, 0, "{}{}", done.stdout, done.stderr);
    let shown = shown(&place);
    assert_every_point_once(&shown, 6);
    assert_eq!(place.json(&["list", "--json"])["runs"].as_array().unwrap().len(), 6);
    // What was interrupted came out as what was not.
    let last = trials(&shown).last().unwrap();
    let rate = format!("optimizer.adam.learning_rate={}", last["values"]["optimizer.adam.learning_rate"]);
    let seed = format!("seed={}", last["seed"]);
    let whole =
        place.xp(&["run", "sweep.yaml", "--name", "whole", "--set", "epochs=4", "--set", &rate, "--set", &seed]);
    assert_eq!(whole.code, 0, "{}", whole.stderr);
    let hash = |run: &str| place.json(&["show", run, "--json"])["trained"]["trained_hash"].clone();
    assert_eq!(hash("whole"), hash(last["run"].as_str().unwrap()));
}

/// Kills the process of a trial that runs, if one does.
fn kill_a_trial(place: &Place) {
    let shown = shown(place);
    let Some(trial) = trials(&shown).iter().find(|trial| trial["state"] == "running") else { return };
    let run = place.json(&["show", trial["run"].as_str().unwrap(), "--json"]);
    let pid = run["pid"].as_u64().unwrap().to_string();
    // It may have ended meanwhile.
    let _ = Command::new("kill").args(["-9", &pid]).stderr(Stdio::null()).status().unwrap();
}

#[test]
fn five_kills_end_with_every_point_once() {
    kills(5);
}

#[test]
#[ignore = "twenty kills take minutes; five of them run always"]
fn twenty_kills_end_with_every_point_once() {
    kills(20);
}

#[test]
fn a_second_driver_is_refused() {
    let place = place(GRID);
    let mut first = begin(&place, &["sweep", "sweep.yaml", "--set", "sweep.parameters.epochs.values=[1000]"]);
    until("an epoch", || n_epochs(&place) > 0);
    let second = place.xp(&["sweep", "resume", "@1"]);
    assert_eq!(second.code, 1, "{}", second.stderr);
    assert!(second.stderr.contains("another process is writing"), "{}", second.stderr);
    first.kill().unwrap();
    first.wait().unwrap();
    // Its trials end by themselves.
    until("the end of the trials", || trials(&shown(&place)).iter().all(|trial| trial["state"] != "running"));
}
