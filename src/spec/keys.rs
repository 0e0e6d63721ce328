//! What may stand where in a spec, read from its JSON Schema: a key's range, its home, and what cannot stand beside it.

use serde_json::{Map, Value};

use crate::spec::json_schema::json_schema;

/// Names this much alike are taken for one and its misspelling; 1 is the same.
const ALIKE: f64 = 0.85;

/// Whether a dotted key is a part of another's value.
pub fn lies_in(inner: &str, outer: &str) -> bool {
    inner.strip_prefix(outer).is_some_and(|rest| rest.starts_with('.'))
}

/// All keys of a spec.
///
/// A path is a list of keys; list items are numbers in it, or left out.
#[derive(Clone, Debug)]
pub struct Keys {
    root: Value,
}

impl Default for Keys {
    fn default() -> Self {
        Self { root: json_schema() }
    }
}

impl Keys {
    /// The names of the keys that the map at a path may have, in the schema's order.
    pub fn names(&self, path: &[&str]) -> Vec<&str> {
        let mut names: Vec<&str> = Vec::new();
        for name in self.at(path).into_iter().filter_map(properties).flat_map(Map::keys) {
            if !names.contains(&name.as_str()) {
                names.push(name);
            }
        }
        names
    }

    /// The dotted paths of the maps that take a key of this name; the spec itself is the empty path.
    pub fn homes(&self, name: &str) -> Vec<String> {
        let mut homes = Vec::new();
        self.walk("", &self.root, &mut |path, properties| {
            if properties.contains_key(name) && !homes.iter().any(|home| home == path) {
                homes.push(path.to_owned());
            }
        });
        homes
    }

    /// The name nearest to a misspelled one: of those that may stand at the path, else of all keys.
    pub fn closest(&self, path: &[&str], written: &str) -> Option<String> {
        let here = self.names(path);
        let here = closest_of(written, here.into_iter());
        here.map(str::to_owned).or_else(|| {
            let mut all = Vec::new();
            self.walk("", &self.root, &mut |_, properties| all.extend(properties.keys().cloned()));
            closest_of(written, all.iter().map(String::as_str)).map(str::to_owned)
        })
    }

    /// What the number at a path may be, in words that follow it: `from 1 to 65536`.
    pub fn range(&self, path: &[&str]) -> Option<String> {
        let bound = |schema: &Value, word: &str| schema.get(word).map(Value::to_string);
        self.at(path).into_iter().find_map(|schema| match (bound(schema, "minimum"), bound(schema, "maximum")) {
            (Some(lowest), Some(highest)) => Some(format!("from {lowest} to {highest}")),
            (Some(lowest), None) => Some(format!("of {lowest} or more")),
            (None, highest) => highest.map(|highest| format!("up to {highest}")),
        })
    }

    /// The default of the value at a path, as YAML writes it.
    pub fn default_of(&self, path: &[&str]) -> Option<String> {
        let (last, parent) = path.split_last()?;
        let schemas = self.at(parent);
        let value = schemas.into_iter().find_map(|schema| properties(schema)?.get(*last)?.get("default"))?;
        (!value.is_object() && !value.is_null()).then(|| value.to_string())
    }

    /// What a key is for: the first sentence of its description.
    pub fn purpose(&self, path: &[&str]) -> Option<&str> {
        let (last, parent) = path.split_last()?;
        let schemas = self.at(parent);
        let text =
            schemas.into_iter().find_map(|schema| properties(schema)?.get(*last)?.get("description")?.as_str())?;
        let sentence = text.split(". ").next().unwrap_or(text);
        Some(sentence.split("; ").next().unwrap_or(sentence).trim_end_matches('.'))
    }

    /// Whether the map at a path may have both keys at once, as `momentum` and `nesterov`, or only one of them, as
    /// `sgd` and `adam`.
    pub fn go_together(&self, path: &[&str], a: &str, b: &str) -> bool {
        let maps: Vec<_> = self.at(path).into_iter().filter_map(properties).collect();
        let has = |name: &str| maps.iter().any(|map| map.contains_key(name));
        let both = maps.iter().any(|map| map.contains_key(a) && map.contains_key(b));
        both || !has(a) || !has(b)
    }

