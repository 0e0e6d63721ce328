//! What makes two runs the same: the flattened parameters and the hashes over them.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::run::event::DataFacts;
use crate::run::stretch::Stretch;
use crate::spec::schema::Spec;
use crate::spec::schema::model::Model;
use crate::spec::stretches;
use crate::spec::{effect, input};

/// The spec as typed parameters, keys joined with dots; a list is one value.
///
/// The experiment's name is not a parameter, nor is what the weights hash to.
pub fn params(spec: &Spec) -> BTreeMap<String, Value> {
    let mut flat = BTreeMap::new();
    let model = Model { weights: spec.model.weights.without_hash(), ..spec.model.clone() };
    flatten("", &resolved(&Spec { model, ..spec.clone() }), &mut flat);
    flat.remove("name");
    flat
}

/// The complete spec of a run, defaults filled in, as JSON; a spec on features is without what only images have, and none
/// has what a sweep tries of it.
pub fn resolved(spec: &Spec) -> Value {
    let alone = Spec { sweep: None, ..spec.clone() };
    let mut value = serde_json::to_value(alone).expect("a spec has string keys and finite numbers");
    for key in input::without_effect(spec) {
        let (parent, name) = key.rsplit_once('.').unwrap_or(("", key));
        let map = if parent.is_empty() { Some(&mut value) } else { value.get_mut(parent) };
        map.and_then(Value::as_object_mut).map(|map| map.remove(name));
    }
    value
}

/// The rule by which fingerprints are made; it is part of what is hashed, and recorded beside them.
///
/// 1: every key with its value, so that a key that came later changed the fingerprints of all runs. 2: keys that say what
/// their default says are left out, and what the epochs were trained under counts. A key that is added, with a default
/// that means what was done before there was the key, needs no new version; a default that changes does.
pub const FINGERPRINT_VERSION: u32 = 2;

/// The two hashes that identify a run's inputs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fingerprint {
    /// Equal for runs of the same spec, stretches, data, weights and device class.
    pub run: String,
    /// The same without the seed.
    pub group: String,
}

/// Hashes what the spec says with the images and the weights that it came to, the device class, and the stretches in
/// which it was trained, of which there are none for a run that is trained as its spec says.
pub fn of_inputs(
    spec: &Spec,
    stretches: &[Stretch],
    data: &DataFacts,
    weights_hash: &str,
    device_class: &str,
) -> Fingerprint {
    let splits = data.splits.iter().map(|split| split.hash.as_str());
    let inputs: Vec<&str> = splits.chain([weights_hash, device_class]).collect();
    let mut said = said(spec);
    said.retain(|key, _| !effect::is_without_effect_in(spec, key));
    let stretches = stretches::effective(spec, stretches);
    let run = hash(&said, &stretches, &inputs);
    said.remove("seed");
    Fingerprint { run, group: hash(&said, &stretches, &inputs) }
}

fn hash(said: &BTreeMap<String, Value>, stretches: &[Stretch], inputs: &[&str]) -> String {
    let mut hasher = blake3::Hasher::new();
    hasher.update(format!("xp fingerprint {FINGERPRINT_VERSION}\n").as_bytes());
    for (key, value) in said {
        hasher.update(format!("{key}={value}\n").as_bytes());
    }
    // One stretch is what the spec says already.
    for stretch in stretches.iter().filter(|_| stretches.len() > 1) {
        let Stretch { after_epoch, epochs, schedule_after, is_past_early_stop, .. } = stretch;
        hasher.update(format!("stretch={after_epoch} {epochs} {schedule_after} {is_past_early_stop}\n").as_bytes());
    }
    for input in inputs {
        hasher.update(input.as_bytes()).update(b"\n");
    }
    hasher.finalize().to_hex().to_string()
}

/// What a spec says that its defaults do not, keys joined with dots; a list is one value, and so is an empty map.
fn said(spec: &Spec) -> BTreeMap<String, Value> {
    let model = Model { weights: spec.model.weights.without_hash(), ..spec.model.clone() };
    let spec = Spec { model, sweep: None, ..spec.clone() };
    let mut value = resolved(&spec);
    let mut flat = BTreeMap::new();
    // What cannot be read back, because it is out of its range, is hashed as it is.
    if let Some(meant) = read(&value) {
        let paths = paths(&value);
        for path in paths {
            let mut shorter = value.clone();
            if remove(&mut shorter, &path) && read(&shorter).is_some_and(|read| read == meant) {
                value = shorter;
            }
        }
    }
    flatten_said("", &sorted(&value), &mut flat);
    flat
}

fn read(value: &Value) -> Option<Spec> {
    serde_json::from_value(value.clone()).ok()
}

/// A step from a value to one in it.
#[derive(Clone, Debug)]
enum Way {
    Key(String),
    Place(usize),
}

