//! A point of a sweep: values for some keys of a spec.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Values by dotted key.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Point {
    pub values: BTreeMap<String, Value>,
}

impl Point {
    /// As `--set` arguments: JSON is YAML, so the values read back as they are.
    pub fn sets(&self) -> Vec<String> {
        self.values.iter().map(|(key, value)| format!("{key}={value}")).collect()
    }

    /// The shortest ending of a key, from a name on, that no other key of the point has.
    fn short<'a>(&self, key: &'a str) -> &'a str {
        let begins = key.rmatch_indices('.').map(|(dot, _)| &key[dot + 1..]).chain([key]);
        let is_name = |ending: &&str| ending.split('.').next().is_some_and(|part| part.parse::<usize>().is_err());
        let is_others = |ending: &str| {
            let ends =
                |other: &&String| other.strip_suffix(ending).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
            self.values.keys().filter(|other| *other != key).any(|other| ends(&other))
        };
        begins.filter(is_name).find(|ending| !is_others(ending)).unwrap_or(key)
    }

    /// Equal for points of the same keys and values.
    pub fn json(&self) -> String {
        serde_json::to_string(&self.values).expect("a point has string keys and finite numbers")
    }

    /// Whether it has all these values; a list means one of its items.
    pub fn has(&self, values: &BTreeMap<String, Value>) -> bool {
        values.iter().all(|(key, wanted)| self.values.get(key).is_some_and(|value| is_one_of(value, wanted)))
    }
}

/// `optimizer.adam.learning_rate=0.001 model.frozen_layers=15`, without what keys have in common with no other key.
impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.values.is_empty() {
            return f.write_str("the spec as it is");
        }
        for (i, (key, value)) in self.values.iter().enumerate() {
            let space = if i > 0 { " " } else { "" };
            write!(f, "{space}{}={}", self.short(key), text(value))?;
        }
        Ok(())
    }
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Number(number) if number.is_f64() => number_text(number.as_f64().unwrap_or(f64::NAN)),
        // `{ stages: 5 }` as `stages:5`.
        Value::Object(map) => {
            map.iter().map(|(key, value)| format!("{key}:{}", text(value))).collect::<Vec<_>>().join(",")
        }
        other => other.to_string(),
    }
}

fn number_text(value: f64) -> String {
    if value != 0.0 && !(1e-3..1e6).contains(&value.abs()) { format!("{value:e}") } else { value.to_string() }
}

/// Numbers are compared by value: 1 is 1.0.
pub(super) fn is_one_of(value: &Value, wanted: &Value) -> bool {
    match wanted {
        Value::Array(items) if !value.is_array() => items.iter().any(|item| is_same(value, item)),
        wanted => is_same(value, wanted),
    }
}

fn is_same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a == b || a.as_f64() == b.as_f64(),
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| is_same(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(key, a)| b.get(key).is_some_and(|b| is_same(a, b)))
        }
        (a, b) => a == b,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::spec::parse::node_from_yaml;

    #[test]
    fn keys_that_end_alike_are_told_apart() {
        let point = |values: Value| Point { values: serde_json::from_value(values).unwrap() };
        let shown = point(json!({ "plan.0.learning_rate": 0.1, "plan.1.learning_rate": 0.2, "epochs": 3 })).to_string();
        assert_eq!(shown, "epochs=3 plan.0.learning_rate=0.1 plan.1.learning_rate=0.2");
        let shown = point(json!({ "optimizer.adam.learning_rate": 0.1, "epochs": 3 })).to_string();
        assert_eq!(shown, "epochs=3 learning_rate=0.1");
        let kept = point(json!({ "schedule": { "plateau": { "patience": 1, "factor": 0.5 } } }));
        let wanted = json!({ "schedule": { "plateau": { "patience": 1.0, "factor": 0.50 } } });
        assert!(kept.has(&serde_json::from_value(wanted).unwrap()));
    }

    #[test]
    fn arguments_read_back_as_the_same_values() {
        let values = [json!(3), json!(1e-5), json!(0.1), json!(1.0), json!("all"), json!("a: b # c"), json!(true)];
        let more = [json!({ "stages": 5 }), json!([1, 2]), json!(null), json!(1e300), json!(-2.5e-12)];
        for value in values.into_iter().chain(more) {
            let point = Point { values: BTreeMap::from([("a.b".to_owned(), value.clone())]) };
            let sets = point.sets();
            let text = sets[0].strip_prefix("a.b=").unwrap();
            assert_eq!(node_from_yaml(text).unwrap().to_json(), value, "{text}");
        }
    }

    #[test]
    fn a_point_is_shown_short() {
        let values = [
            ("optimizer.adam.learning_rate", json!(1e-5)),
            ("model.frozen_layers", json!({ "stages": 5 })),
            ("model.head.1.dropout", json!(0.25)),
            ("preprocess", json!("raw")),
        ];
        let point = Point { values: values.map(|(key, value)| (key.to_owned(), value)).into() };
        assert_eq!(point.to_string(), "frozen_layers=stages:5 dropout=0.25 learning_rate=1e-5 preprocess=raw");
    }

    #[test]
    fn values_are_compared_as_numbers_and_a_list_means_any() {
        let point = Point { values: [("a".to_owned(), json!(1)), ("b".to_owned(), json!("x"))].into() };
        let has = |values: Value| point.has(&serde_json::from_value(values).unwrap());
        assert!(has(json!({ "a": 1.0 })) && has(json!({ "a": [2, 1], "b": "x" })));
        assert!(!has(json!({ "a": 2 })) && !has(json!({ "a": 1, "c": 1 })));
    }
}
