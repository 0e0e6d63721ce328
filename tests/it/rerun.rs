//! `xp rerun --verify`: a run done again from its record comes out the same, or the first step that differs is named.

use crate::support::{Place, write_image};

fn place() -> Place {
    let place = Place::new();
    place.edit("epochs: 2", "epochs: 3\naugment: { horizontal_flip: true, rotation_degrees: 10 }");
    assert_eq!(place.xp(&["run", "spec.yaml", "--name", "first"]).code, 0);
    place
}

#[test]
fn a_run_done_again_is_the_same_to_the_bit() {
    let place = place();
    let again = place.xp(&["rerun", "first", "--verify", "--name", "second"]);
    assert_eq!(again.code, 0, "{}", again.stderr);
    assert!(again.stdout.contains("the same as first:"), "{}", again.stdout);
    let shown = ["first", "second"].map(|name| place.json(&["show", name, "--json"]));
    assert_eq!(shown[0]["trained"], shown[1]["trained"]);
    assert_eq!(shown[1]["environment"]["rerun_of"], shown[0]["id"]);
    let told = place.json(&["rerun", "first", "--verify", "--json", "--loader-threads", "1"]);
    assert_eq!((&told["same_tensors"], &told["first_difference"]), (&true.into(), &serde_json::Value::Null));
    assert!(told["points_compared"].as_u64().unwrap() >= 3 + 3 * 4 + 2, "{told}");
}

#[test]
fn what_differs_first_is_named() {
    let place = place();
    // The record is changed behind its back: the second epoch's loss, as another machine might have had it.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let options = sqlx::sqlite::SqliteConnectOptions::new().filename(place.path(".xp/xp.db"));
        let pool = sqlx::SqlitePool::connect_with(options).await.unwrap();
        let changed = sqlx::query("UPDATE trained_facts SET trained_hash = 'other'").execute(&pool).await.unwrap();
        assert_eq!(changed.rows_affected(), 1);
        pool.close().await;
    });
    let again = place.xp(&["rerun", "first", "--verify"]);
    assert_eq!(again.code, 1, "{}", again.stdout);
    assert!(again.stdout.contains("the trained tensors are not"), "{}", again.stdout);
    assert!(again.stderr.contains("did not come out as first"), "{}", again.stderr);
}

#[test]
fn changed_images_and_unfinished_runs_are_refused() {
    let place = place();
    write_image(&place.path("data/train/blue/0.png"), [1, 2, 3], 77);
    let changed = place.xp(&["rerun", "first"]);
    assert_eq!(changed.code, 1, "{}", changed.stdout);
    assert!(
        changed.stderr.contains("the train images are not those that the run was trained on"),
        "{}",
        changed.stderr
    );
    std::fs::remove_dir_all(place.path("data/train")).unwrap();
    let gone = place.xp(&["rerun", "first"]);
    assert_eq!(gone.code, 2, "{}", gone.stdout);
    let failed = place.xp(&["rerun", "@1", "--verify"]);
    assert_eq!(failed.code, 2, "{}", failed.stderr);
    assert!(failed.stderr.contains("has not finished"), "{}", failed.stderr);
    assert_eq!(place.xp(&["rerun", "nobody"]).code, 3);
}
