//! Files of weights as people have them: every format of many versions of Keras, tf_keras and PyTorch, in models within
//! models, behind wrappers, beside other things. tests/fixtures/make_weight_matrix.py made them with the libraries
//! themselves and lists them in index.json.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use flate2::read::GzDecoder;
use serde::Deserialize;
use serde_json::Value;
use xp::models::backbone;
use xp::models::layout::{Form, Layout};
use xp::models::parameters::{Parameters, Role, TensorAddress};
use xp::models::top;
use xp::spec::schema::model::BackboneName;
use xp::spec::schema::weights::{Selection, Weights};
use xp::weights::load::{FileParameters, LoadError};
use xp::weights::matching::{How, Top, Wanted};

use crate::support::golden::drawn;

#[derive(Debug, Deserialize)]
struct Entry {
    file: String,
    format: String,
    kind: String,
    /// Whether one network is in it.
    unique: bool,
    /// Whether it holds a part of one alone.
    #[serde(default)]
    part_only: bool,
    values: Option<String>,
    #[serde(default)]
    network: Option<String>,
    #[serde(default)]
    part: Option<String>,
    #[serde(default)]
    key: Vec<Value>,
    #[serde(default)]
    prefix: Option<String>,
    #[serde(default)]
    suffix: Option<String>,
    #[serde(default)]
    alternatives: Vec<Alternative>,
    /// The file's name where others name it.
    #[serde(default)]
    unpack_as: Option<String>,
    #[serde(default, rename = "with")]
    with_files: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct Alternative {
    key: Vec<Value>,
    prefix: String,
    suffix: String,
}

fn fixtures() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/weight_matrix")
}

fn index() -> Vec<Entry> {
    serde_json::from_slice(&std::fs::read(fixtures().join("index.json")).unwrap()).unwrap()
}

/// A file and those it needs, in a folder under the names that they had.
fn unpack(entry: &Entry, all: &[Entry], folder: &Path) -> PathBuf {
    let unpack_one = |entry: &Entry| {
        let path = folder.join(entry.unpack_as.as_ref().unwrap_or(&entry.file));
        let mut bytes = Vec::new();
        let packed = std::fs::File::open(fixtures().join(format!("{}.gz", entry.file))).unwrap();
        GzDecoder::new(packed).read_to_end(&mut bytes).unwrap();
        std::fs::write(&path, bytes).unwrap();
        path
    };
    let stem = entry.file.split("model").next().unwrap_or_default();
    for other in all.iter().filter(|other| {
        other.unpack_as.as_ref().is_some_and(|name| entry.with_files.contains(name)) && other.file.starts_with(stem)
    }) {
        unpack_one(other);
    }
    unpack_one(entry)
}

fn network(entry: &Entry) -> (BackboneName, Layout) {
    let name = match entry.network.as_deref() {
        Some("mobilenet_v2") => BackboneName::MobilenetV2,
        _ => BackboneName::VggTiny,
    };
    (name, backbone::layout(name, Form::Keras))
}

/// What the fixtures' script drew for a tensor.
fn expected(address: &TensorAddress, values: &str, suffix: &str) -> Vec<f32> {
    let name = format!("{}{suffix}", address.name);
    let n = address.n_values();
    let period = values.split("% ").nth(1).and_then(|rest| rest.split(' ').next()).map_or(n, |n| n.parse().unwrap());
    let drawn: Vec<f64> = drawn(&name, period.min(n)).collect();
    let value = |unit: f64| match address.role {
        Role::Kernel { .. } => unit * (6.0 / address.shape[1..].iter().product::<usize>() as f64).sqrt(),
        Role::NormScale | Role::RunningVariance => 1.0 + 0.5 * unit,
        _ => 0.1 * unit,
    };
    (0..n).map(|i| value(drawn[i % drawn.len()]) as f32).collect()
}

/// How far a value may be from what was drawn, as a part of it.
fn tolerance(values: &str) -> f32 {
    match values.rsplit(", ").next() {
        Some("bf16") => 1.0 / 128.0,
        Some("f16") => 1.0 / 1024.0,
        _ => 1e-6,
    }
}

fn holds(file: &FileParameters, layout: &Layout, values: &str, suffix: &str) -> Result<(), String> {
    for address in layout.nodes.iter().flat_map(|node| node.operation.tensors()) {
        let found = file.values(&address).map_err(|error| error.to_string())?;
        let expected = expected(&address, values, suffix);
        let most = |expected: f32| tolerance(values) * expected.abs().max(1e-3);
        if let Some(i) = (0..found.len()).find(|&i| (found[i] - expected[i]).abs() > most(expected[i])) {
            return Err(format!("{} has {} and not {} at {i}", address.name, found[i], expected[i]));
        }
    }
    Ok(())
}

fn path_of(key: &[Value]) -> Option<String> {
    let parts: Vec<String> = key.iter().map(|part| part.as_str().map_or(part.to_string(), str::to_owned)).collect();
    (!parts.is_empty()).then(|| parts.join("."))
}

