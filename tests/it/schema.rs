//! `xp schema` against specs: what xp takes the schema takes, and what is wrongly built both refuse.
//!
//! The schema was also held against its meta-schema, these specs and the hostile ones by `jsonschema` 4.26 of Python
//! (`Draft202012Validator(schema).is_valid(spec)`), to the same verdicts. The validator here knows the words of JSON
//! Schema that the schema uses, and fails on any other.

use std::fs;
use std::path::Path;

use serde_json::Value;
use xp::spec::LoadedSpec;
use xp::spec::json_schema::json_schema;
use xp::spec::parse::node_from_yaml;
use xp::spec::schema::is_plain_name;
use xp::spec::short_forms::DeviceChoice;

use crate::hostile_specs::of_structure;
use crate::support::{Place, SPEC};

/// Whether a value is what a schema describes.
fn is_valid(root: &Value, schema: &Value, value: &Value) -> bool {
    let holds = |(word, rule): (&String, &Value)| match word.as_str() {
        "$schema" | "$defs" | "title" | "description" | "default" | "examples" => true,
        "$ref" => is_valid(root, root.pointer(rule.as_str().unwrap().trim_start_matches('#')).unwrap(), value),
        "anyOf" => rule.as_array().unwrap().iter().any(|choice| is_valid(root, choice, value)),
        "oneOf" => rule.as_array().unwrap().iter().filter(|choice| is_valid(root, choice, value)).count() == 1,
        "allOf" => rule.as_array().unwrap().iter().all(|part| is_valid(root, part, value)),
        "not" => !is_valid(root, rule, value),
        "const" => rule == value,
        "type" => match rule {
            Value::Array(kinds) => kinds.iter().any(|kind| is_kind(kind, value)),
            kind => is_kind(kind, value),
        },
        "minimum" => value.as_f64().is_none_or(|number| number >= rule.as_f64().unwrap()),
        "maximum" => value.as_f64().is_none_or(|number| number <= rule.as_f64().unwrap()),
        "minLength" => value.as_str().is_none_or(|text| text.chars().count() as u64 >= rule.as_u64().unwrap()),
        "maxLength" => value.as_str().is_none_or(|text| text.chars().count() as u64 <= rule.as_u64().unwrap()),
        "pattern" => value.as_str().is_none_or(|text| matches(rule.as_str().unwrap(), text)),
        "minItems" => value.as_array().is_none_or(|items| items.len() as u64 >= rule.as_u64().unwrap()),
        "maxItems" => value.as_array().is_none_or(|items| items.len() as u64 <= rule.as_u64().unwrap()),
        "items" => value.as_array().into_iter().flatten().all(|item| is_valid(root, rule, item)),
        "required" => {
            let names = rule.as_array().unwrap();
            value.as_object().is_none_or(|map| names.iter().all(|name| map.contains_key(name.as_str().unwrap())))
        }
        "properties" => {
            let of_map = |map: &serde_json::Map<String, Value>| {
                map.iter().all(|(name, value)| rule.get(name).is_none_or(|schema| is_valid(root, schema, value)))
            };
            value.as_object().is_none_or(of_map)
        }
        "additionalProperties" => {
            let known = schema.get("properties");
            let is_other = |name: &str| known.and_then(|known| known.get(name)).is_none();
            let of_map = |map: &serde_json::Map<String, Value>| {
                map.iter()
                    .filter(|(name, _)| is_other(name))
                    .all(|(_, value)| *rule != false && is_valid(root, rule, value))
            };
            value.as_object().is_none_or(of_map)
        }
        "if" => {
            let branch = if is_valid(root, rule, value) { "then" } else { "else" };
            is_valid(root, &schema[branch], value)
        }
        "then" | "else" => true,
        other => panic!("this does not know {other}"),
    };
    if *schema == false {
        return false;
    }
    schema.as_object().unwrap().iter().all(holds)
}

fn is_kind(kind: &Value, value: &Value) -> bool {
    match kind.as_str().unwrap() {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "number" => value.is_number(),
        "integer" => value.as_f64().is_some_and(|number| number.fract() == 0.0),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        other => panic!("this does not know {other}"),
    }
}