    /// Every form that the value at a path may take.
    fn at(&self, path: &[&str]) -> Vec<&Value> {
        let mut forms = self.forms(&self.root);
        for part in path {
            let is_index = part.parse::<usize>().is_ok();
            let next = forms.iter().flat_map(|form| {
                let items = form.get("items").filter(|_| is_index);
                let own = properties(form).and_then(|properties| properties.get(*part));
                let any = form.get("additionalProperties").filter(|value| value.is_object());
                [items, own, any].into_iter().flatten().take(1)
            });
            forms = next.flat_map(|schema| self.forms(schema)).collect();
        }
        forms
    }

    /// A schema's alternatives, references followed.
    fn forms<'a>(&'a self, schema: &'a Value) -> Vec<&'a Value> {
        if let Some(target) = schema.get("$ref").and_then(Value::as_str) {
            return self
                .root
                .pointer(target.trim_start_matches('#'))
                .map_or_else(Vec::new, |target| self.forms(target));
        }
        let choices: Vec<_> = ["anyOf", "oneOf"].iter().filter_map(|word| schema.get(word)?.as_array()).collect();
        if choices.is_empty() {
            return vec![schema];
        }
        choices.into_iter().flatten().flat_map(|choice| self.forms(choice)).collect()
    }

    fn walk(&self, path: &str, schema: &Value, visit: &mut impl FnMut(&str, &Map<String, Value>)) {
        for form in self.forms(schema) {
            if let Some(items) = form.get("items") {
                self.walk(path, items, visit);
            }
            let Some(properties) = properties(form) else { continue };
            visit(path, properties);
            for (name, value) in properties {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                self.walk(&path, value, visit);
            }
        }
    }
}

fn properties(schema: &Value) -> Option<&Map<String, Value>> {
    schema.get("properties").and_then(Value::as_object)
}

