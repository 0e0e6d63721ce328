//! Where images come from: folders, fractions, CSV files and IDX files, and what is refused of them.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::support::{Place, write_image};

fn shown(place: &Place, run: &str) -> Value {
    place.json(&["show", run, "--json"])
}

/// How many images each split of a run had.
fn counts(place: &Place, run: &str) -> [Value; 3] {
    let shown = shown(place, run);
    ["train", "valid", "test"].map(|split| shown["data"]["splits"][split]["n_images"].clone())
}

fn splits_csv(place: &Place, run: &str) -> String {
    let id = shown(place, run)["id"].as_str().unwrap().to_owned();
    fs::read_to_string(place.path(&format!(".xp/runs/{id}/splits.csv"))).unwrap()
}

/// Runs `spec.yaml` under a name; it must succeed.
fn run(place: &Place, name: &str, sets: &[&str]) -> String {
    let printed = place.xp(&[&["run", "spec.yaml", "--name", name], sets].concat());
    assert_eq!(printed.code, 0, "{}", printed.stderr);
    printed.stdout
}

#[test]
fn a_fraction_is_held_out_listed_and_drawn_again_by_resume_and_evaluate() {
    let place = Place::new();
    place.edit("valid: data/valid\n  test: data/test", "valid: { fraction: 0.3 }");
    assert!(place.xp(&["check", "spec.yaml"]).stdout.contains("images: 8 train, 4 valid"));
    let printed = run(&place, "first", &[]);
    assert!(printed.contains("images: 8 train, 4 valid"), "{printed}");
    let csv = splits_csv(&place, "first");
    let part = |split: &str| csv.lines().filter(|line| line.ends_with(split)).count();
    assert_eq!((part(",red,train"), part(",red,valid"), part(",blue,train"), part(",blue,valid")), (4, 2, 4, 2));
    let artifacts = shown(&place, "first")["artifacts"].clone();
    assert!(artifacts.as_array().unwrap().iter().any(|file| file["kind"] == "split" && file["path"] == "splits.csv"));

    run(&place, "seed", &["--set", "seed=8"]);
    assert_eq!(splits_csv(&place, "seed"), csv);
    run(&place, "split-seed", &["--set", "data.split_seed=1"]);
    assert_ne!(splits_csv(&place, "split-seed"), csv);

    let evaluated = place.json(&["evaluate", "first", "--checkpoint", "last", "--json"]);
    let valid = shown(&place, "first")["metrics"]["valid.loss"]["last"].clone();
    assert_eq!((&evaluated["metrics"]["loss"], &evaluated["n_images"]), (&valid, &4.into()));
    assert!(place.xp(&["evaluate", "first"]).stdout.contains("on the valid images of "));
    assert_eq!(place.xp(&["resume", "first", "--epochs", "3"]).code, 0);
    let warnings = || place.json(&["evaluate", "first", "--json"])["warnings"].to_string();
    assert_eq!(warnings(), "[]");
    for i in 0..6 {
        write_image(&place.path(&format!("data/train/red/{i}.png")), [200; 3], i);
    }
    let other = place.xp(&["resume", "first", "--epochs", "4"]);
    assert!(other.code == 1 && other.stderr.contains("images are not those"), "{}", other.stderr);
    assert!(warnings().contains("the valid images are not those that the run used"), "{}", warnings());
}

#[test]
fn the_list_of_a_split_is_a_manifest_that_trains_the_same() {
    let place = Place::new();
    place.edit("valid: data/valid\n  test: data/test", "valid: { fraction: 0.3 }\n  test: { fraction: 0.2 }");
    run(&place, "drawn", &[]);
    assert_eq!(counts(&place, "drawn"), [6, 4, 2]);
    fs::create_dir(place.path("elsewhere")).unwrap();
    fs::write(place.path("elsewhere/list.csv"), splits_csv(&place, "drawn")).unwrap();
    let csv = "{ csv: elsewhere/list.csv }";
    place.edit("train: data/train", &format!("train: {csv}"));
    place.edit("valid: { fraction: 0.3 }\n  test: { fraction: 0.2 }", &format!("valid: {csv}\n  test: {csv}"));
    run(&place, "listed", &[]);
    let result = |run: &str| ["trained", "metrics"].map(|key| shown(&place, run)[key].clone());
    assert_eq!(result("drawn"), result("listed"));
    let named = place.json(&["evaluate", "listed", "--data", "elsewhere/list.csv", "--json"]);
    assert_eq!(named["n_images"], 2);
}

#[test]
fn images_in_two_splits_are_refused_or_accepted_by_choice() {
    let place = Place::new();
    for (from, to) in
        [("train/red/0", "valid/red/copy"), ("train/red/1", "test/blue/copy"), ("valid/red/1", "valid/red/twin")]
    {
        fs::copy(place.path(&format!("data/{from}.png")), place.path(&format!("data/{to}.png"))).unwrap();
    }
    assert_eq!(place.xp(&["check", "spec.yaml"]).code, 0);
    let printed = place.xp(&["run", "spec.yaml", "--name", "leaky"]);
    assert_eq!(printed.code, 1);
    for line in [
        "2 images are in two of them",
        "  valid red/copy.png = train red/0.png\n  test blue/copy.png = train red/1.png\n",
        "data.allow_duplicates: true",
    ] {
        assert!(printed.stderr.contains(line), "{line}: {}", printed.stderr);
    }
    let leaky = shown(&place, "leaky");
    assert_eq!((&leaky["state"], leaky["checkpoints"].as_array().unwrap().len()), (&"failed".into(), 0));
    assert_eq!(leaky["skipped"][1]["path"], "blue/copy.png");
    assert_eq!(leaky["skipped"][1]["reason"], "the same bytes as the train image red/1.png");

    run(&place, "accepted", &["--set", "data.allow_duplicates=true"]);
    let warnings = shown(&place, "accepted")["warnings"].to_string();
    assert!(warnings.contains("1 of the valid images are copies"), "{warnings}");
    assert!(warnings.contains("2 images are in two splits"), "{warnings}");
}

