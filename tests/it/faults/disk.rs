//! A disk that fills up: while checkpoints are written, under the cache, in the database, at the very first start.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use xp::run::event::Event;
use xp::store::runs::Ending;

use crate::faults::mounts::{Mounted, with_mounts};
use crate::faults::{Going, InLibrary, goes_on_to_the_same_bytes, n_committed, state, until};
use crate::old_home;
use crate::support::{Place, Printed};

const PAGE: [u8; 4096] = [0; 4096];

/// Fills what is left of a disk.
fn fill(file: &mut File) {
    while file.write_all(&PAGE).is_ok() {}
}

/// Starts a run and fills a disk after its first epoch, until the run has ended.
fn run_into_a_full_disk(place: &Place, disk: &Path) -> Printed {
    let mut going = Going::start(place.command(&["run", "spec.yaml", "--name", "full", "--set", "epochs=100000"]));
    let mut filler = File::create(disk.join("filler")).unwrap();
    until("the end of the run", || {
        // Older checkpoints are removed meanwhile: what that frees is filled too.
        fill(&mut filler);
        going.child.try_wait().unwrap().is_some()
    });
    going.end()
}

#[test]
fn while_a_checkpoint_is_written() {
    with_mounts("faults::disk::while_a_checkpoint_is_written", || {
        let place = Place::new();
        let runs_dir = place.path(".xp/runs");
        let _disk = Mounted::tmpfs(&runs_dir, 2048);
        let ended = run_into_a_full_disk(&place, &runs_dir);
        assert_eq!(ended.code, 1, "{}", ended.stderr);
        assert!(ended.stderr.contains("No space left on device"), "{}", ended.stderr);
        assert!(ended.stderr.contains("xp resume full"), "{}", ended.stderr);
        // The database has room, so the ending is there.
        let shown = place.json(&["show", "full", "--json"]);
        assert_eq!(shown["state"], "failed");
        assert!(shown["error"]["message"].as_str().unwrap().contains("epoch-"), "{}", shown["error"]);
        assert!(n_committed(&place, "full") > 0);
        let run_dir = runs_dir.join(shown["id"].as_str().unwrap());
        let names = fs::read_dir(run_dir.join("checkpoints")).unwrap().map(|entry| entry.unwrap().file_name());
        assert!(names.into_iter().all(|name| !name.to_string_lossy().ends_with(".partial")));

        // Still full: it fails again, and still nothing is lost.
        let n_before = n_committed(&place, "full");
        assert_eq!(place.xp(&["resume", "full"]).code, 1);
        assert_eq!(state(&place, "full"), "failed");
        assert!(n_committed(&place, "full") >= n_before);
        fs::remove_file(runs_dir.join("filler")).unwrap();
        goes_on_to_the_same_bytes(&place, "full");
    });
}

/// What the frozen layers give can be computed again, so a disk without room for it keeps no run from training.
#[test]
fn under_the_cache() {
    with_mounts("faults::disk::under_the_cache", || {
        let place = Place::new();
        let expected = place.json(&["run", "spec.yaml", "--json", "--set", "cache.enabled=false"]);
        let cache = place.path(".xp/cache");
        let _disk = Mounted::tmpfs(&cache, 64);
        fill(&mut File::create(cache.join("filler")).unwrap());
        let run = place.xp(&["run", "spec.yaml", "--name", "full"]);
        assert_eq!(run.code, 0, "{}", run.stderr);
        assert!(run.stderr.contains("is not kept on disk: cannot use"), "{}", run.stderr);
        assert!(run.stderr.contains("No space left on device"), "{}", run.stderr);
        let shown = place.json(&["show", "full", "--json"]);
        assert_eq!((&shown["trained"], &shown["metrics"]), (&expected["trained"], &expected["metrics"]));
        // With room again, it is kept.
        fs::remove_file(cache.join("filler")).unwrap();
        assert_eq!(place.xp(&["run", "spec.yaml", "--set", "model.frozen_layers.stages=8"]).code, 0);
        assert!(place.json(&["cache", "size", "--json"])["n_rows"].as_u64().unwrap() > 0);
    });
}

