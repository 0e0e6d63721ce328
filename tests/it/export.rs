//! `xp export`: what is written reads back, and Keras and safetensors open it and give the same answers.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::support::{Place, printed};

/// Set where a missing Python is a fault and not a skip.
const PYTHON_IS_REQUIRED: &str = "XP_REQUIRE_PYTHON";

const FILES: [(&str, &str); 5] = [
    ("keras-h5", "-kh5.h5"),
    ("h5", "-full.h5"),
    ("weights-h5", ".weights.h5"),
    ("keras", ".keras"),
    ("safetensors", ".safetensors"),
];

/// Not a file of weights that `xp` takes.
const ARRAYS: (&str, &str) = ("npz", ".npz");

/// Networks whose exports are opened: their name and what their spec sets.
fn networks() -> [(&'static str, &'static str); 4] {
    [
        (
            "vgg16",
            "model={ backbone: vgg16, weights: random, frozen_layers: 15, head: [flatten, { dense: { units: 8, activation: relu } }, { dropout: 0.5 }, { dense: { units: 1, activation: sigmoid } }] }",
        ),
        ("resnet18", "model={ backbone: resnet18, weights: random, frozen_layers: { stages: 4 }, batch_norm: train }"),
        ("mobilenet_v2", "model={ backbone: mobilenet_v2, weights: random, frozen_layers: all }"),
        ("efficientnet_lite0", "model={ backbone: efficientnet_lite0, frozen_layers: { stages: 7 } }"),
    ]
}

/// Trains for an epoch on 32×32 images and exports in every format.
fn export(place: &Place, name: &str, model: &str, formats: &[(&str, &str)]) {
    let trained = place.xp(&["run", "spec.yaml", "--name", name, "--set", model, "--set", "epochs=1"]);
    assert_eq!(trained.code, 0, "{}", trained.stderr);
    for (format, ending) in formats {
        let file = format!("{name}{ending}");
        let exported = place.xp(&["export", name, "--format", format, "-o", &file, "--verify"]);
        assert_eq!(exported.code, 0, "{format}: {}", exported.stderr);
        let says = "tensors read back are the same to the bit; logits for 4 images are the same to the bit";
        assert!(exported.stderr.contains(says), "{}", exported.stderr);
    }
}

/// The image of tests/interop/check_exports.py, which is as large as the network's input.
fn write_image(path: &Path) {
    let pixel = |x: u32, y: u32, c: u32| ((7 * y + 13 * x + 29 * c + 5 * (x * y % 17)) % 256) as u8;
    image::RgbImage::from_fn(32, 32, |x, y| image::Rgb([0, 1, 2].map(|c| pixel(x, y, c)))).save(path).unwrap();
}

/// Keys and shapes of torchvision 0.29's vgg16 and resnet18, made by tests/fixtures/make_torch_keys.py.
fn torch_keys(name: &str) -> BTreeMap<String, Value> {
    let keys: Value = serde_json::from_str(include_str!("../fixtures/torch_keys.json")).unwrap();
    keys[name].as_object().unwrap().clone().into_iter().collect()
}

#[test]
fn keras_and_safetensors_open_the_exports_and_agree() {
    let Some(python) = python() else { return };
    let place = Place::new();
    write_image(&place.path("formula.png"));
    let mut cases = serde_json::Map::new();
    for (name, model) in networks() {
        // A run called as a backbone is would be hidden by it.
        let run = format!("my-{name}");
        export(&place, &run, model, &[&FILES[..], &[ARRAYS]].concat());
        let answer = place.json(&["predict", &run, "formula.png", "--json"]);
        let top = answer["images"][0]["top"].as_array().unwrap();
        let probability = |class: &Value| (class["class"].as_str().unwrap().to_owned(), class["probability"].clone());
        let probabilities: serde_json::Map<String, Value> = top.iter().map(probability).collect();
        let head = if name == "vgg16" { &["head.1", "head.3"][..] } else { &["head.1"] };
        let head: Vec<String> =
            head.iter().flat_map(|layer| [format!("{layer}.weight"), format!("{layer}.bias")]).collect();
        cases.insert(run, json!({ "probabilities": probabilities, "torch": torch_keys(name), "head": head }));
    }
    fs::write(place.path("cases.json"), Value::Object(cases).to_string()).unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop/check_exports.py");
    let checked = printed(&Command::new(python).arg(script).arg(place.folder.path()).output().unwrap());
    assert_eq!(checked.code, 0, "{}{}", checked.stdout, checked.stderr);
    assert!(checked.stdout.ends_with("ok\n"), "{}", checked.stdout);
    assert_eq!(checked.stdout.lines().count(), 17, "{}", checked.stdout);
}

/// A Python with Keras; where it is not required, a missing one is said.
fn python() -> Option<String> {
    let python = std::env::var("XP_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let import = "import os; os.environ['KERAS_BACKEND'] = 'jax'; import keras, h5py, safetensors";
    let found = Command::new(&python).args(["-c", import]).output().is_ok_and(|output| output.status.success());
    let is_required = std::env::var_os(PYTHON_IS_REQUIRED).is_some();
    assert!(found || !is_required, "{python} has no keras, h5py and safetensors");
    if !found {
        eprintln!("not checked with Keras: {python} has no keras, h5py and safetensors (XP_PYTHON names another)");
    }
    found.then_some(python)
}

#[test]
fn an_export_is_a_later_runs_starting_point() {
    let place = Place::new();
    export(&place, "tiny", "model={ backbone: vgg_tiny, weights: random }", &[&FILES[..], &[ARRAYS]].concat());
    let hash = |set: &str| {
        let run = place.xp(&["run", "spec.yaml", "--set", set, "--set", "epochs=1", "--json"]);
        assert_eq!(run.code, 0, "{}", run.stderr);
        let run: Value = serde_json::from_str(&run.stdout).unwrap();
        run["model"]["frozen_hash"].as_str().unwrap().to_owned()
    };
    let drawn = hash("model={ backbone: vgg_tiny, weights: random }");
    for (_, ending) in FILES {
        let set = format!("model={{ backbone: vgg_tiny, weights: {{ file: tiny{ending}, as: vgg_tiny.keras }} }}");
        assert_eq!(hash(&set), drawn, "{ending}");
    }
}

#[test]
fn files_that_are_there_stay_unless_forced() {
    let place = Place::new();
    export(&place, "tiny", "model={ backbone: vgg_tiny, weights: random }", &FILES[4..]);
    let again = ["export", "tiny", "--format", "safetensors", "-o", "tiny.safetensors"];
    let refused = place.xp(&again);
    assert_eq!(refused.code, 2, "{}", refused.stderr);
    assert!(refused.stderr.contains("--force"), "{}", refused.stderr);
    assert_eq!(place.xp(&[&again[..], &["--force"]].concat()).code, 0);
    let misnamed = place.xp(&["export", "tiny", "--format", "weights-h5", "-o", "tiny.h5"]);
    assert!(misnamed.code == 2 && misnamed.stderr.contains(".weights.h5"), "{}", misnamed.stderr);
    let printed = place.xp(&["export", "tiny", "--format", "json"]);
    let text = fs::read_to_string(place.path(printed.stdout.trim())).unwrap();
    assert_eq!(serde_json::from_str::<Value>(&text).unwrap()["name"], "tiny");
}
