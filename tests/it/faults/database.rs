//! A database that is gone, of another xp, none at all, or cut short.

use std::fs;
use std::time::Duration;

use sqlx::sqlite::{SqliteConnectOptions, SqlitePool};

use crate::support::Place;

/// A place with one finished run.
fn place() -> Place {
    let place = Place::new();
    assert_eq!(place.xp(&["run", "spec.yaml", "--name", "first"]).code, 0);
    place
}

/// Runs SQL on the database as someone else would.
fn execute(place: &Place, sql: &'static str) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let options = SqliteConnectOptions::new().filename(place.path(".xp/xp.db"));
        let pool = SqlitePool::connect_with(options.busy_timeout(Duration::from_secs(60))).await.unwrap();
        sqlx::query(sql).execute(&pool).await.unwrap();
        pool.close().await;
    });
}

/// Every command that needs the database fails, says why and what to do, and changes nothing.
fn is_refused(place: &Place, why: &str, hint: &str) {
    let database = place.path(".xp/xp.db");
    let before = fs::read(&database).ok();
    for arguments in [
        &["list"][..],
        &["show", "first"],
        &["compare", "first", "first"],
        &["evaluate", "first"],
        &["resume", "first", "--epochs", "3"],
    ] {
        let printed = place.xp(arguments);
        assert_eq!(printed.code, 1, "{arguments:?}: {}", printed.stderr);
        assert!(printed.stderr.contains(why) && printed.stderr.contains(hint), "{arguments:?}: {}", printed.stderr);
    }
    let doctor = place.xp(&["doctor"]);
    assert_eq!(doctor.code, 1);
    assert!(doctor.stdout.contains("BAD  database"), "{}", doctor.stdout);
    assert_eq!(fs::read(&database).ok(), before);
    assert_eq!(fs::read_dir(place.path(".xp/runs")).unwrap().count(), 1);
}

#[test]
fn one_that_is_gone_is_missed() {
    let place = place();
    fs::rename(place.path(".xp/xp.db"), place.path("kept.db")).unwrap();
    is_refused(&place, "xp.db is missing, and 1 folders of runs lie beside it", "put it back from a copy");
    // An empty file is no database either.
    fs::write(place.path(".xp/xp.db"), "").unwrap();
    is_refused(&place, "xp.db is missing", "put it back from a copy");

    // A new run says so, and again nobody finds the old one.
    let printed = place.xp(&["run", "spec.yaml", "--name", "second"]);
    assert_eq!(printed.code, 0, "{}", printed.stderr);
    assert!(printed.stderr.contains("without the 1 runs whose folders are there"), "{}", printed.stderr);
    let shown = place.json(&["show", "second", "--json"]);
    assert!(shown["warnings"][0]["text"].as_str().unwrap().contains("was missing"), "{}", shown["warnings"]);
    assert_eq!(place.xp(&["show", "first"]).code, 3);
    fs::rename(place.path("kept.db"), place.path(".xp/xp.db")).unwrap();
    assert_eq!(place.xp(&["evaluate", "first"]).code, 0);
}

#[test]
fn one_of_a_newer_xp_is_left_alone() {
    let place = place();
    execute(
        &place,
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
        VALUES (99990101000000, 'later', TRUE, x'00', 0)",
    );
    is_refused(&place, "99990101000000 is newer than", "use the xp that wrote it or a later one");
    let printed = place.xp(&["run", "spec.yaml"]);
    assert_eq!(printed.code, 1);
    assert!(printed.stderr.contains("is newer than"), "{}", printed.stderr);
    execute(&place, "DELETE FROM _sqlx_migrations WHERE version = 99990101000000");
    assert_eq!(place.xp(&["resume", "first", "--epochs", "3"]).code, 0);
}

#[test]
fn a_file_that_is_none_or_was_cut_short_is_left_alone() {
    let place = place();
    let database = place.path(".xp/xp.db");
    let whole = fs::read(&database).unwrap();
    fs::write(&database, "name: fashion\n".repeat(1000)).unwrap();
    is_refused(&place, "file is not a database", "put a copy of it back");
    for n_bytes in [whole.len() / 2, 100, 10] {
        fs::write(&database, &whole[..n_bytes]).unwrap();
        is_refused(&place, "xp.db", "put a copy of it back");
        assert_eq!(place.xp(&["run", "spec.yaml"]).code, 1, "{n_bytes}");
    }
    fs::write(&database, whole).unwrap();
    assert_eq!(place.xp(&["resume", "first", "--epochs", "3"]).code, 0);
}
