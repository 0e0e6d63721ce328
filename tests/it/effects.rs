//! Every key that `xp schema` lists has a case here that sees its effect, and every case has a key.
//!
//! The list is made from the schema: dotted keys; the values of a key that takes names (`schedule=constant`); the forms
//! of a key that takes several (`model.frozen_layers=<integer>`); `*` for names that the user chooses.

mod augment;
mod data;
mod lab;
mod model;
mod optimizer;
mod plan;
mod schedule;
mod training;

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::thread;

use serde_json::Value;

use crate::support::Place;

/// Shows what keys do, by asserting it.
#[derive(Clone, Copy)]
pub struct Case {
    pub keys: &'static [&'static str],
    pub shows: fn(),
}

const GROUPS: [&[Case]; 7] =
    [augment::CASES, data::CASES, model::CASES, optimizer::CASES, plan::CASES, schedule::CASES, training::CASES];

#[test]
fn every_key_of_the_schema_has_a_case_and_every_case_a_key() {
    let schema = Place::new().json(&["schema"]);
    let mut keys = BTreeSet::new();
    collect(&schema, "", &schema, &mut keys);
    // No run has them: what they do is seen by tests/it/sweep.rs and the tests of src/sweep.
    keys.retain(|key| !key.starts_with("sweep"));
    assert!(keys.len() > 150, "the walk ended early: {keys:?}");
    let listed: Vec<&str> = GROUPS.iter().flat_map(|cases| cases.iter()).flat_map(|case| case.keys).copied().collect();
    let cases: BTreeSet<String> = listed.iter().map(|key| (*key).to_owned()).collect();
    let without_case: Vec<&String> = keys.difference(&cases).collect();
    let without_key: Vec<&String> = cases.difference(&keys).collect();
    assert!(without_case.is_empty(), "these keys have no case that sees their effect: {without_case:#?}");
    assert!(without_key.is_empty(), "these cases have no key in the schema: {without_key:#?}");
    assert_eq!(listed.len(), cases.len(), "a key has two cases");
}

#[test]
fn keys_of_augment_have_their_effects() {
    all_show(augment::CASES);
}

#[test]
fn keys_of_data_have_their_effects() {
    all_show(data::CASES);
}

#[test]
fn keys_of_model_have_their_effects() {
    all_show(model::CASES);
}

#[test]
fn keys_of_optimizer_have_their_effects() {
    all_show(optimizer::CASES);
}

#[test]
fn keys_of_plan_have_their_effects() {
    all_show(plan::CASES);
}

#[test]
fn keys_of_schedule_have_their_effects() {
    all_show(schedule::CASES);
}

#[test]
fn keys_of_training_have_their_effects() {
    all_show(training::CASES);
}

#[test]
fn no_value_of_any_key_makes_the_checks_panic() {
    let mut keys = BTreeSet::new();
    let schema = xp::spec::json_schema::json_schema();
    collect(&schema, "", &schema, &mut keys);
    let mut sets: Vec<String> = Vec::new();
    for value in ["0", "-1", "4294967295", "1e300", "''", "null", "[0, 0]", "{}"] {
        sets.extend(keys.iter().filter(|key| !key.contains(['=', '*'])).map(|key| format!("{key}={value}")));
        sets.push(format!("model.head=[flatten, {{ dense: {{ units: {value}, activation: softmax }} }}]"));
        sets.push(format!("model.head=[{{ dropout: {value} }}]"));
        sets.push(format!("class_weights={{ red: {value} }}"));
        let fraction = format!("{{ fraction: {value} }}");
        sets.push(format!("data={{ train: train, valid: {fraction}, test: {fraction}, image_size: 8 }}"));
    }
    let n_valid = sets.iter().filter(|set| lab::colours().is_valid(&[set])).count();
    assert!(n_valid > 10 && n_valid < sets.len() / 2, "{n_valid} of {}", sets.len());
}

/// Runs all cases of a group, two at once, and names all that fail.
fn all_show(cases: &[Case]) {
    let waiting = Mutex::new(cases.iter());
    let failed = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some(case) = { waiting.lock().unwrap().next() } {
                    if std::panic::catch_unwind(case.shows).is_err() {
                        failed.lock().unwrap().push(case.keys);
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap();
    assert!(failed.is_empty(), "no effect was seen, as said above, of {failed:#?}");
}

/// Adds every key below a schema; a word of JSON Schema that this does not know is a failure, not a gap.
fn collect(root: &Value, path: &str, schema: &Value, keys: &mut BTreeSet<String>) {
    const KNOWN: [&str; 28] = [
        "if",
        "then",
        "else",
        "$schema",
        "$defs",
        "$ref",
        "title",
        "description",
        "default",
        "examples",
        "type",
        "required",
        "properties",
        "additionalProperties",
        "items",
        "minItems",
        "maxItems",
        "minLength",
        "maxLength",
        "minimum",
        "maximum",
        "uniqueItems",
        "pattern",
        "const",
        "anyOf",
        "oneOf",
        "exclusiveMinimum",
        // Which of the keys there must be.
        "not",
    ];
    let words = schema.as_object().unwrap_or_else(|| panic!("{path}: {schema} is no schema"));
    for word in words.keys() {
        assert!(KNOWN.contains(&word.as_str()), "{path}: what does {word} mean for keys?");
    }
    if let Some(target) = words.get("$ref").and_then(Value::as_str) {
        collect(root, path, root.pointer(target.trim_start_matches('#')).unwrap(), keys);
    }
    if let Some(value) = words.get("const") {
        keys.insert(format!("{path}={}", value.as_str().unwrap()));
    }
    if let Some(items) = words.get("items") {
        collect(root, path, items, keys);
    }
    for (name, value) in words.get("properties").and_then(Value::as_object).into_iter().flatten() {
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        keys.insert(path.clone());
        collect(root, &path, value, keys);
    }
    if let Some(any) = words.get("additionalProperties").filter(|any| any.is_object()) {
        keys.insert(format!("{path}.*"));
        collect(root, &format!("{path}.*"), any, keys);
    }
    let choices = ["anyOf", "oneOf"].iter().filter_map(|word| words.get(*word)?.as_array()).flatten();
    let choices: Vec<&Value> = choices.filter(|choice| choice["type"] != "null").collect();
    for choice in &choices {
        let form = choice["type"].as_str().filter(|form| *form != "object" && choice.get("const").is_none());
        keys.extend(form.filter(|_| choices.len() > 1).map(|form| format!("{path}=<{form}>")));
        collect(root, path, choice, keys);
    }
}
