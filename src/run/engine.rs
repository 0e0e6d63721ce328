//! The version of the arithmetic: what came out of a spec under one version comes out of it again.

use std::collections::BTreeMap;

use serde_json::Value;

/// Goes up whenever the numbers of some spec change on the same machine.
///
/// 1: runs that record none. 2: `valid.loss` and `test.loss` are without label smoothing.
pub const ENGINE_VERSION: u32 = 2;

/// The fact of a run's environment that says which engine trained it.
pub const ENGINE: &str = "engine";

/// Whether this engine gives what a recorded run has; `recorded` is [`ENGINE`] of its environment.
///
/// A run that several engines trained says so with a list, which is no version.
pub fn has_same_numbers(recorded: Option<&str>, params: &BTreeMap<String, Value>) -> bool {
    match recorded.map_or(Ok(1), str::parse::<u32>) {
        Ok(ENGINE_VERSION) => true,
        Ok(1) => !smooths_labels(params),
        _ => false,
    }
}

/// What a run records that another engine began and this one goes on with; `None` where that makes no difference.
pub fn after_going_on(recorded: Option<&str>, params: &BTreeMap<String, Value>) -> Option<String> {
    let recorded_text = recorded.unwrap_or("1");
    let is_said = recorded_text.split(", ").last() == Some(ENGINE_VERSION.to_string().as_str());
    (!is_said && !has_same_numbers(recorded, params)).then(|| format!("{recorded_text}, {ENGINE_VERSION}"))
}

/// What is recorded of a run that goes on although it is not known under how many epochs its earlier ones were trained: it
/// stands for none that was.
pub fn after_unknown() -> String {
    format!("unknown, {ENGINE_VERSION}")
}

/// Whether a run's losses on held-out images hold label smoothing, so that they are not comparable with others'.
pub fn smooths_held_out_losses(recorded: Option<&str>, params: &BTreeMap<String, Value>) -> bool {
    smooths_labels(params) && !has_same_numbers(recorded, params)
}

fn smooths_labels(params: &BTreeMap<String, Value>) -> bool {
    params.get("label_smoothing").and_then(Value::as_f64).is_some_and(|smoothing| smoothing > 0.0)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_older_engine_gives_the_same_where_nothing_is_smoothed() {
        let params = |smoothing: f64| BTreeMap::from([("label_smoothing".to_owned(), json!(smoothing))]);
        for (recorded, smoothing, is_same) in [
            (None, 0.0, true),
            (None, 0.1, false),
            (Some("1"), 0.0, true),
            (Some("2"), 0.1, true),
            (Some("3"), 0.0, false),
            (Some("1, 2"), 0.1, false),
        ] {
            assert_eq!(has_same_numbers(recorded, &params(smoothing)), is_same, "{recorded:?} {smoothing}");
        }
        assert_eq!(after_going_on(None, &params(0.0)), None);
        assert_eq!(after_going_on(None, &params(0.1)).unwrap(), "1, 2");
        assert_eq!(after_going_on(Some("1, 2"), &params(0.1)), None);
    }
}
