//! `xp features`, and heads that train on what it wrote.

use std::fs;
use std::path::Path;
use std::sync::mpsc::sync_channel;

use serde_json::Value;
use xp::data::npy::Header;
use xp::run::event::{Event, Phase};
use xp::run::metric::Split;
use xp::run::stop::StopFlag;
use xp::settings::Resources;
use xp::spec::LoadedSpec;
use xp::train::channel::Events;
use xp::train::extract::folder::Overwrite;
use xp::train::extract::{Extracted, Extraction};
use xp::train::plan::plan;
use xp::train::{Completion, device};

use crate::support::Place;

/// The head of the place's spec on the features of its images.
const HEAD: &str = "\
name: head
seed: 7
device: cpu
data:
  train: { features: features/train.npy, labels: features/train_labels.npy }
  valid: { features: features/valid.npy, labels: features/valid_labels.npy }
  test: { features: features/test.npy, labels: features/test_labels.npy }
  batch_size: 4
model:
  head: [global_average_pool, { dropout: 0.2 }, { dense: { units: 2, activation: softmax } }]
optimizer: { adam: { learning_rate: 1.0e-3 } }
epochs: 4
log_every: 1
";

/// Images, their features, and a spec of a head.
fn place() -> Place {
    let place = Place::new();
    let printed = place.xp(&["features", "spec.yaml", "-o", "features", "--device", "cpu"]);
    assert_eq!(printed.code, 0, "{}", printed.stderr);
    fs::write(place.path("head.yaml"), HEAD).unwrap();
    place
}

fn array(path: &Path) -> (Header, Vec<u8>) {
    let bytes = fs::read(path).unwrap();
    let header = Header::read(&mut bytes.as_slice()).unwrap();
    let values = bytes[header.start as usize..].to_vec();
    (header, values)
}

fn run(place: &Place, spec: &str, more: &[&str]) -> Value {
    place.json(&[&["run", spec, "--json"], more].concat())
}

fn close(a: &Value, b: &Value) -> bool {
    (a.as_f64().unwrap() - b.as_f64().unwrap()).abs() <= 1e-5
}

#[test]
fn the_files_are_numpys_and_say_what_they_are_made_of() {
    let place = place();
    let (header, values) = array(&place.path("features/train.npy"));
    assert_eq!((header.descr.as_str(), header.shape.as_slice()), ("<f4", [12, 1, 1, 1280].as_slice()));
    assert_eq!(values.len(), 12 * 1280 * 4);
    let (header, labels) = array(&place.path("features/train_labels.npy"));
    assert_eq!((header.descr.as_str(), header.shape.as_slice()), ("<i8", [12].as_slice()));
    let expected: Vec<u8> = (0..12_i64).flat_map(|i| (i / 6).to_le_bytes()).collect();
    assert_eq!(labels, expected);
    let files = fs::read_to_string(place.path("features/valid_files.csv")).unwrap();
    assert!(files.starts_with("path,label\nblue/0.png,blue\n") && files.ends_with("red/3.png,red\n"), "{files}");
    let classes: Vec<String> = serde_json::from_slice(&fs::read(place.path("features/classes.json")).unwrap()).unwrap();
    assert_eq!(classes, ["blue", "red"]);
    let manifest: Value = serde_json::from_slice(&fs::read(place.path("features/manifest.json")).unwrap()).unwrap();
    let made_of = &manifest["made_of"];
    assert_eq!((&made_of["backbone"], &made_of["layer"]), (&"efficientnet_lite0".into(), &"conv_head".into()));
    let hash =
        |name: &str| blake3::hash(&fs::read(place.path(&format!("features/{name}"))).unwrap()).to_hex().to_string();
    for (i, split) in ["train", "valid", "test"].into_iter().enumerate() {
        assert_eq!(manifest["splits"][i]["features"]["blake3"], hash(&format!("{split}.npy")));
    }
    let mut names: Vec<_> =
        fs::read_dir(place.path("features")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names.len(), 11, "{names:?}");
}