/// Opens with a selection as a spec would have it.
fn open(entry: &Entry, path: &Path, selection: &Selection) -> Result<FileParameters, LoadError> {
    let (name, layout) = network(entry);
    let known = top::imagenet(name, [1; 3]);
    FileParameters::open(path, Wanted { layout: &layout, top: Top::Known(&known) }, selection, String::new())
}

/// Kinds of files that hold no weights that `xp` reads; each must say so, and nothing of damage.
fn is_refused(entry: &Entry) -> bool {
    let is_shard =
        entry.unpack_as.as_ref().is_some_and(|name| !name.ends_with(".json")) && !entry.with_files.is_empty();
    matches!(entry.format.as_str(), "keras_json" | "torch_export" | "lfs_pointer")
        || entry.kind == "shard"
        || is_shard
        // A state dict of NumPy's arrays in place of tensors.
        || entry.file == "pt.numpy_state.pth"
}

#[test]
fn every_file_gives_the_tensors_that_were_put_into_it() {
    let all = index();
    assert!(all.len() > 200, "{}", all.len());
    let (mut faults, mut n_read, mut n_chosen) = (Vec::new(), 0, 0);
    let mut by_how: BTreeMap<String, usize> = BTreeMap::new();
    for entry in all.iter().filter(|entry| !is_refused(entry) && !entry.part_only) {
        let Some(values) = &entry.values else { continue };
        let folder = tempfile::tempdir().unwrap();
        let path = unpack(entry, &all, folder.path());
        let (_, layout) = network(entry);
        let suffix = entry.suffix.as_deref().unwrap_or_default();
        let opened = open(entry, &path, &Selection::default());
        match (entry.unique, opened) {
            (true, Ok(file)) => {
                *by_how.entry(format!("{:?}", file.matched().how)).or_default() += 1;
                n_read += 1;
                faults.extend(
                    holds(&file, &layout, values, suffix).err().map(|fault| format!("{}: {fault}", entry.file)),
                );
            }
            (true, Err(error)) => faults.push(format!("{}: {error}", entry.file)),
            (false, Ok(file)) if file.matched().warnings.is_empty() => {
                // The same tensors under two names are one network.
                let is_one = entry.alternatives.iter().all(|other| other.suffix == suffix);
                if !is_one {
                    faults.push(format!("{}: it is read without a word", entry.file));
                }
            }
            (false, Ok(file)) => {
                let average = holds(&file, &layout, values, ".two");
                faults.extend(average.err().map(|fault| format!("{}: {fault}", entry.file)));
            }
            (false, Err(LoadError::Unfit { unfit, .. })) if unfit.hint.is_some() => {}
            (false, Err(error)) => faults.push(format!("{}: {error}", entry.file)),
        }
        // What is chosen is read, whatever stands beside it.
        let own = Alternative {
            key: entry.key.clone(),
            prefix: entry.prefix.clone().unwrap_or_default(),
            suffix: suffix.to_owned(),
        };
        let is_torch = entry.prefix.is_some();
        let choices: Vec<(Selection, &str)> = if is_torch {
            let choice = |choice: &Alternative| Selection {
                key: path_of(&choice.key),
                prefix: Some(choice.prefix.clone()),
                ..Selection::default()
            };
            entry.alternatives.iter().chain([&own]).map(|other| (choice(other), other.suffix.as_str())).collect()
        } else if let Some(part) = &entry.part {
            let choice = |part: &str| Selection { part: Some(part.to_owned()), ..Selection::default() };
            let second = (entry.kind == "two").then(|| (choice("two"), ".two"));
            [(choice(part), suffix)].into_iter().chain(second).collect()
        } else {
            Vec::new()
        };
        for (selection, suffix) in choices {
            let names_no_part = entry.part.is_some() && !knows_names(entry);
            if names_no_part {
                continue;
            }
            n_chosen += 1;
            let held = open(entry, &path, &selection)
                .map_err(|error| error.to_string())
                .and_then(|file| holds(&file, &layout, values, suffix));
            faults.extend(held.err().map(|fault| format!("{} by {selection:?}: {fault}", entry.file)));
        }
    }
    assert!(faults.is_empty(), "{} faults of {n_read}\n{}", faults.len(), faults.join("\n"));
    assert!(n_read > 100 && n_chosen > 40, "{n_read} {n_chosen}");
    assert!(by_how.contains_key(&format!("{:?}", How::Position)), "{by_how:?}");
}

/// Weights before Keras 3.6 hold no names of models, so that `part` takes the groups' names there; neither do older files of
/// models within models within models, nor tf_keras' of a model in an attribute.
fn knows_names(entry: &Entry) -> bool {
    let is_old = ["k3.0.", "k3.3.", "k3.5.", "tfk", "tf.k2"].iter().any(|old| entry.file.starts_with(old));
    let is_deep = matches!(entry.kind.as_str(), "deep" | "time_distributed") && entry.file.ends_with(".h5");
    let is_attribute = entry.kind == "sub_backbone" && entry.file.starts_with("tfk");
    let is_nameless = is_old && entry.format == "v3_weights";
    !(is_nameless || is_deep || is_attribute)
}