/// The ways to all keys, those that hold others first.
fn paths(value: &Value) -> Vec<Vec<Way>> {
    let mut found = Vec::new();
    let mut waiting = vec![(Vec::new(), value)];
    while let Some((path, value)) = waiting.pop() {
        let below: Vec<(Way, &Value)> = match value {
            Value::Object(map) => map.iter().map(|(key, value)| (Way::Key(key.clone()), value)).collect(),
            Value::Array(items) => items.iter().enumerate().map(|(i, value)| (Way::Place(i), value)).collect(),
            _ => Vec::new(),
        };
        for (way, value) in below {
            let path = [&path[..], std::slice::from_ref(&way)].concat();
            if matches!(way, Way::Key(_)) {
                found.push(path.clone());
            }
            waiting.push((path, value));
        }
    }
    found
}

/// Takes a key out, if it is still there.
fn remove(value: &mut Value, path: &[Way]) -> bool {
    let Some((last, before)) = path.split_last() else { return false };
    let mut at = Some(value);
    for way in before {
        at = at.and_then(|value| match way {
            Way::Key(key) => value.get_mut(key.as_str()),
            Way::Place(place) => value.get_mut(*place),
        });
    }
    match (at, last) {
        (Some(Value::Object(map)), Way::Key(key)) => map.remove(key).is_some(),
        _ => false,
    }
}

/// The order in which keys stand in a map says nothing.
fn sorted(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let sorted: BTreeMap<&String, Value> = map.iter().map(|(key, value)| (key, sorted(value))).collect();
            Value::Object(sorted.into_iter().map(|(key, value)| (key.clone(), value)).collect())
        }
        Value::Array(items) => Value::Array(items.iter().map(sorted).collect()),
        other => other.clone(),
    }
}

fn flatten_said(prefix: &str, value: &Value, flat: &mut BTreeMap<String, Value>) {
    match value {
        Value::Object(map) if !map.is_empty() => {
            for (key, value) in map {
                let key = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
                flatten_said(&key, value, flat);
            }
        }
        other => {
            flat.insert(prefix.to_owned(), other.clone());
        }
    }
}