/// The schema has four patterns; what each stands for is read by xp itself.
fn matches(pattern: &str, text: &str) -> bool {
    match pattern {
        "^[A-Za-z0-9][A-Za-z0-9._-]*$" => is_plain_name(text),
        "\\." => text.contains('.'),
        "^(auto|cpu|cuda(:[0-9]+)?)$" => text.parse::<DeviceChoice>().is_ok(),
        "^(train|valid)\\.(loss|accuracy|top[0-9]+_accuracy)$" => {
            let key = xp::run::metric::MetricKey::parse(text);
            key.is_some_and(|key| key.split != xp::run::metric::Split::Test)
        }
        other => panic!("this does not know {other}"),
    }
}

fn is_accepted(text: &str) -> bool {
    let loaded = LoadedSpec::from_text(Path::new("spec.yaml"), text.to_owned(), &[]);
    loaded.is_ok_and(|loaded| loaded.out_of_range().is_empty())
}

#[test]
fn the_command_prints_it() {
    assert_eq!(Place::new().json(&["schema"]), json_schema());
}

#[test]
fn the_shipped_specs_are_valid_in_both() {
    let schema = json_schema();
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/experiments");
    let paths = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let specs = paths.filter(|path| path.extension().is_some_and(|extension| extension == "yaml"));
    let specs: Vec<String> = specs.map(|path| fs::read_to_string(path).unwrap()).chain([SPEC.to_owned()]).collect();
    assert!(specs.len() >= 4);
    for text in specs {
        assert!(is_accepted(&text), "{text}");
        assert!(is_valid(&schema, &schema, &node_from_yaml(&text).unwrap().to_json()), "{text}");
    }
}

#[test]
fn every_form_of_a_key_is_valid_in_both() {
    let schema = json_schema();
    let more = [
        "schedule: constant",
        "schedule: { plateau: {} }",
        "schedule: { cosine: { warmup_epochs: 1 } }",
        "loss: cross_entropy",
        "loss: ~",
        "top_k: [2, 5]",
        "class_weights: balanced",
        "class_weights: { red: 2, blue: 0.5 }",
        "augment: { zoom: [0.8, 1.2], brightness: 0.2, fill: wrap }",
        "early_stopping: { patience: 3 }",
        "checkpoint: { monitor: train.top5_accuracy, keep: { every: 2 } }",
        "device: cuda:1",
        "steps_per_epoch: 5",
    ];
    let train = ["a", "{ csv: a }", "{ idx: a, labels: b }", "{ idx: a, labels: b, classes: [a, b] }"];
    let frozen = ["3", "all", "none", "{ through: a }", "{ stages: 2 }"];
    let edited = |from: &str, to: String| SPEC.replacen(from, &to, 1);
    let specs = (more.iter().map(|line| format!("{SPEC}{line}\n")))
        .chain(train.iter().map(|source| edited("train: data/train", format!("train: {source}"))))
        .chain(train.iter().map(|source| edited("valid: data/valid", format!("valid: {source}"))))
        .chain([edited("test: data/test", "test: { fraction: 0.1 }".to_owned())])
        .chain([edited("image_size: 32", "image_size: [32, 48]".to_owned())])
        .chain(frozen.iter().map(|frozen| edited("frozen_layers: all", format!("frozen_layers: {frozen}"))));
    let on_features = "{ name: head, epochs: 1, model: {}, data: { train: { features: a, labels: b }, \
        valid: { features: a, labels: b, classes: [a, b] } } }";
    for text in specs.chain([on_features.to_owned()]) {
        assert!(is_accepted(&text), "{text}");
        assert!(is_valid(&schema, &schema, &node_from_yaml(&text).unwrap().to_json()), "{text}");
    }
    let with_backbone = on_features.replace("model: {}", "model: { backbone: vgg16 }");
    assert!(!is_accepted(&with_backbone));
    assert!(!is_valid(&schema, &schema, &node_from_yaml(&with_backbone).unwrap().to_json()));
}

#[test]
fn wrongly_built_specs_are_refused_by_both() {
    let schema = json_schema();
    let mut n_refused = 0;
    for hostile in of_structure() {
        let text = String::from_utf8(hostile.text).unwrap();
        assert!(!is_accepted(&text), "{}", hostile.what);
        // Numbers that are not finite do not come out of the parser, and as floats two of more than 64 bits are equal.
        let Ok(node) = node_from_yaml(&text) else { continue };
        if hostile.what == "above 64 bits" {
            continue;
        }
        assert!(!is_valid(&schema, &schema, &node.to_json()), "{}: {text}", hostile.what);
        n_refused += 1;
    }
    assert!(n_refused >= 25, "{n_refused}");
}
