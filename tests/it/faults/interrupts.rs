//! Ctrl-C at any time, and twice.

use std::time::Duration;

use sqlx::sqlite::{SqliteConnectOptions, SqlitePool};
use xp::run::event::{Event, Phase};
use xp::run::metric::Split;
use xp::settings::Resources;
use xp::store::runs::Ending;

use crate::faults::{Going, InLibrary, goes_on_to_the_same_bytes, state, until};
use crate::support::{Place, write_image};

/// Enough to be in the middle of a phase when it is noticed that it began.
const MANY: u32 = 600;

/// Stops a run as soon as a phase is known to have begun.
fn stops_in(name: &str, split: Split, frozen: &str, begins: impl Fn(&Phase) -> bool) -> Place {
    let place = Place::new();
    place.edit("frozen_layers: all", &format!("frozen_layers: {frozen}"));
    for i in 0..MANY {
        write_image(&place.path(&format!("data/{split}/red/more/{i}.png")), [200, 60, 90], i);
    }
    let library = InLibrary::new(&place);
    let library = InLibrary { resources: Resources { loader_threads: 1, ..library.resources }, ..library };
    let ending = library.run(name, |event, stop| match event {
        Event::PhaseStarted { phase, .. } if begins(phase) => stop.raise(),
        _ => {}
    });
    assert_eq!(ending.unwrap(), Ending::Stopped);
    assert_eq!(state(&place, name), "stopped");
    place
}

#[test]
fn while_images_are_read() {
    stops_in("reading", Split::Train, "all", |phase| *phase == Phase::Index(Split::Train));
}

#[test]
fn while_the_frozen_layers_run() {
    stops_in("prefix", Split::Valid, "all", |phase| *phase == Phase::Prefix(Split::Valid));
}

#[test]
fn while_an_epoch_is_validated() {
    stops_in("valid", Split::Valid, "none", |phase| matches!(phase, Phase::Valid { epoch: 1, .. }));
}

#[test]
fn while_the_best_checkpoint_is_tested() {
    let place = stops_in("test", Split::Test, "none", |phase| *phase == Phase::Test);
    // All epochs are there: what is left is the test.
    let printed = place.xp(&["resume", "test"]);
    assert_eq!(printed.code, 0, "{}", printed.stderr);
    assert!(printed.stdout.contains("608 images") && !printed.stdout.contains("epoch 2/2"), "{}", printed.stdout);
}

#[test]
fn while_the_best_checkpoint_is_asked_about_every_valid_image() {
    let place = stops_in("asked", Split::Valid, "none", |phase| *phase == Phase::Predictions);
    let has_record = || {
        let artifacts = place.json(&["show", "asked", "--json"])["artifacts"].clone();
        artifacts.as_array().unwrap().iter().any(|artifact| artifact["kind"] == "predictions")
    };
    assert!(!has_record());
    let printed = place.xp(&["resume", "asked"]);
    assert_eq!(printed.code, 0, "{}", printed.stderr);
    assert!(has_record() && !printed.stdout.contains("epoch 2/2"), "{}", printed.stdout);
}

#[test]
fn a_second_one_ends_the_process_at_once() {
    let place = Place::new();
    let mut going = Going::start(place.command(&["run", "spec.yaml", "--name", "twice", "--set", "epochs=100000"]));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    // Someone holds the database, so that the run cannot end although it was asked to.
    let (pool, held) = runtime.block_on(async {
        let options = SqliteConnectOptions::new().filename(place.path(".xp/xp.db"));
        let pool = SqlitePool::connect_with(options.busy_timeout(Duration::from_secs(60))).await.unwrap();
        let held = pool.begin_with("BEGIN IMMEDIATE").await.unwrap();
        (pool, held)
    });
    until("the end of the run", || {
        // The second one that arrives: two that wait for the process together are one.
        going.signal("-INT");
        going.child.try_wait().unwrap().is_some()
    });
    let ended = going.end();
    assert_eq!(ended.code, 130, "{}", ended.stderr);
    runtime.block_on(async {
        held.rollback().await.unwrap();
        pool.close().await;
    });
    assert_eq!(state(&place, "twice"), "crashed");
    goes_on_to_the_same_bytes(&place, "twice");
}