#[test]
fn a_head_learns_from_features_what_it_learns_from_their_images() {
    let place = place();
    place.edit("epochs: 2", "epochs: 4");
    let (of_images, of_features) = (run(&place, "spec.yaml", &["--device", "cpu"]), run(&place, "head.yaml", &[]));
    for metric in ["train.loss", "valid.loss", "valid.accuracy", "test.loss"] {
        let [a, b] = [&of_images, &of_features].map(|run| &run["metrics"][metric]["last"]);
        assert!(close(a, b), "{metric}: {a} and {b}");
    }
    assert_eq!(of_features["model"]["n_parameters"], 2562);
    assert_eq!(of_features["data"]["classes"], of_images["data"]["classes"]);
    assert_eq!(of_features["params"].get("model.backbone"), None);
    let shown = place.xp(&["show", "@1"]);
    assert!(shown.code == 0 && place.xp(&["compare"]).code == 0 && place.xp(&["summary", "@1"]).code == 0);
    assert!(place.xp(&["summary", "head.yaml"]).stdout.contains("1280×1×1"));
}

#[test]
fn a_run_on_features_goes_on_to_the_same_bytes() {
    let place = place();
    let whole = run(&place, "head.yaml", &["--name", "whole"]);
    run(&place, "head.yaml", &["--name", "half", "--set", "epochs=2"]);
    let half = place.json(&["resume", "half", "--epochs", "4", "--json"]);
    assert_eq!(half["trained"], whole["trained"]);
    for metric in ["train.loss", "valid.loss"] {
        assert_eq!(half["metrics"][metric], whole["metrics"][metric]);
    }
    // Other features than the run began with are not its data.
    let bytes = fs::read(place.path("features/train.npy")).unwrap();
    let mut other = bytes;
    *other.last_mut().unwrap() ^= 1;
    fs::write(place.path("features/train.npy"), other).unwrap();
    let printed = place.xp(&["resume", "half", "--epochs", "6"]);
    assert!(printed.code == 1 && printed.stderr.contains("the train images are not those"), "{}", printed.stderr);
}

#[test]
fn everything_else_works_on_features_too() {
    let place = place();
    let more = "steps_per_epoch: 2\nvalidation_steps: 1\nclass_weights: balanced\n";
    fs::write(place.path("head.yaml"), format!("{HEAD}{more}")).unwrap();
    let shown = run(&place, "head.yaml", &["--set", "data.valid={ fraction: 0.4 }"]);
    let n = |split: &str| shown["data"]["splits"][split]["n_images"].as_u64().unwrap();
    assert_eq!((n("train"), n("valid")), (8, 4));
    assert_eq!(shown["state"], "finished");
}

#[test]
fn evaluate_measures_a_part_when_asked() {
    let place = place();
    run(&place, "head.yaml", &[]);
    let of = |arguments: &[&str]| place.json(&[&["evaluate", "@1", "--json"], arguments].concat());
    let [all, named, part] = [&[][..], &["--data", "features"], &["--steps", "1"]].map(of);
    assert_eq!(named["metrics"], all["metrics"], "a folder's test.npy comes first");
    assert_eq!((&all["n_images"], &part["n_images"], &part["n_split_images"]), (&8.into(), &4.into(), &8.into()));
    assert_eq!(of(&["--steps", "1"])["metrics"], part["metrics"], "the same images every time");
    assert_eq!(of(&["--steps", "99"])["metrics"], all["metrics"]);
    let printed = place.xp(&["evaluate", "@1", "--data", "features/valid.npy", "--steps", "1"]);
    assert!(printed.stdout.ends_with("4 of 8 images\n"), "{}", printed.stdout);
    // Without names beside them, labels count the run's classes.
    fs::create_dir(place.path("mine")).unwrap();
    for name in ["valid.npy", "valid_labels.npy"] {
        fs::copy(place.path(&format!("features/{name}")), place.path(&format!("mine/{name}"))).unwrap();
    }
    assert_eq!(of(&["--data", "mine"])["metrics"], of(&["--data", "features/valid.npy"])["metrics"]);
    let other = Header::of("<f4", &[8, 2]).bytes();
    fs::write(place.path("mine/valid.npy"), [other, vec![0; 64]].concat()).unwrap();
    let printed = place.xp(&["evaluate", "@1", "--data", "mine"]);
    assert!(
        printed.code == 2 && printed.stderr.contains("are (1, 1, 2), and those of data.train"),
        "{}",
        printed.stderr
    );
}