fn flatten(prefix: &str, value: &Value, flat: &mut BTreeMap<String, Value>) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                let key = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
                flatten(&key, value, flat);
            }
        }
        other => {
            flat.insert(prefix.to_owned(), other.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::json;

    use super::*;
    use crate::run::event::SplitFacts;
    use crate::run::metric::Split;
    use crate::spec::LoadedSpec;

    const SPEC: &str = "{ name: a, data: { train: t, valid: v, image_size: 8 }, model: { backbone: vgg_tiny, \
                        head: [flatten, { dense: { units: 2, activation: softmax } }] }, epochs: 3 }";

    fn spec(sets: &[&str]) -> Spec {
        let sets: Vec<String> = sets.iter().map(|set| (*set).to_owned()).collect();
        LoadedSpec::from_text(Path::new("a.yaml"), SPEC.to_owned(), &sets).unwrap().spec
    }

    fn print(spec: &Spec, stretches: &[Stretch]) -> Fingerprint {
        let splits = vec![SplitFacts { split: Split::Train, n_images: 4, hash: "t".to_owned() }];
        of_inputs(spec, stretches, &DataFacts { classes: Vec::new(), splits }, "w", "cpu")
    }

    #[test]
    fn what_a_default_says_is_left_out() {
        let of = |sets: &[&str]| said(&spec(sets));
        let least = json!({
            "name": "a", "epochs": 3, "data.image_size": 8, "data.train": "t", "data.valid": "v",
            "model.backbone": "vgg_tiny",
            "model.head": ["flatten", { "dense": { "activation": "softmax", "units": 2 } }],
        });
        let found: Value = of(&[]).into_iter().collect::<serde_json::Map<_, _>>().into();
        assert_eq!(sorted(&found), sorted(&least));
        assert_eq!(of(&["data.batch_size=32", "schedule=constant", "optimizer.adam.learning_rate=1e-3"]), of(&[]));
        // A choice without settings of its own is said all the same.
        assert_eq!(of(&["schedule={ cosine: { warmup_epochs: 0 } }"])["schedule.cosine"], json!({}));
        assert_eq!(of(&["schedule={ cosine: { warmup_epochs: 1 } }"])["schedule.cosine.warmup_epochs"], 1);
        assert_eq!(of(&["data.decode=plain"])["data.decode"], "plain");
    }

    /// What the text holds has to stay: runs of this version are found by it. A new key with a default changes nothing.
    #[test]
    fn a_fingerprint_of_this_version_stays_as_it_is() {
        assert_eq!(print(&spec(&[]), &[]).run, "3c80b83c8c009ed35d7b8017e4a044f28fd4d8073094fdde0ec944ab5ce928a5");
        let more = ["seed=7", "schedule={ cosine: {} }", "augment.zoom=0.2", "early_stopping={ patience: 3 }"];
        assert_eq!(print(&spec(&more), &[]).run, "0dcb2d589b7606fc843fd1cf96d4923aafcac6b98002cd0facf55e25fe1dc7e5");
    }

    /// Where one of these changes, a key that is left out means something else: that needs a new version. A key that is
    /// added may be added here.
    #[test]
    fn defaults_that_fingerprints_leave_out_stay_as_they_are() {
        let all = sorted(&resolved(&spec(&[]))).to_string();
        insta::assert_snapshot!(all.replace("},", "},\n"), @r#"
        {"augment":{"fill":"nearest","fill_value":0,"height_shift_fraction":0.0,"horizontal_flip":false,"interpolation":"bilinear","rotation_degrees":0.0,"shear_radians":0.0,"vertical_flip":false,"width_shift_fraction":0.0},
        "cache":{"budget":"20 GB","enabled":true,"precision":"f32"},
        "checkpoint":{"keep":{"best":1,"last":1},
        "monitor":"valid.loss"},
        "data":{"allow_duplicates":false,"batch_size":32,"decode":"libjpeg_turbo","exif":"ignore","image_size":8,"on_bad_image":"error","split_seed":0,"train":"t","valid":"v"},
        "device":"auto","epochs":3,"gradient_accumulation_steps":1,"label_smoothing":0.0,"log_every":10,"model":{"backbone":"vgg_tiny","batch_norm":"frozen","frozen_layers":"all","head":["flatten",{"dense":{"activation":"softmax","units":2}}],"weights":"imagenet"},
        "name":"a","on_nan":"stop","optimizer":{"adam":{"beta_1":0.9,"beta_2":0.999,"epsilon":1e-7,"learning_rate":0.001}},
        "preprocess":"backbone","schedule":"constant","seed":0}
        "#);
        let of = |key: &str, set: &str| format!("{set} {}", sorted(&resolved(&spec(&[set]))[key]));
        let optimizers =
            ["{ sgd: { learning_rate: 1 } }", "{ adamw: { learning_rate: 1 } }", "{ rmsprop: { learning_rate: 1 } }"];
        let schedules = [
            "{ linear: {} }",
            "{ exponential: { rate: 0.5 } }",
            "{ step: { every_epochs: 1, factor: 0.5 } }",
            "{ plateau: {} }",
        ];
        let mut lines: Vec<String> =
            optimizers.iter().map(|of_it| of("optimizer", &format!("optimizer={of_it}"))).collect();
        lines.extend(schedules.iter().map(|of_it| of("schedule", &format!("schedule={of_it}"))));
        lines.push(of("early_stopping", "early_stopping={ patience: 1 }"));
        insta::assert_snapshot!(lines.join("\n"), @r#"
        optimizer={ sgd: { learning_rate: 1 } } {"sgd":{"learning_rate":1.0,"momentum":0.0,"nesterov":false}}
        optimizer={ adamw: { learning_rate: 1 } } {"adamw":{"beta_1":0.9,"beta_2":0.999,"decays":"kernels","epsilon":1e-7,"learning_rate":1.0,"weight_decay":0.004}}
        optimizer={ rmsprop: { learning_rate: 1 } } {"rmsprop":{"epsilon":1e-7,"epsilon_inside_sqrt":true,"initial_accumulator":0.0,"learning_rate":1.0,"momentum":0.0,"rho":0.9}}
        schedule={ linear: {} } {"linear":{"warmup_epochs":0}}
        schedule={ exponential: { rate: 0.5 } } {"exponential":{"rate":0.5,"warmup_epochs":0}}
        schedule={ step: { every_epochs: 1, factor: 0.5 } } {"step":{"every_epochs":1,"factor":0.5,"warmup_epochs":0}}
        schedule={ plateau: {} } {"plateau":{"cooldown_epochs":0,"factor":0.1,"min_delta":0.0001,"min_learning_rate":0.0,"monitor":"valid.loss","patience":10,"warmup_epochs":0}}
        early_stopping={ patience: 1 } {"min_delta":0.0,"monitor":"valid.loss","patience":1}
        "#);
    }

    #[test]
    fn every_value_that_differs_makes_another_fingerprint_and_only_the_seed_none_of_the_group() {
        let plain = print(&spec(&[]), &[]);
        for set in
            ["epochs=4", "schedule={ cosine: {} }", "schedule={ linear: {} }", "label_smoothing=0.1", "top_k=[2]"]
        {
            let other = print(&spec(&[set]), &[]);
            assert!(other.run != plain.run && other.group != plain.group, "{set}");
        }
        let other = print(&spec(&["seed=1"]), &[]);
        assert!(other.run != plain.run && other.group == plain.group);
        for set in ["device=cpu", "cache.enabled=false", "name=b"] {
            assert_eq!(print(&spec(&[set]), &[]), plain, "{set}");
        }
    }

    #[test]
    fn stretches_count_where_they_make_a_difference() {
        let stretches = |spec: &Spec| {
            let whole = |epochs| Stretch::whole(epochs, spec.schedule.value());
            [whole(2), Stretch { after_epoch: 2, ..whole(3) }]
        };
        let cosine = spec(&["schedule={ cosine: {} }"]);
        let extended = stretches(&cosine);
        assert_ne!(print(&cosine, &extended), print(&cosine, &[]));
        assert_eq!(print(&cosine, &extended[..1]), print(&cosine, &[]));
        let restarted = [extended[0].clone(), Stretch { schedule_after: 2, ..extended[1].clone() }];
        assert_ne!(print(&cosine, &restarted), print(&cosine, &extended));
        let constant = spec(&[]);
        assert_eq!(print(&constant, &stretches(&constant)), print(&constant, &[]));
    }
}
