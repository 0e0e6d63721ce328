//! `xp resume`: a run that was killed and resumed ends as one that was not, to the byte.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use xp::run::draw::{Address, Draws, Purpose};

use crate::support::{Place, check_files};

/// Draws everything that can be drawn: flips, dropout, batch statistics, and an optimizer with a memory.
fn place() -> Place {
    let place = Place::new();
    place.edit("frozen_layers: all", "frozen_layers: { stages: 8 }\n  batch_norm: train");
    place.edit(
        "epochs: 2",
        "epochs: 12\naugment: { horizontal_flip: true, rotation_degrees: 15, zoom: 0.2, brightness: 0.2 }",
    );
    place
}

/// What must be the same: tensors, metrics with their epochs, and the images.
fn result(place: &Place, run: &str) -> [Value; 4] {
    let shown = place.json(&["show", run, "--json"]);
    assert_eq!(shown["state"], "finished");
    ["trained", "metrics", "data", "fingerprint"].map(|key| shown[key].clone())
}

/// Starts or resumes a run and kills it after a while, or when it has ended.
fn kill_after(place: &Place, arguments: &[&str], wait: Duration) {
    let mut child = place.command(arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    std::thread::sleep(wait);
    child.kill().unwrap();
    child.wait().unwrap();
}

/// Nothing changes from epoch to epoch in front of the frozen layers, so that what they give is kept on disk.
fn cached_place() -> Place {
    let place = Place::new();
    place.edit("frozen_layers: all", "frozen_layers: { stages: 8 }\n  batch_norm: train");
    place.edit("epochs: 2", "epochs: 12");
    place
}

/// Kills runs of a place at random times until each gets through. Each begins with an empty cache, so that kills also
/// come while it is written.
fn kill_and_resume(place: &Place, n_kills: u64, longest_wait_ms: u64) {
    place.edit("epochs: 12", "epochs: 12\nschedule: { cosine: { warmup_epochs: 1 } }");
    assert_eq!(place.xp(&["run", "spec.yaml", "--name", "whole"]).code, 0);
    let wait = |i: u64| {
        let at = Address { seed: 20_261_125, epoch: 0, sample: i, purpose: Purpose::Order, name: "resume" };
        Duration::from_millis(Draws::at(at).below(longest_wait_ms))
    };
    let mut n_resumed = 0;
    let mut names: Vec<String> = Vec::new();
    for i in 0..n_kills {
        let name = format!("killed{i}");
        let unfinished = names.last().filter(|name| place.json(&["show", name, "--json"])["state"] == "crashed");
        match unfinished {
            // The same run is killed again and again until it gets through.
            Some(name) => {
                n_resumed += 1;
                kill_after(place, &["resume", &name.clone()], wait(i));
            }
            None => {
                let _ = fs::remove_dir_all(place.path(".xp/cache"));
                kill_after(place, &["run", "spec.yaml", "--name", &name], wait(i));
                names.extend(Some(name).filter(|name| place.xp(&["show", name]).code == 0));
            }
        }
    }
    assert!(n_resumed > 0, "no kill came while a run was going");
    for name in &names {
        if place.json(&["show", name, "--json"])["state"] == "crashed" {
            let printed = place.xp(&["resume", name]);
            assert_eq!(printed.code, 0, "{}", printed.stderr);
        }
        assert_eq!(result(place, name), result(place, "whole"), "{name}");
    }
}

#[test]
fn ten_kills_and_resumes_end_with_the_bytes_of_an_uninterrupted_run() {
    kill_and_resume(&place(), 10, 1_500);
}

#[test]
fn ten_kills_and_resumes_with_a_cache_end_with_the_bytes_of_an_uninterrupted_run() {
    kill_and_resume(&cached_place(), 10, 1_000);
}

/// Layers come free after the third epoch and after the seventh.
#[test]
fn ten_kills_and_resumes_of_a_plan_end_with_the_bytes_of_an_uninterrupted_run() {
    let place = place();
    let steps = "[{ epochs: 3, frozen_layers: all }, { epochs: 4, learning_rate: { head: 1e-3, conv_head: 1e-4 } }, \
                 { epochs: 5, frozen_layers: { stages: 7 }, learning_rate: 1e-4 }]";
    place.edit("epochs: 12", &format!("plan: {steps}\nepochs: 12"));
    kill_and_resume(&place, 10, 2_500);
}

#[test]
#[ignore = "takes minutes; the same as ten"]
fn a_hundred_kills_and_resumes_end_with_the_bytes_of_an_uninterrupted_run() {
    kill_and_resume(&place(), 100, 1_500);
    kill_and_resume(&cached_place(), 100, 1_000);
}

#[test]
fn a_stopped_run_goes_on_and_a_finished_one_can_be_extended() {
    let place = place();
    assert_eq!(place.xp(&["run", "spec.yaml", "--name", "whole"]).code, 0);
    let short = place.xp(&["run", "spec.yaml", "--name", "short", "--set", "epochs=5"]);
    assert_eq!(short.code, 0, "{}", short.stderr);
    let again = place.xp(&["resume", "short"]);
    assert_eq!(again.code, 2);
    assert!(again.stderr.contains("--epochs 6"), "{}", again.stderr);
    assert_eq!(place.xp(&["resume", "short", "--epochs", "3"]).code, 2);

    let extended = place.xp(&["resume", "short", "--epochs", "12"]);
    assert_eq!(extended.code, 0, "{}", extended.stderr);
    assert!(extended.stdout.contains("epoch  6/12") && !extended.stdout.contains("epoch  5/12"), "{}", extended.stdout);
    let [whole, long] = ["whole", "short"].map(|name| place.json(&["show", name, "--json"]));
    assert_eq!(whole["trained"], long["trained"]);
    assert_eq!(whole["params"], long["params"]);
    for key in ["train.loss", "valid.accuracy"] {
        assert_eq!(whole["metrics"][key], long["metrics"][key]);
    }
    // The test was measured at the end of each stretch.
    assert_eq!(long["metrics"]["test.loss"]["n"], 2);
    let states: Vec<&str> = long["events"].as_array().unwrap().iter().map(|e| e["state"].as_str().unwrap()).collect();
    assert_eq!(states, ["running", "finished", "running", "finished"]);
}

#[test]
fn every_optimizers_memory_survives() {
    let place = Place::new();
    for optimizer in [
        "{ sgd: { learning_rate: 0.01, momentum: 0.9, nesterov: true } }",
        "{ adamw: { learning_rate: 0.001 } }",
        "{ rmsprop: { learning_rate: 0.001 } }",
        "{ rmsprop: { learning_rate: 0.001, momentum: 0.5, epsilon_inside_sqrt: false } }",
    ] {
        let set = format!("optimizer={optimizer}");
        let run = |epochs: &str| {
            let epochs = format!("epochs={epochs}");
            place.json(&["run", "spec.yaml", "--json", "--set", &set, "--set", &epochs])["id"]
                .as_str()
                .unwrap()
                .to_owned()
        };
        let (whole, short) = (run("4"), run("2"));
        assert_eq!(place.xp(&["resume", &short, "--epochs", "4"]).code, 0);
        let [whole, long] = [whole, short].map(|id| place.json(&["show", &id, "--json"])["trained"].clone());
        assert!(whole.is_object());
        assert_eq!(whole, long, "{optimizer}");
    }
}

#[test]
fn what_cannot_go_on_says_why() {
    let place = place();
    let mut child = place.command(&["run", "spec.yaml", "--name", "first", "--set", "epochs=100000"]);
    let mut child = child.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    assert!(lines.by_ref().any(|line| line.starts_with("epoch")), "no epoch was reported");
    let printed = place.xp(&["resume", "first"]);
    assert_eq!(printed.code, 2);
    assert!(printed.stderr.contains("still running"), "{}", printed.stderr);
    child.kill().unwrap();
    child.wait().unwrap();

    // Other images are not the same run.
    fs::copy(place.path("data/train/red/0.png"), place.path("data/train/red/new.png")).unwrap();
    let printed = place.xp(&["resume", "first"]);
    assert_eq!(printed.code, 1);
    assert!(printed.stderr.contains("train images"), "{}", printed.stderr);
    assert_eq!(place.json(&["show", "first", "--json"])["state"], "crashed");
    fs::remove_file(place.path("data/train/red/new.png")).unwrap();

    // A checkpoint that is damaged is not trained on, and nothing of the run changes.
    let shown = place.json(&["show", "first", "--json"]);
    let last = shown["checkpoints"].as_array().unwrap().last().unwrap()["path"].as_str().unwrap().to_owned();
    let optimizer = place.path(".xp/runs").join(shown["id"].as_str().unwrap()).join(last).join("optimizer.safetensors");
    fs::write(optimizer, "nothing").unwrap();
    let printed = place.xp(&["resume", "first"]);
    assert_eq!(printed.code, 1);
    assert!(printed.stderr.contains("is damaged"), "{}", printed.stderr);
    assert_eq!(place.json(&["show", "first", "--json"]), shown);
    assert_eq!(place.xp(&["resume", "nobody"]).code, 3);
}

/// As after a restore from the wrong backup: the files are whole, and are not those that were recorded.
#[test]
fn a_checkpoint_of_another_run_is_not_trained_on() {
    let place = Place::new();
    let dir = |name: &str| {
        let shown = place.json(&["show", name, "--json"]);
        place.path(".xp/runs").join(shown["id"].as_str().unwrap())
    };
    for (name, seed) in [("own", "seed=1"), ("other", "seed=2")] {
        assert_eq!(place.xp(&["run", "spec.yaml", "--name", name, "--set", seed]).code, 0);
    }
    for entry in fs::read_dir(dir("other").join("checkpoints/epoch-0002")).unwrap().map(Result::unwrap) {
        fs::copy(entry.path(), dir("own").join("checkpoints/epoch-0002").join(entry.file_name())).unwrap();
    }
    let before = [place.json(&["show", "own", "--json"]), place.json(&["list", "--json"])];
    assert_eq!(before[0]["state"], "finished");
    let resolved = fs::read(dir("own").join("resolved.json")).unwrap();
    for arguments in [&["resume", "own", "--epochs", "3"][..], &["evaluate", "own", "--checkpoint", "last"]] {
        let printed = place.xp(arguments);
        assert_eq!(printed.code, 1);
        assert!(printed.stderr.contains("it is not the one that was recorded"), "{}", printed.stderr);
    }
    assert_eq!([place.json(&["show", "own", "--json"]), place.json(&["list", "--json"])], before);
    assert_eq!(fs::read(dir("own").join("resolved.json")).unwrap(), resolved);
}

/// Training goes on from the last epoch alone, so that no other needs what an optimizer remembers.
#[test]
fn the_optimizers_state_stays_with_the_last_epoch() {
    let place = Place::new();
    let keep = "checkpoint.keep={ best: 1, last: 2, every: 2 }";
    assert_eq!(place.xp(&["run", "spec.yaml", "--name", "kept", "--set", keep, "--set", "epochs=5"]).code, 0);
    let shown = place.json(&["show", "kept", "--json"]);
    let run_dir = place.path(".xp/runs").join(shown["id"].as_str().unwrap());
    let kept: Vec<&Value> = shown["checkpoints"].as_array().unwrap().iter().filter(|c| c["deleted"] == false).collect();
    assert!(kept.len() >= 3);
    for checkpoint in &kept {
        let is_last = checkpoint["epoch"] == 5;
        let optimizer = run_dir.join(checkpoint["path"].as_str().unwrap()).join("optimizer.safetensors");
        assert_eq!(optimizer.is_file(), is_last);
        check_files(&run_dir, checkpoint, is_last);
    }
    assert!(kept[0]["n_bytes"].as_u64().unwrap() * 2 < kept.last().unwrap()["n_bytes"].as_u64().unwrap());
    // A kill before it was removed leaves it, and the next resume removes it.
    let first = run_dir.join(kept[0]["path"].as_str().unwrap()).join("optimizer.safetensors");
    fs::write(&first, "left").unwrap();
    assert_eq!(place.xp(&["resume", "kept", "--epochs", "6"]).code, 0);
    assert!(!first.exists());
    assert_eq!(place.xp(&["evaluate", "kept", "--checkpoint", &kept[0]["epoch"].to_string()]).code, 0);
}

#[test]
fn a_run_that_had_stopped_early_trains_no_further() {
    let place = Place::new();
    place.edit("epochs: 2", "epochs: 60\nearly_stopping: { monitor: valid.accuracy, patience: 3 }");
    place.edit("learning_rate: 1.0e-3", "learning_rate: 1.0e-2");
    assert_eq!(place.xp(&["run", "spec.yaml", "--name", "early"]).code, 0);
    let finished = place.json(&["show", "early", "--json"]);
    // As it is after a kill between the last epoch and the ending.
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
        let options = sqlx::sqlite::SqliteConnectOptions::new().filename(place.path(".xp/xp.db"));
        let pool = sqlx::SqlitePool::connect_with(options).await.unwrap();
        sqlx::query("UPDATE runs SET state = 'running', ended_at_ms = NULL").execute(&pool).await.unwrap();
        sqlx::query("DELETE FROM run_events WHERE state = 'finished'").execute(&pool).await.unwrap();
        pool.close().await;
    });
    let printed = place.xp(&["resume", "early"]);
    assert_eq!(printed.code, 0, "{}", printed.stderr);
    let resumed = place.json(&["show", "early", "--json"]);
    assert_eq!(resumed["trained"], finished["trained"]);
    assert_eq!(resumed["metrics"]["valid.loss"], finished["metrics"]["valid.loss"]);
    assert_eq!(resumed["metrics"]["test.loss"]["last"], finished["metrics"]["test.loss"]["last"]);
    // Who asks for more epochs of a finished run wants them.
    let more = finished["metrics"]["valid.loss"]["n"].as_u64().unwrap() + 1;
    assert_eq!(place.xp(&["resume", "early", "--epochs", &more.to_string()]).code, 0);
    assert_eq!(place.json(&["show", "early", "--json"])["metrics"]["valid.loss"]["n"], more);
}
