//! `xp export`: what is written reads back, and Keras and safetensors open it and give the same answers.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::support::{Place, Printed, printed};

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
    let pythons: Vec<String> = [python].into_iter().chain(other_pythons()).collect();
    exports_open(&pythons);
}

/// Other backends than JAX, and tf_keras: by hand, since they are gigabytes.
///
/// Each of `XP_OTHER_PYTHONS` is a program that runs Python with its own `KERAS_BACKEND` or `XP_KERAS_MODULE`.
#[test]
#[ignore = "needs Pythons with Keras on other backends, and with tf_keras, listed in XP_OTHER_PYTHONS"]
fn other_backends_and_tf_keras_open_the_exports_and_agree() {
    let pythons = other_pythons();
    assert!(!pythons.is_empty(), "XP_OTHER_PYTHONS lists none");
    exports_open(&pythons);
}

fn exports_open(pythons: &[String]) {
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
        // A head of one dense layer is called as the package's classifier; Keras' form of MobileNetV2 is in no package.
        let (head, is_of_package) = match name {
            "vgg16" => (&["head.1", "head.3"][..], true),
            "resnet18" => (&["fc"][..], true),
            "efficientnet_lite0" => (&["classifier"][..], true),
            _ => (&["head.1"][..], false),
        };
        let head: Vec<String> =
            head.iter().flat_map(|layer| [format!("{layer}.weight"), format!("{layer}.bias")]).collect();
        let (torch, foreign) = if is_of_package { ("torch", "foreign") } else { ("foreign", "torch") };
        cases
            .insert(run, json!({ "probabilities": probabilities, torch: torch_keys(name), foreign: {}, "head": head }));
    }
    fs::write(place.path("cases.json"), Value::Object(cases).to_string()).unwrap();
    for python in pythons {
        let checked = script(python, "check_exports.py", &[place.folder.path().to_str().unwrap()]);
        assert!(checked.stdout.ends_with("ok\n"), "{}", checked.stdout);
        // Four formats of each network, or two where the others are not the library's own.
        assert!([17, 9].contains(&checked.stdout.lines().count()), "{}", checked.stdout);
    }
}

/// Runs a script of tests/interop.
fn script(python: &str, name: &str, arguments: &[&str]) -> Printed {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop").join(name);
    let done = printed(&Command::new(python).arg(script).args(arguments).output().unwrap());
    assert_eq!(done.code, 0, "{python} {name} {arguments:?}\n{}{}", done.stdout, done.stderr);
    done
}

/// Pythons with other versions or backends of Keras, as `XP_OTHER_PYTHONS` lists them with colons between.
fn other_pythons() -> Vec<String> {
    let listed = std::env::var("XP_OTHER_PYTHONS").unwrap_or_default();
    listed.split(':').filter(|python| !python.is_empty()).map(str::to_owned).collect()
}

/// What a stranger makes of an export and the file beside it, knowing nothing else: photos, PNG and JPEG.
fn stranger(place: &Place, python: &str, exports: &[(&str, &str, &str)]) {
    let photo = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/coffee.png");
    let photos = place.path("photos");
    script(python, "stranger.py", &["photos", photo.to_str().unwrap(), photos.to_str().unwrap()]);
    for (run, format, file) in exports {
        let exported = place.xp(&["export", run, "--format", format, "-o", file]);
        assert_eq!(exported.code, 0, "{}", exported.stderr);
        let answers = place.xp(&["predict", run, "photos", "--top", "1000", "--json"]);
        assert_eq!(answers.code, 0, "{}", answers.stderr);
        fs::write(place.path(&format!("{file}.answers.json")), answers.stdout).unwrap();
    }
    let folder = place.folder.path().to_str().unwrap();
    let files = exports.iter().map(|(.., file)| *file);
    let arguments: Vec<&str> = ["check", folder].into_iter().chain(files).collect();
    let checked = script(python, "stranger.py", &arguments);
    assert!(checked.stdout.ends_with("ok\n"), "{}", checked.stdout);
    assert_eq!(checked.stdout.lines().count(), exports.len() + 1, "{}", checked.stdout);
}

const LITE0: &str = "model={ backbone: efficientnet_lite0, frozen_layers: all }";
/// Pixels of Keras' VGG: blue first, without means; the nearest pixel, one sigmoid unit.
const SIGMOID: &str = "model={ backbone: vgg_tiny, weights: random, frozen_layers: 3, head: [flatten, { dense: { units: 1, activation: sigmoid } }] }";

#[test]
fn a_stranger_computes_the_same_from_a_keras_export_and_its_sidecar() {
    let Some(python) = python() else { return };
    let place = Place::new();
    let run = |name: &str, sets: &[&str]| {
        let sets = sets.iter().flat_map(|set| ["--set", set]);
        let arguments: Vec<&str> = ["run", "spec.yaml", "--name", name].into_iter().chain(sets).collect();
        let trained = place.xp(&arguments);
        assert_eq!(trained.code, 0, "{}", trained.stderr);
    };
    run("softmax", &["epochs=2", "data.image_size=[64, 96]", LITE0]);
    run("sigmoid", &["epochs=1", "data.image_size=64", "data.resize=nearest", SIGMOID]);
    stranger(&place, &python, &[("softmax", "keras", "softmax.keras"), ("sigmoid", "h5", "sigmoid.h5")]);
}