/// Behind the backbone that made its features, a head sees images.
#[test]
fn a_head_works_behind_its_backbone() {
    let place = place();
    run(&place, "head.yaml", &["--name", "head"]);
    let measured = |data: &str, more: &[&str]| {
        let evaluated = place.json(&[&["evaluate", "head", "--json", "--data", data], more].concat());
        evaluated["metrics"]["loss"].as_f64().unwrap()
    };
    let on_features = measured("features/test.npy", &[]);
    for more in [&[][..], &["--behind", "features"], &["--behind", "spec.yaml"]] {
        let on_images = measured("data/test", more);
        assert!((on_images - on_features).abs() < 1e-5, "{more:?}: {on_images}, {on_features}");
    }
    let seen = place.xp(&["predict", "head", "data/test/red/0.png"]);
    assert!(seen.code == 0 && seen.stdout.contains("red"), "{}{}", seen.stdout, seen.stderr);
    // Alone, and with its backbone.
    for more in [&["-o", "head.keras"][..], &["-o", "whole.keras", "--behind", "spec.yaml"]] {
        let exported = place.xp(&[&["export", "head", "--format", "keras", "--verify"], more].concat());
        assert_eq!(exported.code, 0, "{}", exported.stderr);
    }
    let sidecar = |file: &str| -> Value {
        serde_json::from_slice(&fs::read(place.path(&format!("{file}.json"))).unwrap()).unwrap()
    };
    assert_eq!(
        (&sidecar("head.keras")["backbone"], &sidecar("head.keras")["preprocessing"]),
        (&Value::Null, &Value::Null)
    );
    assert_eq!(sidecar("head.keras")["features"]["backbone"], sidecar("whole.keras")["backbone"]["name"]);
    fs::remove_file(place.path("features/manifest.json")).unwrap();
    let unknown = place.xp(&["predict", "head", "data/test/red/0.png"]);
    assert!(unknown.code == 2 && unknown.stderr.contains("--behind"), "{}", unknown.stderr);
    let own = place.xp(&["run", "spec.yaml", "--name", "whole", "--set", "epochs=1"]);
    assert_eq!(own.code, 0, "{}", own.stderr);
    let refused = place.xp(&["predict", "whole", "data/test/red/0.png", "--behind", "spec.yaml"]);
    assert!(refused.code == 2 && refused.stderr.contains("a backbone of its own"), "{}", refused.stderr);
}

#[test]
fn features_that_cannot_be_used_are_refused_where_the_spec_names_them() {
    let place = place();
    let path = place.path("features/valid.npy");
    let (header, mut values) = array(&path);
    values[20..24].copy_from_slice(&f32::NAN.to_le_bytes());
    fs::write(&path, [header.bytes(), values].concat()).unwrap();
    let printed = place.xp(&["run", "head.yaml"]);
    assert_eq!(printed.code, 1);
    assert!(printed.stderr.contains("valid.npy#0: use it: value 5 of its features is NaN"), "{}", printed.stderr);
    fs::write(&path, "no array").unwrap();
    let printed = place.xp(&["check", "head.yaml"]);
    assert_eq!(printed.code, 2);
    assert!(printed.stderr.contains("data.valid.features: cannot use"), "{}", printed.stderr);
    assert!(printed.stderr.contains("head.yaml:6:"), "{}", printed.stderr);
    let printed = place.xp(&["augment", "head.yaml", "-o", "a.png", "--set", "data.valid={ fraction: 0.4 }"]);
    assert!(printed.code == 2 && printed.stderr.contains("only images can be shown"), "{}", printed.stderr);
}

