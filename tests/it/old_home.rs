//! Homes that an earlier xp wrote: they open, their schema is brought up to date, and they say what they said.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use flate2::read::GzDecoder;
use serde_json::Value;
use xp::run::metric::{Measure, MetricKey, Resolution, Split};
use xp::spec::LoadedSpec;
use xp::spec::fingerprint;
use xp::spec::schema::Spec;
use xp::store::connect::Store;
use xp::store::list::Observer;

use crate::support::Place;

pub const OLD_SCHEMA: i64 = 20261124000000;

/// What the earlier xp said of the home it wrote.
fn told_then() -> Value {
    serde_json::from_str(include_str!("../fixtures/old_home.json")).unwrap()
}

pub fn unpack(home: &Path) {
    let mut database = Vec::new();
    GzDecoder::new(&include_bytes!("../fixtures/old_home.db.gz")[..]).read_to_end(&mut database).unwrap();
    fs::create_dir_all(home).unwrap();
    fs::write(home.join("xp.db"), database).unwrap();
}

/// The last migration of a database.
pub fn schema(database: &Path) -> i64 {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let options = sqlx::sqlite::SqliteConnectOptions::new().filename(database);
        let pool = sqlx::SqlitePool::connect_with(options).await.unwrap();
        sqlx::query_scalar("SELECT max(version) FROM _sqlx_migrations").fetch_one(&pool).await.unwrap()
    })
}

/// Keys may be added to what is told, and none may be lost or changed.
fn check(place: &Place) {
    let then = told_then();
    assert_eq!(place.json(&["list", "--json"]), then["list"]);
    for (name, then) in then["show"].as_object().unwrap() {
        let now = place.json(&["show", name, "--json"]);
        for (key, then) in then.as_object().unwrap() {
            assert_eq!(now[key], *then, "{key} of {name}");
        }
    }
}

#[test]
fn a_home_of_the_first_schema_is_brought_up_to_date_and_says_the_same() {
    let place = Place::new();
    let home = place.path(".xp");
    unpack(&home);
    let database = home.join("xp.db");
    assert_eq!(schema(&database), OLD_SCHEMA);
    check(&place);
    assert!(schema(&database) > OLD_SCHEMA);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let store = Store::open_existing(&home.join("xp.db")).await.unwrap().unwrap();
        let id = store.find_run("first").await.unwrap();
        let key = MetricKey::new(Split::Train, Measure::Loss);
        let n_points = async |resolution| store.points(&id, key, resolution).await.unwrap().len();
        assert_eq!([n_points(Resolution::Epoch).await, n_points(Resolution::Step).await], [3, 9]);
        assert_eq!(store.integrity_check().await.unwrap(), [""; 0]);
    });
    let run = place.xp(&["run", "spec.yaml", "--name", "third", "--set", "epochs=1"]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert_eq!(place.json(&["list", "--json"])["runs"].as_array().unwrap().len(), 3);
}

/// A key that came later does not make other runs of the old ones: the spec as it was written then, read now, has the
/// fingerprint of the old run on the same images and weights.
#[test]
fn an_old_run_is_found_by_the_fingerprint_of_its_spec() {
    let place = Place::new();
    let home = place.path(".xp");
    unpack(&home);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let store = Store::open(&home.join("xp.db")).await.unwrap();
        let id = store.find_run("first").await.unwrap();
        let observer = Observer { runs_dir: &home.join("runs"), this_host: "here", now_ms: 0 };
        let first = store.run_detail(&id, &observer).await.unwrap();
        // How JPEG was decoded before there was this key is not its default.
        let sets = ["data.decode=plain".to_owned()];
        let spec = LoadedSpec::from_text(&place.path("spec.yaml"), first.spec_yaml.clone(), &sets).unwrap().spec;
        let (data, weights_hash) = (first.data.unwrap(), first.model.unwrap().weights_hash);
        let print = fingerprint::of_inputs(&spec, &[], &data, &weights_hash, "cpu");
        assert_ne!(first.summary.fingerprint.as_ref(), Some(&print.run));
        assert_eq!(store.finished_with_fingerprint(&print.run).await.unwrap(), std::slice::from_ref(&id));
        let renewed = store.run_summary(&id, &observer).await.unwrap();
        assert_eq!((renewed.fingerprint, renewed.group), (Some(print.run), Some(print.group)));
        // What was done under other keys is another run.
        let other = Spec { label_smoothing: 0.1, ..spec };
        let print = fingerprint::of_inputs(&other, &[], &data, &weights_hash, "cpu");
        assert_eq!(store.finished_with_fingerprint(&print.run).await.unwrap(), []);
        store.close().await;
    });
}

/// Copies of the database from before its schema changed.
fn backups(home: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(home).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.file_name().unwrap().to_string_lossy().contains(".before-")).collect()
}

#[test]
fn a_migration_copies_the_database_first_and_keeps_the_newest_copy_alone() {
    let place = Place::new();
    let home = place.path(".xp");
    unpack(&home);
    fs::write(home.join("xp.db.before-20261124000001"), "an earlier copy").unwrap();
    fs::write(home.join("xp.db.before-20261126120000.partial"), "half of one").unwrap();
    check(&place);
    let newest = schema(&home.join("xp.db"));
    let copy = home.join(format!("xp.db.before-{newest}"));
    assert_eq!(backups(&home), std::slice::from_ref(&copy));
    assert_eq!(schema(&copy), OLD_SCHEMA);
    // What is up to date is not copied, nor is what is new.
    fs::remove_file(&copy).unwrap();
    check(&place);
    assert_eq!(place.xp(&["run", "spec.yaml", "--home", "fresh"]).code, 0);
    assert!(backups(&home).is_empty() && backups(&place.path("fresh")).is_empty());
}

#[test]
fn a_database_that_cannot_be_copied_is_not_migrated() {
    let place = Place::new();
    let home = place.path(".xp");
    unpack(&home);
    let before = fs::read(home.join("xp.db")).unwrap();
    let newest = {
        let other = Place::new();
        assert_eq!(other.xp(&["run", "spec.yaml", "--set", "epochs=1"]).code, 0);
        schema(&other.path(".xp/xp.db"))
    };
    // A folder is where the copy would be.
    fs::create_dir(home.join(format!("xp.db.before-{newest}.partial"))).unwrap();
    let run = place.xp(&["run", "spec.yaml"]);
    assert_eq!(run.code, 1);
    assert!(run.stderr.contains("back up") && run.stderr.contains("changed nothing"), "{}", run.stderr);
    assert_eq!(fs::read(home.join("xp.db")).unwrap(), before);
}
