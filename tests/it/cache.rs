//! What frozen layers give is kept once, whoever computes it, and can be looked at and cleared.

use std::process::Stdio;

use serde_json::Value;

use crate::support::{Place, printed};

fn rows(place: &Place) -> u64 {
    place.json(&["cache", "size", "--json"])["n_rows"].as_u64().unwrap()
}

#[test]
fn four_runs_at_once_compute_every_row_once_and_end_the_same() {
    let place = Place::new();
    let start = |i: usize| {
        let name = format!("run{i}");
        let mut command = place.command(&["run", "spec.yaml", "--json", "--name", &name]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let children: Vec<_> = (0..4).map(start).collect();
    let ended: Vec<Value> = children
        .into_iter()
        .map(|child| {
            let printed = printed(&child.wait_with_output().unwrap());
            assert_eq!(printed.code, 0, "{}", printed.stderr);
            serde_json::from_str(&printed.stdout).unwrap()
        })
        .collect();
    for run in &ended {
        assert_eq!((&run["trained"], &run["metrics"]), (&ended[0]["trained"], &ended[0]["metrics"]));
    }
    // Two classes of 6, 4 and 4 images.
    assert_eq!(rows(&place), 28);
}

#[test]
fn a_renamed_or_added_image_computes_nothing_twice() {
    let place = Place::new();
    let run = || place.json(&["run", "spec.yaml", "--json"])["id"].clone();
    run();
    let before = rows(&place);
    let images = place.path("data/train/blue");
    std::fs::rename(images.join("0.png"), images.join("renamed.png")).unwrap();
    crate::support::write_image(&images.join("new.png"), [10, 90, 90], 99);
    run();
    assert_eq!(rows(&place), before + 1);
    // A changed image is another image.
    crate::support::write_image(&images.join("renamed.png"), [90, 10, 90], 98);
    run();
    assert_eq!(rows(&place), before + 2);
}

#[test]
fn the_cache_is_listed_measured_and_cleared() {
    let place = Place::new();
    assert_eq!(place.xp(&["cache", "list"]).stdout, "nothing is kept\n");
    let first = place.json(&["run", "spec.yaml", "--json"]);
    let listed = place.json(&["cache", "list", "--json"]);
    let [entry] = &listed["entries"].as_array().unwrap()[..] else { panic!("{listed}") };
    assert_eq!(entry["made_of"]["backbone"], "efficientnet_lite0");
    assert_eq!((entry["n_rows"].as_u64(), entry["in_use"].as_bool()), (Some(28), Some(false)));
    let id = entry["id"].as_str().unwrap();
    let text = place.xp(&["cache", "list"]).stdout;
    assert!(text.contains(&id[..8]) && text.contains("efficientnet_lite0"), "{text}");
    assert!(place.xp(&["cache", "size"]).stdout.contains("KiB in"), "{}", place.xp(&["cache", "size"]).stdout);
    let unknown = place.xp(&["cache", "clear", "zzz"]);
    assert_eq!(unknown.code, 3, "{}", unknown.stderr);
    assert_eq!(place.xp(&["cache", "clear"]).code, 2);
    assert_eq!(place.xp(&["cache", "clear", &id[..4]]).code, 0);
    assert_eq!(rows(&place), 0);
    // Nothing is lost but time.
    let again = place.json(&["run", "spec.yaml", "--json"]);
    assert_eq!((&first["trained"], &first["metrics"]), (&again["trained"], &again["metrics"]));
    assert_eq!(rows(&place), 28);
    assert_eq!(place.xp(&["cache", "clear", "--all"]).code, 0);
    assert_eq!(rows(&place), 0);
}

#[test]
fn the_bill_says_what_is_frozen_and_what_is_kept() {
    let place = Place::new();
    let cost = &place.json(&["summary", "spec.yaml", "--cost", "--json"])["cost"];
    assert!(cost["images_per_second"].as_f64().unwrap() > 0.0);
    assert!((0.5..=1.0).contains(&cost["frozen_share"].as_f64().unwrap()), "{cost}");
    assert_eq!(cost["bill"]["splits"][0]["keeping"], serde_json::json!({ "on_disk": { "into_memory": true } }));
    let text = place.xp(&["summary", "spec.yaml", "--cost"]).stdout;
    assert!(text.contains("images a second go through them here") && text.contains("computed once,"), "{text}");
    let printed = place.xp(&["run", "spec.yaml", "--set", "augment.horizontal_flip=true"]);
    assert!(printed.stdout.contains("are frozen, paid once for valid and test"), "{}", printed.stdout);
    assert_eq!(place.xp(&["summary", "vgg16", "--cost"]).code, 0);
    let run = place.xp(&["summary", "@1", "--cost"]);
    assert_eq!(run.code, 2, "{}", run.stderr);
}