/// The name that was probably meant.
pub fn closest_of<'a>(written: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    // A name of kilobytes is no misspelling, and comparing it takes long.
    let written = Some(written).filter(|written| written.len() <= 64)?;
    let alike = names.map(|name| (strsim::jaro_winkler(written, name), name));
    let (likeness, name) = alike.max_by(|a, b| a.0.total_cmp(&b.0))?;
    (likeness > ALIKE).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_found_where_it_belongs() {
        let keys = Keys::default();
        assert_eq!(keys.homes("batch_size"), ["data"]);
        assert_eq!(keys.homes("epochs"), ["", "plan"]);
        assert_eq!(keys.homes("momentum"), ["optimizer.sgd", "optimizer.rmsprop"]);
        assert_eq!(keys.homes("units"), ["model.head.dense"]);
        assert_eq!(keys.homes("nothing"), [""; 0]);
    }

    #[test]
    fn the_range_and_the_default_are_the_schemas() {
        let keys = Keys::default();
        assert_eq!(keys.range(&["data", "batch_size"]).as_deref(), Some("from 1 to 65536"));
        assert_eq!(keys.range(&["data", "image_size"]).as_deref(), Some("from 8 to 4096"));
        assert_eq!(keys.range(&["model", "head", "1", "dropout"]).as_deref(), Some("from 0.0 to 0.99"));
        assert_eq!(keys.range(&["class_weights", "cat"]).as_deref(), Some("from 0.0 to 1000000.0"));
        assert_eq!(keys.range(&["seed"]).as_deref(), Some("from 0 to 18446744073709551615"));
        assert_eq!(keys.range(&["name"]), None);
        assert_eq!(keys.default_of(&["data", "batch_size"]).as_deref(), Some("32"));
        assert_eq!(keys.default_of(&["epochs"]), None);
    }

    #[test]
    fn keys_of_different_choices_exclude_each_other() {
        let keys = Keys::default();
        assert!(keys.go_together(&["optimizer", "sgd"], "momentum", "nesterov"));
        assert!(!keys.go_together(&["optimizer"], "sgd", "adam"));
        assert!(!keys.go_together(&["data", "valid"], "fraction", "csv"));
        assert!(keys.go_together(&["data", "valid"], "idx", "labels"));
        assert!(keys.go_together(&["class_weights"], "cat", "dog"));
    }

    #[test]
    fn a_misspelled_name_finds_its_neighbour() {
        let keys = Keys::default();
        assert_eq!(keys.closest(&["data"], "batchsize").as_deref(), Some("batch_size"));
        assert_eq!(keys.closest(&[], "epoch").as_deref(), Some("epochs"));
        assert_eq!(keys.closest(&[], "batchsize").as_deref(), Some("batch_size"));
        assert_eq!(keys.closest(&[], "zzz"), None);
        assert_eq!(keys.closest(&[], &"e".repeat(100_000)), None);
    }

    /// A value that a schema allows.
    fn sample(keys: &Keys, schema: &Value) -> Value {
        let form = keys.forms(schema)[0];
        let first = ["const", "minimum"].iter().find_map(|word| form.get(word));
        match (first, form["type"].as_str()) {
            (Some(value), _) => value.clone(),
            (None, Some("object")) if form["additionalProperties"].is_object() => {
                serde_json::json!({ "epochs": sample(keys, &form["additionalProperties"]) })
            }
            (None, Some("object")) => Value::Object(
                required(form).map(|name| (name.to_owned(), sample(keys, &form["properties"][name]))).collect(),
            ),
            (None, _) => "x".into(),
        }
    }

    fn required(form: &Value) -> impl Iterator<Item = &str> {
        form["required"].as_array().into_iter().flatten().filter_map(Value::as_str)
    }

    /// Every number that a spec may have: its dotted key, `--set` arguments for what must stand beside it, and its schema.
    fn numbers(
        keys: &Keys,
        path: &str,
        schema: &Value,
        beside: &[String],
        found: &mut Vec<(String, Vec<String>, Value)>,
    ) {
        for form in keys.forms(schema) {
            if form.get("minimum").is_some() {
                found.push((path.to_owned(), beside.to_vec(), form.clone()));
            }
            let items = form.get("items").filter(|items| items.get("minimum").is_some());
            found.extend(items.map(|_| (path.to_owned(), beside.to_vec(), form.clone())));
            for (name, value) in properties(form).into_iter().flatten() {
                let key = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
                let others = required(form).filter(|other| other != name && !path.is_empty());
                let others = others.map(|other| format!("{}={}", key(other), sample(keys, &form["properties"][other])));
                let beside: Vec<String> = beside.iter().cloned().chain(others).collect();
                numbers(keys, &key(name), value, &beside, found);
            }
        }
    }

    /// Whether a spec with these arguments is read without fault.
    fn is_accepted(sets: &[String]) -> bool {
        const BASE: &str = "{ name: a, data: { train: t, valid: v, image_size: 8 }, model: { backbone: efficientnet_lite0 }, epochs: 9 }";
        let loaded = crate::spec::LoadedSpec::from_text("a.yaml".as_ref(), BASE.to_owned(), sets);
        loaded.is_ok_and(|loaded| loaded.out_of_range().is_empty())
    }

    #[test]
    fn the_schemas_ranges_are_those_of_the_check() {
        let keys = Keys::default();
        let mut found = Vec::new();
        numbers(&keys, "", &keys.root, &[], &mut found);
        assert!(found.len() > 55, "{}", found.len());
        for (path, beside, form) in found {
            let range = form.get("items").unwrap_or(&form);
            let is_integer = range["type"] == "integer"
                || range["type"].as_array().is_some_and(|types| types.contains(&"integer".into()));
            let value = |bound: &str, beyond: f64| {
                range.get(bound).and_then(Value::as_f64).map(|bound| bound + beyond * bound.abs().max(1e-9))
            };
            let n_items = form.get("items").map(|_| form["minItems"].as_u64().unwrap_or(1));
            let set = |value: f64| {
                let value = if is_integer { format!("{value:.0}") } else { format!("{value:e}") };
                let value = n_items.map_or(value.clone(), |n| format!("[{}]", vec![value; n as usize].join(", ")));
                [&beside[..], &[format!("{path}={value}")]].concat()
            };
            let beyond = if is_integer { 1.0 } else { 1e-6 };
            for (bound, beyond) in [("minimum", -beyond), ("maximum", beyond)] {
                // The next float above the largest seed is as good as equal to it.
                let Some(at) = value(bound, 0.0).filter(|at| *at < 1e18) else { continue };
                assert!(is_accepted(&set(at)), "{:?} is refused, and is the {bound}", set(at));
                let past = if is_integer { at + beyond } else { value(bound, beyond).expect("it is there") };
                assert!(!is_accepted(&set(past)), "{:?} is accepted, and is past the {bound}", set(past));
            }
        }
    }
}