#[test]
fn in_the_database() {
    with_mounts("faults::disk::in_the_database", || {
        let place = Place::new();
        let (home, elsewhere) = (place.path(".xp"), place.path("roomy"));
        fs::create_dir(&elsewhere).unwrap();
        let runs_dir = home.join("runs");
        let disk = Mounted::tmpfs(&home, 20 * 1024);
        let roomy = Mounted::bind(&elsewhere, &runs_dir);
        let ended = run_into_a_full_disk(&place, &home);
        assert_eq!(ended.code, 1, "{}", ended.stderr);
        assert!(ended.stderr.contains("record the run full"), "{}", ended.stderr);
        assert!(ended.stderr.contains("free some space on that disk"), "{}", ended.stderr);
        assert!(ended.stderr.contains("xp resume full"), "{}", ended.stderr);
        // Whether its ending still found room or not, nobody is told that it runs; and reading goes on.
        assert!(["failed", "crashed"].contains(&state(&place, "full").as_str()));
        assert!(n_committed(&place, "full") > 0);
        for arguments in [&["list"][..], &["show", "full"], &["evaluate", "full"]] {
            // What SQLite left free when it closed the database.
            fill(&mut File::options().append(true).open(home.join("filler")).unwrap());
            let printed = place.xp(arguments);
            assert_eq!(printed.code, 0, "{arguments:?}: {}", printed.stderr);
        }
        assert_eq!(place.xp(&["run", "spec.yaml"]).code, 1);
        fs::remove_file(home.join("filler")).unwrap();
        goes_on_to_the_same_bytes(&place, "full");
        assert_eq!(place.xp(&["doctor"]).code, 0);
        drop((roomy, disk));
    });
}

#[test]
fn before_a_migration() {
    with_mounts("faults::disk::before_a_migration", || {
        let place = Place::new();
        let home = place.path(".xp");
        let _disk = Mounted::tmpfs(&home, 1024);
        old_home::unpack(&home);
        fill(&mut File::create(home.join("filler")).unwrap());
        let run = place.xp(&["run", "spec.yaml"]);
        assert_eq!(run.code, 1, "{}", run.stderr);
        assert!(run.stderr.contains("hint: free some space on that disk"), "{}", run.stderr);
        // SQLite needs room even to look at it where it lies.
        for file in ["xp.db", "xp.db-wal"].iter().filter(|file| home.join(file).exists()) {
            fs::copy(home.join(file), place.path(file)).unwrap();
        }
        assert_eq!(old_home::schema(&place.path("xp.db")), old_home::OLD_SCHEMA);
        // It can still be read.
        let listed = place.xp(&["list"]);
        assert_eq!(listed.code, 0, "{}", listed.stderr);
        fs::remove_file(home.join("filler")).unwrap();
        assert_eq!(place.json(&["list", "--json"])["runs"].as_array().unwrap().len(), 2);
        assert!(old_home::schema(&home.join("xp.db")) > old_home::OLD_SCHEMA);
    });
}

#[test]
fn at_the_very_first_start() {
    with_mounts("faults::disk::at_the_very_first_start", || {
        let place = Place::new();
        let home = place.path(".xp");
        // From nothing at all to room for the empty database but not for what SQLite puts beside it.
        for n_free_pages in [0, 2, 8, 32] {
            let _disk = Mounted::tmpfs(&home, 32 * 1024);
            let mut filler = File::create(home.join("filler")).unwrap();
            fill(&mut filler);
            let n_bytes = filler.metadata().unwrap().len();
            filler.set_len(n_bytes - n_free_pages * PAGE.len() as u64).unwrap();
            drop(filler);
            let printed = place.xp(&["run", "spec.yaml"]);
            assert_eq!(printed.code, 1, "{n_free_pages} pages: {}", printed.stderr);
            assert!(printed.stderr.contains("hint:"), "{n_free_pages} pages: {}", printed.stderr);
            // A database that was begun cannot be read before its schema is there.
            let listed = place.xp(&["list"]);
            let told = listed.stdout == "no runs\n" || listed.stderr.contains("free some space");
            assert!(told, "{n_free_pages} pages: {}{}", listed.stdout, listed.stderr);
            fs::remove_file(home.join("filler")).unwrap();
            let printed = place.xp(&["run", "spec.yaml"]);
            assert_eq!(printed.code, 0, "{n_free_pages} pages: {}", printed.stderr);
            assert_eq!(printed.stderr, "", "{n_free_pages} pages");
            assert_eq!(place.xp(&["doctor"]).code, 0);
            assert_eq!(place.json(&["list", "--json"])["runs"].as_array().unwrap().len(), 1);
        }
    });
}

/// What can be measured again is no reason to lose a training.
#[test]
fn where_the_record_of_valid_images_cannot_be_written_the_run_finishes() {
    let place = Place::new();
    let runs_dir = place.path(".xp/runs");
    let ending = InLibrary::new(&place).run("blocked", |event, _| {
        if let Event::Data(_) = event {
            let run_dir = fs::read_dir(&runs_dir).unwrap().next().unwrap().unwrap().path();
            fs::create_dir(run_dir.join("predictions-valid.safetensors.partial")).unwrap();
        }
    });
    assert_eq!(ending.unwrap(), Ending::Finished);
    let shown = place.json(&["show", "blocked", "--json"]);
    assert!(shown["warnings"].to_string().contains("is not kept: cannot write"), "{}", shown["warnings"]);
    assert!(shown["artifacts"].as_array().unwrap().iter().all(|artifact| artifact["kind"] != "predictions"));
    assert!(shown["metrics"]["test.loss"]["last"].is_number());
}
