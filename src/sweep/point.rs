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
            write!(f, "{space}{}={}", short(key), text(value))?;
        }
        Ok(())
    }
}

/// The last part of a key, which says enough in a line.
fn short(key: &str) -> &str {
    key.rsplit('.').find(|part| part.parse::<usize>().is_err()).unwrap_or(key)
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
    let same = |wanted: &Value| match (value.as_f64(), wanted.as_f64()) {
        (Some(a), Some(b)) => a == b,
        _ => value == wanted,
    };
    match wanted {
        Value::Array(items) if !value.is_array() => items.iter().any(same),
        wanted => same(wanted),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::spec::parse::node_from_yaml;

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