/// Whatever else a checkpoint holds, what is said of it is what its weights lack.
#[test]
fn other_objects_beside_the_weights_are_no_damage() {
    let all = index();
    let mut n = 0;
    for entry in all.iter().filter(|entry| entry.part_only) {
        let folder = tempfile::tempdir().unwrap();
        let path = unpack(entry, &all, folder.path());
        let error = open(entry, &path, &Selection::default()).unwrap_err();
        let LoadError::Unfit { unfit, .. } = &error else { panic!("{}: {error}", entry.file) };
        let text = unfit.describe();
        assert!(
            text.contains("it has no ") && text.contains("features.") && !text.contains("damaged"),
            "{}: {text}",
            entry.file
        );
        n += 1;
    }
    assert!(n > 10, "{n}");
}

#[test]
fn what_is_not_read_is_named_for_what_it_is() {
    let all = index();
    let mut n = 0;
    for entry in all.iter().filter(|entry| is_refused(entry) && entry.with_files.is_empty()) {
        let folder = tempfile::tempdir().unwrap();
        let path = unpack(entry, &all, folder.path());
        let text = open(entry, &path, &Selection::default()).unwrap_err().to_string();
        assert!(!text.contains("damaged"), "{}: {text}", entry.file);
        n += 1;
    }
    assert!(n > 1, "{n}");
}

/// A name that the published specs have.
#[test]
fn a_selection_is_part_of_the_spec() {
    let weights: Weights = serde_json::from_value(serde_json::json!({
        "file": "a.pth", "as": "vgg_tiny.torchvision", "key": "state_dict", "prefix": "teacher.", "rename": { "^a": "b" }
    }))
    .unwrap();
    let Weights::File(file) = weights else { panic!("it is a file") };
    let selection = file.selection();
    assert_eq!((selection.key.as_deref(), selection.prefix.as_deref()), (Some("state_dict"), Some("teacher.")));
    assert_eq!(selection.rename.iter().collect::<Vec<_>>(), [("^a", "b")]);
}

/// The names and shapes of others' networks, as their libraries list them.
#[test]
fn networks_are_found_by_the_names_of_hugging_face_and_timm() {
    for (file, backbone, form) in [
        ("hf_resnet18_keys", BackboneName::Resnet18, Form::Torch),
        ("hf_resnet50_keys", BackboneName::Resnet50, Form::Torch),
        ("timm_resnet18", BackboneName::Resnet18, Form::Torch),
        ("timm_resnet50", BackboneName::Resnet50, Form::Torch),
        ("timm_mobilenetv2_100", BackboneName::MobilenetV2, Form::Torch),
        ("timm_tf_efficientnet_lite0", BackboneName::EfficientnetLite0, Form::Torch),
        ("timm_efficientnet_lite0", BackboneName::EfficientnetLite0, Form::TimmEven),
        ("timm_vgg16", BackboneName::Vgg16, Form::Torch),
    ] {
        let text = std::fs::read(fixtures().join(format!("{file}.json"))).unwrap();
        let shapes: BTreeMap<String, Vec<usize>> = serde_json::from_slice(&text).unwrap();
        // A file of those names, whose values do not matter.
        let mut header = serde_json::Map::new();
        let mut end = 0;
        for (name, shape) in &shapes {
            let n_bytes = 4 * shape.iter().product::<usize>();
            header.insert(
                name.clone(),
                serde_json::json!({ "dtype": "F32", "shape": shape, "data_offsets": [end, end + n_bytes] }),
            );
            end += n_bytes;
        }
        let header = Value::Object(header).to_string();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.safetensors");
        let file_of_names = std::fs::File::create(&path).unwrap();
        std::fs::write(&path, [&(header.len() as u64).to_le_bytes()[..], header.as_bytes()].concat()).unwrap();
        file_of_names.set_len((8 + header.len() + end) as u64).unwrap();
        let layout = backbone::layout(backbone, form);
        let [height, width] = [224, 224];
        let head = top::imagenet(backbone, layout.output_chw(layout.nodes.len(), height, width));
        // timm's VGG has convolutions in place of the first dense layers.
        let top = if backbone == BackboneName::Vgg16 { Top::Known(&head) } else { Top::Needed(&head) };
        let opened = FileParameters::open(&path, Wanted { layout: &layout, top }, &Selection::default(), String::new());
        let opened = opened.unwrap_or_else(|error| panic!("{file}: {error}"));
        let is_vgg = backbone == BackboneName::Vgg16;
        assert!(opened.matched().unused.is_empty() || is_vgg, "{file}: {:?}", opened.matched().unused);
    }
}
