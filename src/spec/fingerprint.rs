//! What makes two runs the same: the flattened parameters and the hashes over them.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::run::event::DataFacts;
use crate::spec::input;
use crate::spec::schema::Spec;
use crate::spec::schema::model::Model;

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

/// The two hashes that identify a run's inputs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fingerprint {
    /// Equal for runs of the same spec, data, weights and device class.
    pub run: String,
    /// The same without the seed.
    pub group: String,
}

/// Hashes the parameters with the images and the weights that they came to, and the device class.
pub fn of_inputs(spec: &Spec, data: &DataFacts, weights_hash: &str, device_class: &str) -> Fingerprint {
    let splits = data.splits.iter().map(|split| split.hash.as_str());
    let inputs: Vec<&str> = splits.chain([weights_hash, device_class]).collect();
    fingerprint(spec, &inputs)
}

/// Hashes the parameters with what they referred to: the data's, weights' and device class' names.
pub fn fingerprint(spec: &Spec, inputs: &[&str]) -> Fingerprint {
    let mut params = params(spec);
    for key in ["device", "cache.enabled", "cache.budget", "max_recorded_predictions"] {
        params.remove(key);
    }
    let run = hash(&params, inputs);
    params.remove("seed");
    Fingerprint { run, group: hash(&params, inputs) }
}

fn hash(params: &BTreeMap<String, Value>, inputs: &[&str]) -> String {
    let mut hasher = blake3::Hasher::new();
    for (key, value) in params {
        hasher.update(key.as_bytes()).update(b"=").update(value.to_string().as_bytes()).update(b"\n");
    }
    for input in inputs {
        hasher.update(input.as_bytes()).update(b"\n");
    }
    hasher.finalize().to_hex().to_string()
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