#[test]
fn what_is_done_stays_and_other_features_are_refused() {
    let place = place();
    let features =
        |more: &[&str]| place.xp(&[&["features", "spec.yaml", "-o", "features", "--device", "cpu"], more].concat());
    let again = features(&["--json"]);
    let again: Value = serde_json::from_str(&again.stdout).unwrap();
    assert_eq!(again["n_computed"], 0);
    let same =
        features(&["--set", "epochs=9", "--set", "model.head=[flatten, { dense: { units: 2, activation: softmax } }]"]);
    assert!(same.code == 0 && same.stdout.ends_with("0 of 28 rows computed\n"), "{}", same.stdout);
    let other = features(&["--set", "data.image_size=64", "--set", "data.resize=nearest"]);
    assert_eq!(other.code, 1);
    assert!(other.stderr.contains("another image size, filter or orientation, shape;"), "{}", other.stderr);
    let random = |seed: &str| features(&["--set", "model.weights=random", "--set", seed, "--force"]).code;
    assert_eq!(random("seed=1"), 0);
    let other = features(&["--set", "model.weights=random", "--set", "seed=2"]);
    assert!(other.code == 1 && other.stderr.contains("another weights;"), "{}", other.stderr);
    assert_eq!(features(&["--set", "data.image_size=64", "--force"]).code, 0);
    assert_eq!(array(&place.path("features/valid.npy")).0.shape, [8, 2, 2, 1280]);
    // A file that is no longer what was written is not taken for it.
    fs::write(place.path("features/valid.npy"), "mine").unwrap();
    let changed = features(&["--set", "data.image_size=64"]);
    assert!(changed.code == 1 && changed.stderr.contains("it has changed since"), "{}", changed.stderr);

    let foreign = place.xp(&["features", "spec.yaml", "-o", "data", "--force"]);
    assert!(foreign.code == 1 && foreign.stderr.contains("not a folder that `xp features` made"), "{}", foreign.stderr);
    let of_features = place.xp(&["features", "head.yaml", "-o", "again"]);
    assert!(of_features.code == 2 && of_features.stderr.contains("features already"), "{}", of_features.stderr);
}

#[test]
fn an_earlier_row_can_be_asked_for() {
    let place = Place::new();
    let layer = |row: &str| place.xp(&["features", "spec.yaml", "-o", "early", "--device", "cpu", "--layer", row]);
    // blocks.1.1 has a residual branch.
    let inside = layer("blocks.1.1.conv_dw");
    assert!(
        inside.code == 2 && inside.stderr.contains("blocks.1.0.conv_pwl is the last row before it"),
        "{}",
        inside.stderr
    );
    assert_eq!(layer("blocks.1.0.conv_pwl").code, 0);
    assert_eq!(array(&place.path("early/train.npy")).0.shape, [12, 8, 8, 24]);
}

/// Extracts, and raises the stop flag when a split begins.
fn extract(place: &Place, output: &str, stop_at: Option<Split>) -> Completion<Extracted> {
    let loaded = LoadedSpec::read(&place.path("spec.yaml"), &["device=cpu".to_owned()]).unwrap();
    let plan = plan(&loaded).unwrap();
    let device = device::open(plan.spec.device).unwrap();
    let stop = StopFlag::default();
    let output = place.path(output);
    std::thread::scope(|scope| {
        let (sender, receiver) = sync_channel(0);
        let (plan, device, output, raised) = (&plan, &device, &output, stop.clone());
        let spec_path = &loaded.path;
        let extracting = scope.spawn(move || {
            let (resources, events) = (Resources::new(Some(1)), Events::new(sender));
            Extraction { plan, spec_path, device, output, overwrite: Overwrite::Never, resources, events, stop }.run()
        });
        for event in receiver {
            if matches!(event, Event::PhaseStarted { phase: Phase::Prefix(split), .. } if Some(split) == stop_at) {
                raised.raise();
            }
        }
        extracting.join().unwrap().unwrap()
    })
}

#[test]
fn a_stopped_extraction_goes_on_to_the_same_bytes() {
    let place = Place::new();
    extract(&place, "whole", None);
    assert!(matches!(extract(&place, "stopped", Some(Split::Valid)), Completion::Stopped));
    assert!(place.path("stopped/train.npy").exists() && !place.path("stopped/manifest.json").exists());
    let Completion::Done(extracted) = extract(&place, "stopped", None) else { panic!("nothing stopped it") };
    assert!(extracted.n_computed <= 16, "the train split is not done again");
    for name in ["train.npy", "valid.npy", "test.npy", "train_labels.npy", "test_files.csv", "manifest.json"] {
        let [whole, stopped] =
            ["whole", "stopped"].map(|folder| fs::read(place.path(&format!("{folder}/{name}"))).unwrap());
        assert_eq!(whole, stopped, "{name}");
    }
}