/// Writes an IDX file of bytes.
fn write_idx(path: &Path, shape: &[u32], values: &[u8]) {
    let mut bytes = vec![0, 0, 8, shape.len() as u8];
    bytes.extend(shape.iter().flat_map(|side| side.to_be_bytes()));
    bytes.extend(values);
    fs::write(path, bytes).unwrap();
}

/// `n` dark and light images of 8 x 8 pixels in turn, unlike those of another `shade`.
fn write_idx_pair(place: &Place, name: &str, n: u32, shade: u32) {
    let level = |i: u32, j: u32| ((i % 2) * 150 + shade + (i / 2 + j) % 60) as u8;
    let pixels: Vec<u8> = (0..n).flat_map(|i| (0..64).map(move |j| level(i, j))).collect();
    write_idx(&place.path(&format!("{name}-images")), &[n, 8, 8], &pixels);
    let labels: Vec<u8> = (0..n).map(|i| (i % 2) as u8).collect();
    write_idx(&place.path(&format!("{name}-labels")), &[n], &labels);
}

#[test]
fn idx_files_are_trained_on_and_tested_with() {
    let place = Place::new();
    write_idx_pair(&place, "train", 20, 0);
    write_idx_pair(&place, "test", 6, 40);
    let idx = |name: &str| format!("{{ idx: {name}-images, labels: {name}-labels, classes: [light, dark] }}");
    place.edit("train: data/train", &format!("train: {}", idx("train")));
    place.edit("valid: data/valid", "valid: { fraction: 0.2 }");
    place.edit("test: data/test", &format!("test: {}", idx("test")));
    let printed = run(&place, "idx", &[]);
    assert!(printed.contains("2 classes; images: 16 train, 4 valid, 6 test"), "{printed}");
    assert_eq!(shown(&place, "idx")["data"]["classes"], serde_json::json!(["light", "dark"]));
    assert!(splits_csv(&place, "idx").contains("/test-images#5,dark,test"));
    assert_eq!(place.json(&["evaluate", "idx", "--json"])["n_images"], 6);
    // A folder has its classes in another order, which must not change what they mean.
    for (class, level) in [("dark", 10), ("light", 200)] {
        write_image(&place.path(&format!("photos/{class}/0.png")), [level; 3], 0);
    }
    let measured = place.json(&["evaluate", "idx", "--data", "photos", "--json"]);
    assert_eq!(measured["n_images"], 2);
}

#[test]
fn faults_of_the_sources_are_pointed_at() {
    let place = Place::new();
    write_idx_pair(&place, "a", 6, 0);
    write_idx_pair(&place, "b", 4, 40);
    fs::write(place.path("list.csv"), "path,label\ndata/train/red/0.png,red\ndata/train/blue/0.png,blue\n").unwrap();
    fs::write(place.path("gap.csv"), "path,label\ndata/train/red/0.png,\n").unwrap();
    let idx = |images: &str, labels: &str| format!("{{ idx: {images}-images, labels: {labels}-labels }}");
    let cases = [
        ("valid: data/valid", "valid: { csv: gone.csv }".to_owned(), "spec.yaml:5:17", "gone.csv"),
        (
            "valid: data/valid",
            "valid: { csv: gap.csv }".to_owned(),
            "spec.yaml:5:17",
            "gap.csv, line 2: the label is empty",
        ),
        ("valid: data/valid", "valid: list.csv".to_owned(), "spec.yaml:5:10", "{ csv: FILE }"),
        (
            "valid: data/valid",
            "valid: { fraction: 0.95 }".to_owned(),
            "spec.yaml:5:22",
            "6 of the 6 images of class \"blue\"",
        ),
        ("valid: data/valid", "valid: { fraction: 1.5 }".to_owned(), "spec.yaml:5:22", "not within 0.001 and 0.999"),
        ("train: data/train", "train: { fraction: 0.5 }".to_owned(), "spec.yaml:4:", "a fraction of themselves"),
        ("train: data/train", format!("train: {}", idx("c", "a")), "spec.yaml:4:17", "c-images: No such file"),
        ("train: data/train", format!("train: {}", idx("a", "b")), "spec.yaml:4:35", "4 labels for 6 images"),
        ("test: data/test", format!("test: {}", idx("a", "a")), "spec.yaml:6:3", "extra \"0\", \"1\""),
        (
            "train: data/train\n  valid: data/valid",
            "train: { csv: list.csv }\n  valid: { csv: ./list.csv }".to_owned(),
            "spec.yaml:5:17",
            "the same file as data.train",
        ),
    ];
    for (from, to, at, says) in cases {
        let text = fs::read_to_string(place.path("spec.yaml")).unwrap();
        place.edit(from, &to);
        let printed = place.xp(&["check", "spec.yaml"]);
        assert_eq!(printed.code, 2, "{to}: {}", printed.stderr);
        // The message may be broken into lines.
        let said = printed.stderr.replace("\n  │ ", " ");
        assert!(said.contains(at) && said.contains("help:") && said.contains(says), "{to}, {says}: {said}");
        fs::write(place.path("spec.yaml"), text).unwrap();
    }
}