/// With PyTorch, torchvision and timm: by hand, since a machine of CI has none of them.
///
/// `XP_TORCH_PYTHON=… cargo test -- --ignored a_stranger_computes_the_same_in_pytorch`
#[test]
#[ignore = "needs a Python with torch, torchvision, timm and safetensors, named by XP_TORCH_PYTHON"]
fn a_stranger_computes_the_same_in_pytorch() {
    let python = std::env::var("XP_TORCH_PYTHON").expect("XP_TORCH_PYTHON names a Python with torch");
    let place = Place::new();
    let networks = [
        ("lite0", LITE0, "data.image_size=[64, 96]"),
        (
            "resnet18",
            "model={ backbone: resnet18, weights: random, frozen_layers: { stages: 4 } }",
            "data.image_size=64",
        ),
        ("resnet50", "model={ backbone: resnet50, weights: random, frozen_layers: all }", "data.image_size=64"),
        ("vgg11", "model={ backbone: vgg11, weights: random, frozen_layers: all }", "data.resize=bicubic"),
    ];
    let mut exports = Vec::new();
    for (name, model, set) in networks {
        let trained =
            place.xp(&["run", "spec.yaml", "--name", name, "--set", model, "--set", set, "--set", "epochs=1"]);
        assert_eq!(trained.code, 0, "{}", trained.stderr);
        // Keras' form of ResNet50 is in no package.
        if name != "resnet50" {
            exports.push((name, "safetensors", format!("{name}.safetensors")));
        }
    }
    let exports: Vec<(&str, &str, &str)> =
        exports.iter().map(|(run, format, file)| (*run, *format, file.as_str())).collect();
    // A run called as a backbone is would be ambiguous, so that each is named by its id.
    let ids: Vec<String> = exports
        .iter()
        .map(|(run, ..)| place.json(&["show", run, "--json"])["id"].as_str().unwrap().to_owned())
        .collect();
    let exports: Vec<(&str, &str, &str)> =
        exports.iter().zip(&ids).map(|((_, format, file), id)| (id.as_str(), *format, *file)).collect();
    stranger(&place, &python, &exports);
    let keras_form = place.json(&["show", "resnet50", "--json"])["id"].as_str().unwrap().to_owned();
    let exported =
        place.xp(&["export", &keras_form, "--format", "safetensors", "-o", "keras_form.safetensors", "--verify"]);
    assert_eq!(exported.code, 0, "{}", exported.stderr);
    let beside: Value =
        serde_json::from_str(&fs::read_to_string(place.path("keras_form.safetensors.json")).unwrap()).unwrap();
    assert_eq!(beside["framework"], Value::Null);
}

/// A Python with Keras; where it is not required, a missing one is said.
fn python() -> Option<String> {
    let python = std::env::var("XP_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let import = "import os; os.environ['KERAS_BACKEND'] = 'jax'; import keras, h5py, safetensors, PIL";
    let found = Command::new(&python).args(["-c", import]).output().is_ok_and(|output| output.status.success());
    let is_required = std::env::var_os(PYTHON_IS_REQUIRED).is_some();
    assert!(found || !is_required, "{python} has no keras, h5py, safetensors and Pillow");
    if !found {
        eprintln!(
            "not checked with Keras: {python} has no keras, h5py, safetensors and Pillow (XP_PYTHON names another)"
        );
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
    // What is no file stays what it is, and a link goes on to lead to its file.
    fs::create_dir(place.path("folder.npz")).unwrap();
    let folder = place.xp(&["export", "tiny", "--format", "npz", "-o", "folder.npz", "--force"]);
    assert!(folder.code == 2 && folder.stderr.contains("no file that could be replaced"), "{}", folder.stderr);
    #[cfg(unix)]
    {
        fs::write(place.path("target.npz"), "").unwrap();
        std::os::unix::fs::symlink("target.npz", place.path("link.npz")).unwrap();
        assert_eq!(place.xp(&["export", "tiny", "--format", "npz", "-o", "link.npz", "--force"]).code, 0);
        assert!(place.path("link.npz").is_symlink() && fs::metadata(place.path("target.npz")).unwrap().len() > 0);
    }
    let misnamed = place.xp(&["export", "tiny", "--format", "weights-h5", "-o", "tiny.h5"]);
    assert!(misnamed.code == 2 && misnamed.stderr.contains(".weights.h5"), "{}", misnamed.stderr);
    let printed = place.xp(&["export", "tiny", "--format", "json"]);
    let text = fs::read_to_string(place.path(printed.stdout.trim())).unwrap();
    assert_eq!(serde_json::from_str::<Value>(&text).unwrap()["name"], "tiny");
}
