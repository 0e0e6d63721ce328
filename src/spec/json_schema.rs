//! The JSON Schema of a spec: what editors complete and explain, and what hints about keys are made from.

use schemars::Schema;
use schemars::generate::SchemaSettings;
use schemars::transform::RecursiveTransform;
use serde_json::{Map, Value, json};

use crate::spec::input::OF_IMAGES_ALONE;
use crate::spec::schema::Spec;

/// Every key with its description, type, range and default, as JSON Schema draft 2020-12.
pub fn json_schema() -> Value {
    let settings = SchemaSettings::draft2020_12().with_transform(RecursiveTransform(for_people));
    let mut schema = settings.into_generator().into_root_schema_for::<Spec>();
    schema.insert("title".into(), "A spec of xp".into());
    let Value::Object(conditions) = input_keys() else { unreachable!("it is written as a map") };
    schema.ensure_object().extend(conditions);
    epochs_or_plan(&mut schema);
    schema.to_value()
}

/// A plan's steps say how long the training is where `epochs` does not.
fn epochs_or_plan(schema: &mut Schema) {
    if let Some(Value::Array(required)) = schema.get_mut("required") {
        required.retain(|key| key != "epochs");
    }
    let neither = json!([{ "not": { "required": ["epochs"] } }, { "not": { "required": ["plan"] } }]);
    schema.insert("not".into(), json!({ "allOf": neither }));
}

/// Which keys go with features and which with images.
fn input_keys() -> Value {
    let forbidden = |parent: &str| -> Map<String, Value> {
        let names = OF_IMAGES_ALONE.iter().filter_map(|key| match key.rsplit_once('.') {
            Some((of, name)) => (of == parent).then_some(name),
            None => parent.is_empty().then_some(*key),
        });
        names.map(|name| (name.to_owned(), false.into())).collect()
    };
    let mut of_features = forbidden("");
    for parent in ["data", "model"] {
        of_features.insert(parent.to_owned(), json!({ "properties": forbidden(parent) }));
    }
    let train = json!({ "type": "object", "required": ["features"] });
    json!({
        "if": { "properties": { "data": { "properties": { "train": train } } } },
        "then": { "properties": of_features },
        "else": {
            "properties": { "data": { "required": ["image_size"] }, "model": { "required": ["backbone"] } }
        },
    })
}

fn for_people(schema: &mut Schema) {
    // `uint32` and `double` are this program's business; the ranges say what people need.
    schema.remove("format");
    describe_only_key(schema);
}

/// A map of one key, such as `{ adam: … }`, and its key mean the same: either description explains both.
fn describe_only_key(schema: &mut Schema) {
    let of_map = schema.get("description").cloned();
    let Some(Value::Object(properties)) = schema.get_mut("properties") else { return };
    let mut values = properties.values_mut().filter_map(Value::as_object_mut);
    let (Some(value), None) = (values.next(), values.next()) else { return };
    let Some(description) = of_map.clone().or_else(|| value.get("description").cloned()) else { return };
    if !value.contains_key("description") {
        value.insert("description".into(), description.clone());
    }
    if of_map.is_none() {
        schema.insert("description".into(), description);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Calls `visit` with every schema in the document and where it stands.
    fn walk(at: &str, value: &Value, visit: &mut impl FnMut(&str, &Value)) {
        match value {
            Value::Object(map) => {
                visit(at, value);
                // Conditions say nothing of what a key is.
                const NO_SCHEMAS: [&str; 5] = ["default", "examples", "if", "then", "else"];
                for (key, value) in map.iter().filter(|(key, _)| !NO_SCHEMAS.contains(&key.as_str())) {
                    walk(&format!("{at}/{key}"), value, visit);
                }
            }
            Value::Array(items) => {
                items.iter().enumerate().for_each(|(i, item)| walk(&format!("{at}/{i}"), item, visit));
            }
            _ => {}
        }
    }

    fn described<'a>(root: &'a Value, schema: &'a Value) -> Option<&'a str> {
        let target = schema.get("$ref").and_then(|name| root.pointer(name.as_str()?.trim_start_matches('#')));
        let own = schema.get("description").or_else(|| target?.get("description"));
        own.and_then(Value::as_str).filter(|text| !text.is_empty())
    }

    #[test]
    fn every_key_and_every_choice_is_described() {
        let root = json_schema();
        let mut n_described = 0;
        walk("", &root, &mut |at, schema| {
            let choices = ["anyOf", "oneOf"].iter().filter_map(|word| schema.get(word)?.as_array()).flatten();
            let mut parts: Vec<&Value> = choices.filter(|choice| choice["type"] != "null").collect();
            // A value or none is no choice.
            parts.retain(|_| {
                schema.get("oneOf").is_some() || schema["anyOf"].as_array().is_some_and(|any| any.len() > 2)
            });
            parts.extend(
                schema.get("properties").and_then(Value::as_object).into_iter().flatten().map(|(_, value)| value),
            );
            for part in parts {
                assert!(described(&root, part).is_some(), "{at}: {part} has no description");
                n_described += 1;
            }
            assert!(schema.get("enum").is_none(), "{at}: the values of an enum cannot be described one by one");
        });
        assert!(n_described > 120, "{n_described}");
    }

    #[test]
    fn it_speaks_json_schema_and_no_rust() {
        let root = json_schema();
        assert_eq!(root["$schema"], "https://json-schema.org/draft/2020-12/schema");
        assert_eq!(root["title"], "A spec of xp");
        walk("", &root, &mut |at, schema| {
            assert!(schema.get("format").is_none(), "{at} has a format");
            if schema.get("properties").is_some() {
                assert_eq!(schema["additionalProperties"], false, "{at} takes any key");
            }
            if let Some(text) = schema.get("description").and_then(Value::as_str) {
                assert!(!text.contains("[`") && !text.contains("::"), "{at}: {text}");
            }
        });
    }

    #[test]
    fn defaults_and_ranges_are_those_of_the_spec() {
        let root = json_schema();
        let at = |pointer: &str| root.pointer(pointer).unwrap_or_else(|| panic!("{pointer} in {root:#}"));
        assert_eq!(at("/properties/log_every/default"), 10);
        assert_eq!(at("/properties/optimizer/default/adam/learning_rate"), 1e-3);
        assert_eq!(at("/$defs/Augment/properties/fill/default"), "nearest");
        assert_eq!(at("/$defs/Data/properties/batch_size/maximum"), 65_536);
        assert_eq!(at("/properties/steps_per_epoch/minimum"), 1);
        assert_eq!(at("/properties/clip_global_norm/maximum"), 1e12);
        assert_eq!(at("/required"), &json!(["name", "data", "model"]));
        let neither = json!([{ "not": { "required": ["epochs"] } }, { "not": { "required": ["plan"] } }]);
        assert_eq!(at("/not/allOf"), &neither);
    }
}
